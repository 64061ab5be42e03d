"""Where a benchmark's numbers are kept, JSON beside those of other days, and how they are read."""

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """Treadle beside a peer: ``ahead`` is above 1 where Treadle is the better one, and has to be
    ``wanted`` at least where there is a limit."""

    name: str
    number: float
    ahead: float
    wanted: float | None
    limit: float | None
    holds: bool


def keep(benchmark: str, found: dict[str, object]) -> Path:
    """Write what was found, when and on what machine; return the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    machine = {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    path = RESULTS / f"{benchmark}-{now:%Y-%m-%d-%H%M%S}.json"
    whole = {"benchmark": benchmark, "at": now.isoformat(), "machine": machine, **found}
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return path


def ratios(found: dict[str, Any]) -> list[Ratio]:
    """Return a run's ratios, of whichever form its benchmark keeps them in."""
    kept = found.get("ratios") or []
    if isinstance(kept, list):
        return [
            _ratio(f"{each['measure']} vs {each['peer']}", each["number"], each["limit"],
                   each["higher"])
            for each in kept
        ]  # fmt: skip
    limits = found.get("limits") or {}
    listed = []
    for name, value in kept.items():
        if isinstance(value, dict):
            # What is wanted is a least where more than it holds, or less than it doesn't.
            higher = (value["number"] >= value["wanted"]) == value["holds"]
            listed.append(_ratio(name, value["number"], value["wanted"], higher))
        elif value is not None:
            peer_over_ours = "peer" in found
            limit = None if peer_over_ours else limits.get(name)
            listed.append(_ratio(name, value, limit, peer_over_ours))
    return listed


def figures(found: dict[str, Any]) -> list[tuple[str, float, float | None]]:
    """Return a run's figures: what it is, its value, and the limit if there is one."""
    limits = found.get("limits") or {}
    return [
        (name, *(kept if isinstance(kept, list) else (kept, limits.get(name))))
        for name, kept in (found.get("figures") or {}).items()
    ]


def _ratio(name: str, number: float, limit: float | None, higher: bool) -> Ratio:
    ahead = number if higher else 1 / number if number else float("inf")
    holds = limit is None or (number >= limit if higher else number <= limit)
    wanted = limit if higher or not limit else 1 / limit
    return Ratio(name, number, ahead, wanted, limit, holds)
