"""Ctrl-C and worse: every child ends, Ray's included, and a second run goes on from what was
finished."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
import yaml

from integration.conftest import started, treadle, wait_for
from treadle.config import Settings
from treadle.errors import EnvironmentFault
from treadle_pipelines import local

TRIALS = 40
ON_RAY = {"TREADLE_RAY_ADDRESS": "local"}

SPEC: dict[str, Any] = {
    "name": "slow",
    "target": "answer",
    "training": {"trials": TRIALS, "families": ["forest"], "budget_s": 600},
    "analysis": {"bootstrap": 20},
}
TABLE = """
SELECT hash(i) % 1000 / 1e3 AS a, hash(i + 7) % 1000 / 1e3 AS b, hash(i * 3) % 1000 / 1e3 AS c,
       hash(i * 5) % 1000 / 1e3 AS d, hash(i * 11) % 1000 / 1e3 AS e,
       a * b + sin(6 * c) + d * e + hash(i * 13) % 100 / 1e3 AS answer
FROM range(50000) t(i)
"""


@dataclass
class Attempt:
    """A run under way in the shared home."""

    process: "subprocess.Popen[bytes]"
    log: Path
    directory: Path
    family: list[psutil.Process] = field(default_factory=list)
    ray_directories: set[Path] = field(default_factory=set)

    @property
    def run_id(self) -> str:
        return self.directory.name

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the steps have told so far."""
        lines = (self.directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def stages(self, kind: str) -> list[str]:
        return [event["stage"] for event in self.events(kind)]

    def processes(self) -> list[psutil.Process]:
        """The processes of this run: its name is in their environment (but Ray's agents write
        their titles over theirs), or they descended from its launcher."""
        found = {process for process in self.family if process.is_running()}
        for process in psutil.process_iter():
            try:
                if process.environ().get("TREADLE_RUN_ID") == self.run_id:
                    found.add(process)
            except (psutil.Error, OSError):
                continue
        return [process for process in found if not is_dead(process)]


def command_of(process: psutil.Process) -> str:
    """A process's command line; nothing for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec whose candidates each take a moment to grow."""
    directory = tmp_path_factory.mktemp("slow")
    duckdb.sql(TABLE).write_parquet(str(directory / "table.parquet"))
    path = directory / "slow.yaml"
    path.write_text(yaml.safe_dump({**SPEC, "source": "table.parquet"}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(spec: Path) -> Path:
    """One home for all: what one attempt has finished, the next goes on from."""
    return spec.parent / "home"


@pytest.fixture
def attempt(spec: Path, home: Path) -> Iterator[Attempt]:
    """A run in the middle of its training: one more trial has just ended."""
    before = set(home.glob("runs/*"))
    log = spec.parent / "treadle.log"
    process = started("run", spec, home=home, log=log, env=ON_RAY)
    try:
        paths = wait_for(lambda: set(home.glob("runs/*/spec.json")) - _specs(before), 60, "a run")
        found = Attempt(process, log, next(iter(paths)).parent)

        def has_a_trial() -> bool:
            assert process.poll() is None, log.read_text()
            events = found.directory / "events.jsonl"
            return events.exists() and any(not t["kept"] for t in found.events("trial"))

        wait_for(has_a_trial, 150, "a trial has ended")
        assert "train" not in found.stages("finished")
        found.family = psutil.Process(process.pid).children(recursive=True)
        commands = " ".join(map(command_of, found.family))
        found.ray_directories = set(map(Path, re.findall(r"/tmp/treadle-ray-\w+", commands)))
        yield found
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _specs(directories: set[Path]) -> set[Path]:
    return {directory / "spec.json" for directory in directories}


def nothing_is_left(attempt: Attempt, seconds: float = 20) -> None:
    """Check that no process and no directory of the run outlives it for long."""
    deadline = time.monotonic() + seconds
    while (left := attempt.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    assert attempt.ray_directories
    for directory in attempt.ray_directories:
        assert not directory.exists()


def nothing_is_promoted(home: Path) -> None:
    assert treadle("models", "--json", home=home).json["models"] == []


@pytest.mark.parametrize(
    ("end", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, True)]
)
def test_a_signal_in_the_middle_of_training_ends_every_child(
    end: signal.Signals, to_group: bool, attempt: Attempt, home: Path
) -> None:
    assert len(attempt.processes()) > 3, "Ray runs"
    began = time.monotonic()
    if to_group:
        os.killpg(attempt.process.pid, end)
        time.sleep(0.3)
        os.killpg(attempt.process.pid, end)  # an impatient person: it mustn't cut the tidying up
    else:
        attempt.process.send_signal(end)
    assert attempt.process.wait(60) == 130, attempt.log.read_text()
    assert time.monotonic() - began < 30  # some 3 s on an idle machine
    assert not attempt.processes(), "they ended before their launcher did"
    nothing_is_left(attempt)
    nothing_is_promoted(home)
    said = attempt.log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("treadle: interrupted: run it again")


def test_the_steps_end_when_their_launcher_is_killed(attempt: Attempt, home: Path) -> None:
    attempt.process.kill()
    attempt.process.wait()
    nothing_is_left(attempt, seconds=30)
    nothing_is_promoted(home)


def test_a_killed_step_is_a_failure_in_words(attempt: Attempt, home: Path) -> None:
    (step,) = (p for p in attempt.processes() if "kfp.dsl.executor_main" in p.cmdline())
    step.kill()
    assert attempt.process.wait(60) == 1, attempt.log.read_text()
    nothing_is_left(attempt)
    nothing_is_promoted(home)
    said = attempt.log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    fault = said[said.rindex("treadle: ") :]
    assert fault.startswith("treadle: train: its process was killed")
    for words in ("memory", "run it again", str(attempt.directory / "run.log")):
        assert words in fault
    assert len(fault.splitlines()) <= 3


def test_the_next_run_goes_on_from_what_was_finished(spec: Path, home: Path) -> None:
    earlier = [path.parent for path in sorted(home.glob("runs/*/events.jsonl"))]
    assert earlier, "the tests above interrupted some runs"
    before = [_trials(run) for run in earlier]
    done = treadle("run", spec, "--json", home=home, env=ON_RAY)
    assert done.code == 0, done.err
    (run,) = {path.parent for path in home.glob("runs/*/events.jsonl")} - set(earlier)
    events = _events(run)
    # Not one of the steps before training began again ...
    began = [event["stage"] for event in events if event["kind"] == "started"]
    assert began[0] == "train"
    for stage in ("ingest", "validate", "preprocess"):
        assert any(stage in line and "unchanged" in line for line in done.err.splitlines())
    # ... and neither did a trial that had ended: whatever a run before told of was there.
    trials = _trials(run)
    assert [trial["done"] for trial in trials] == list(range(1, TRIALS + 1))
    told = {trial["number"] for earlier_trials in before for trial in earlier_trials}
    kept = {trial["number"] for trial in trials if trial["kept"]}
    assert told
    assert told <= kept < set(range(TRIALS))
    assert trials[-1]["best"] <= before[-1][-1]["best"]  # rmse
    assert not list((home / "objects" / "searches").rglob("*.json")), "nothing is left of it"
    assert done.json["promoted"]
    assert treadle("models", "--json", home=home).json["models"][0]["champion"]["version"] == 1


def _trials(run: Path) -> list[dict[str, Any]]:
    return [event for event in _events(run) if event["kind"] == "trial"]


def _events(run: Path) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_two_runs_of_one_model_in_one_home_exclude_each_other(tmp_path: Path) -> None:
    settings, other = Settings(home=tmp_path / "home"), Settings(home=tmp_path / "other")
    for each in (settings, other):
        local.check_home(each)
    with local._only_run(settings, "wine"):
        with (
            pytest.raises(EnvironmentFault, match="another run of 'wine' is under way"),
            local._only_run(settings, "wine"),
        ):
            pytest.fail("two at a time")
        with local._only_run(settings, "iris"), local._only_run(other, "wine"):
            pass  # another model, another home: neither is in the way
    with local._only_run(settings, "wine"):
        pass  # and it is free again
