"""The demonstration of the loop, as a test: what `make demo-loop` shows is so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".treadle" / "demo-loop"


def ran(*words: object) -> str:
    """Run a program; return what it printed."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    done = subprocess.run(list(map(str, words)), env=plain, capture_output=True, text=True,
                          check=False, timeout=1500)  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.timeout(1600)
def test_a_year_of_flights_is_retrained_survives_three_faults_and_is_rolled_back() -> None:
    out = ran(sys.executable, ROOT / "scripts" / "demo_loop.py")
    assert "the fleet: " in out
    treadle = Path(sys.executable).with_name("treadle")
    told: dict[str, Any] = json.loads(ran(treadle, "history", "flights", "--json", "--home", HOME))
    champions = [change["to_version"] for change in told["changes"]]
    assert champions == [1, 2, 3, 2]
    decisions = told["decisions"]
    outcomes = [entry["outcome"] for entry in decisions if entry["kind"] == "done"]
    assert outcomes[-2:] == ["promoted", "rolled back"]
    promoted = next(n for n, entry in enumerate(decisions) if entry["outcome"] == "promoted")
    verdicts = [entry["verdict"] for entry in decisions if entry["kind"] == "decided"]
    assert verdicts.count("incident") == 3
    assert not any(entry["verdict"] == "incident" for entry in decisions[:promoted])
    assert verdicts[-1] == "roll back"
    devices = json.loads((HOME / "objects/champions/flights.json").read_text(encoding="utf-8"))
    assert devices["version"] == 2
    fleet = (HOME / "reports/fleet.html").read_text(encoding="utf-8")
    assert "monitor/flights.html" in fleet
    assert "rolled back" in fleet
    page = (HOME / "reports/monitor/flights.html").read_text(encoding="utf-8")
    assert "What was decided" in page
