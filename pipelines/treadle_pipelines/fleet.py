"""How models at work are shown: a table for the terminal, JSON for machines, pages for both the
home and the model server."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import to_json

from treadle import runtime
from treadle.feedback import ledger, page
from treadle.feedback.monitor import Turn
from treadle.monitoring import Fleet, FleetRow, Verdict, page_key
from treadle.writing import written_aside
from treadle_pipelines.listing import columns

MOST_ENTRIES = 20
# Of more models the worst are listed, and the others counted.
MOST_LISTED = 100
# A reason that has less room in its line goes under it.
LEAST_WHY = 40
WHY_WIDTH = 90


def pages() -> Path:
    """Return the directory of the monitor's pages."""
    return runtime.settings().home / "reports"


def write_page(fleet: Fleet, shared: bool) -> None:
    """Write the fleet's page to the home, and where it is ``shared`` to the object store too, for
    the model server to show."""
    _write(pages() / "fleet.html", page.of_fleet(fleet, "monitor/{}.html"))
    if shared:
        html = page.of_fleet(fleet, "monitor/{}")
        runtime.object_store().put_bytes(page_key(None), html.encode())


def write_page_of(turn: Turn, shared: bool) -> None:
    """Write the page of a model that was looked at."""
    if turn.found is None:
        return
    name, store = turn.version.name, runtime.object_store()
    past = list(ledger.newest(name, MOST_ENTRIES, store))
    html = page.of_model(turn.found, name, past)
    _write(pages() / "monitor" / f"{name}.html", html)
    if shared:
        store.put_bytes(page_key(name), html.encode())


def _write(path: Path, html: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_text(html, encoding="utf-8")


def told(fleet: Fleet, as_json: bool) -> str:
    """Return the fleet as a table that fits the terminal, or one model's line with all its
    reasons."""
    if as_json:
        found = {
            "models": fleet.model_dump(mode="json")["rows"],
            "page": str(pages() / "fleet.html"),
        }
        return to_json(found, inf_nan_mode="null").decode()
    if not fleet.rows:
        return "no model is at work yet: treadle run SPEC makes one"
    if len(fleet.rows) == 1:
        return "\n".join(_model_lines(fleet.rows[0]))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    ordered = sorted(fleet.rows, key=page.badness)
    lines = [*table(ordered[:MOST_LISTED], width), "", _counted(ordered)]
    return "\n".join([*lines, f"page: {pages() / 'fleet.html'}"])


def table(rows: Sequence[FleetRow], width: int | None) -> list[str]:
    """Return lines on models, of ``width`` characters at most (None: as they come). Reasons stand
    at the end of each line, or under it where there is no room."""
    header = ["MODEL", "VERDICT", "NOW", "TRAINED", "DRIFT", "LOOKED AT"]
    lines = columns([header, *(_cells(row) for row in rows)], strip=False).splitlines()
    room = WHY_WIDTH if width is None else width - len(lines[0]) - 2
    if room >= LEAST_WHY:
        whys = ["WHY", *(_cut(_why(row), room) for row in rows)]
        return [f"{line}  {why}".rstrip() for line, why in zip(lines, whys, strict=True)]
    assert width is not None
    found = [lines[0].rstrip()]
    for line, row in zip(lines[1:], rows, strict=True):
        found.append(line.rstrip())
        if row.fault or row.verdict is not Verdict.HEALTHY:
            found.append(_cut(f"  {_why(row)}", width))
    return found


def _cells(row: FleetRow) -> list[str]:
    was = row.reference
    return [
        f"{row.model} v{row.version}",
        _verdict(row),
        f"{row.metric.value:.4g}" if row.metric else "",
        f"{was.value:.4g} {was.name}" if was else "",
        "" if row.furthest is None else f"{row.furthest:.2f}",
        f"{row.at.astimezone():%m-%d %H:%M}" if row.at else "",
    ]


def _why(row: FleetRow) -> str:
    return row.fault or (row.reasons[0] if row.reasons else row.note)


def _cut(words: str, width: int) -> str:
    return words if len(words) <= width else f"{words[: max(width - 1, 0)]}…"


def _counted(rows: Sequence[FleetRow]) -> str:
    """Count models by verdict, the worst first; say how many weren't listed."""
    said = Counter(page.standing(row) for row in rows)
    words = f"{len(rows):,} models: " + ", ".join(
        f"{n:,} {standing}" for standing, n in said.items()
    )
    left = len(rows) - MOST_LISTED
    return f"{words}; {left:,} are not listed here, the page has all" if left > 0 else words


def _verdict(row: FleetRow) -> str:
    said = page.standing(row)
    return f"{said}, {row.outcome.value}" if row.outcome and not row.fault else said


def _model_lines(row: FleetRow) -> list[str]:
    lines = [f"{row.model} version {row.version}: {_verdict(row)}"]
    lines += [f"  {words}" for words in ([row.fault] if row.fault else row.reasons)]
    lines += [f"  {row.note}"] if row.note else []
    if row.at:
        lines.append(f"page: {pages() / 'monitor' / row.model}.html")
    return lines
