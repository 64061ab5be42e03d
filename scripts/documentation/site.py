"""Put the site's pages together, and let Zensical make HTML of them."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from documentation import commands_page, http_page, metrics_page, settings_page, spec_page
from documentation.links import ROOT, on_site
from documentation.markdown import page

DOCS = Path("docs")
CONFIGURATION = DOCS / "zensical.toml"
# Documents that lie elsewhere because people look for them there.
ELSEWHERE = {
    Path("CHANGELOG.md"): "changelog.md",
    Path("CONTRIBUTING.md"): "contributing.md",
    Path("SECURITY.md"): "security-policy.md",
    Path("manifests/README.md"): "manifests.md",
    Path("airgap/README.md"): "airgap.md",
}
GENERATED: dict[str, Callable[[], str]] = {
    "reference/spec.md": spec_page.render,
    "reference/settings.md": settings_page.render,
    "reference/commands.md": commands_page.render,
    "reference/http.md": http_page.render,
    "reference/metrics.md": metrics_page.render,
    "adr/index.md": lambda: decisions(),
}
# In the repository a link leads to the code, on the site to the page that is made of it.
MADE_OF = {
    Path("components/treadle/spec.py"): "reference/spec.md",
    Path("components/treadle/config.py"): "reference/settings.md",
    Path("pipelines/treadle_pipelines/cli.py"): "reference/commands.md",
    Path("serving/treadle_serving/openapi.py"): "reference/http.md",
    Path("serving/treadle_serving/metrics.py"): "reference/metrics.md",
    DOCS / "adr": "adr/index.md",
}
# What Zensical would fetch for pages that are opened as files; docs/frames.js does it.
_FETCHED = re.compile(r'<script src="?https://unpkg\.com/[^>]*></script>')


def build(place: Path) -> Path:
    """Build the site below ``place``; return its directory. Ends the process where a page names
    what isn't there."""
    shutil.rmtree(place, ignore_errors=True)
    write_pages(place / "pages")
    shutil.copyfile(ROOT / CONFIGURATION, place / "zensical.toml")
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the site can't be built:\n{done.stdout}{done.stderr}")
    for html in (place / "site").rglob("*.html"):
        html.write_text(_FETCHED.sub("", html.read_text("utf-8")), encoding="utf-8")
    return place / "site"


def write_pages(place: Path) -> None:
    """Write every page as Markdown, and what they show."""
    pages = on_the_site()
    for source, target in pages.items():
        path = place / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = (ROOT / source).read_text(encoding="utf-8")
            path.write_text(on_site(text, source, pages | MADE_OF), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, path)
    for target, render in GENERATED.items():
        (place / target).parent.mkdir(parents=True, exist_ok=True)
        (place / target).write_text(render(), encoding="utf-8")


def on_the_site() -> dict[Path, str]:
    """Return where each document and picture is on the site."""
    files = [p.relative_to(ROOT) for p in sorted((ROOT / DOCS).rglob("*")) if p.is_file()]
    own = {path: str(path.relative_to(DOCS)) for path in files if path != CONFIGURATION}
    return {**own, **ELSEWHERE}


def decisions() -> str:
    """Return the list of decisions."""
    lines = []
    for path in sorted((ROOT / DOCS / "adr").glob("*.md")):
        number, _, title = (
            path.read_text("utf-8").splitlines()[0].removeprefix("# ").partition(". ")
        )
        lines.append(f"{number}. [{title}]({path.name})")
    words = "Why it is as it is: context, decision and consequences, half a page each."
    return page("Decisions", words, "\n".join(lines))


def in_navigation() -> Iterator[str]:
    """Yield the pages that the navigation names."""
    configuration = tomllib.loads((ROOT / CONFIGURATION).read_text(encoding="utf-8"))
    waiting = list(configuration["project"]["nav"])
    while waiting:
        entry = waiting.pop(0)
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                waiting += value if isinstance(value, list) else [value]
