"""The pages' figures as files of their own, so that MLflow's UI shows them one by one."""

from collections.abc import Iterable
from pathlib import Path

from treadle import report


def write(pages: Iterable[Path], directory: Path) -> dict[str, Path]:
    """Write each figure of the pages to ``directory``; return name to path."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    for page in pages:
        for name, drawing in report.drawings_of(page.read_text(encoding="utf-8")).items():
            path = directory / f"{name}.svg"
            path.write_text(drawing, encoding="utf-8")
            found[f"figures/{path.name}"] = path
    return found
