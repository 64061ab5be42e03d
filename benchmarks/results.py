"""Where a benchmark's numbers are kept: JSON beside those of other days."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"


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
