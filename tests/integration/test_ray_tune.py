"""Ray Tune leads a search on this machine: what goes wrong with trials, and where they wait."""

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from treadle.adapters import ray, ray_tasks
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.optuna import TpeProposer
from treadle.halving import Course, Halving
from treadle.ledger import Ledger
from treadle.prepared import TuningData
from treadle.records import Candidate, Report
from treadle.search import Grow, Range, Scored, SearchProblem

# Workers don't find test modules.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Troubled:
    """Grows nothing; some candidates are in trouble, as their numbers say."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __call__(
        self, data: TuningData, candidate: Candidate, units: int, grown: Any, threads: int
    ) -> tuple[Any, Scored]:
        assert not data.fit_x.flags.writeable, "shared, not copied"
        before = 0 if grown is None else grown["units"]
        assert before < units, "a rung is climbed once"
        match candidate.number:
            case 1 if units == 3 and self._first_time("killed"):
                os._exit(1)
            case 2 if self._first_time("failed"):
                raise OSError("the network was away")
            case 3:
                time.sleep(60)
            case 4:
                raise ValueError("it can't be fitted")
            case 5:
                os._exit(1)
        with (self._scratch / "climbed").open("a") as log:
            log.write(f"{candidate.number}-{units}\n")
        score = float(candidate.parameters["x"]) - 1 / units
        return {"units": units}, Scored(score, score)

    def _first_time(self, what: str) -> bool:
        mark = self._scratch / what
        known = mark.exists()
        mark.touch()
        return not known


class Makes:
    """Makes the growing function where it is needed."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __call__(self) -> Grow:
        return Troubled(self._scratch)


@pytest.fixture
def problem(tmp_path: Path) -> SearchProblem:
    for name in ("fit", "tuning"):
        np.save(tmp_path / f"{name}_x.npy", np.zeros((4, 2), dtype=np.float32))
        np.save(tmp_path / f"{name}_y.npy", np.zeros(4))
    return SearchProblem(
        name="troubled", metric="r2", higher_is_better=True,
        spaces={"one": {"x": Range(0.0, 1.0)}, "other": {"x": Range(0.0, 1.0)}},
        first=[], at_once=frozenset({"other"}), make_grow=Makes(tmp_path), data=tmp_path,
        trials=20, budget_s=600, timeout_s=1.0, seed=0,
    )  # fmt: skip


def begun(problem: SearchProblem, store: DirectoryStore) -> Halving:
    return Halving(problem, TpeProposer, Ledger(store, problem.name))


def expected(problem: SearchProblem, store: DirectoryStore) -> Halving:
    """The same search, led by hand."""
    halving = begun(problem, store)
    lost = {3, 4, 5}
    while not halving.is_finished():
        for job in halving.ready():
            halving.begin(job)
            if job.candidate.number in lost:
                halving.give_up(job.candidate.number, "lost")
            else:
                score = float(job.candidate.parameters["x"]) - 1 / job.units
                report = Report(candidate=job.candidate, units=job.units, score=score, seconds=0)
                assert halving.report(report) in Course
    return halving


def test_trouble_with_some_trials_changes_nothing_for_the_others(
    problem: SearchProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "RESTARTS", 1)
    halving = begun(problem, DirectoryStore(tmp_path / "objects"))
    ray.lead_here(halving, 2)
    trials = halving.trials()
    faults = {trial.number: trial.fault for trial in trials if trial.fault}
    assert set(faults) == {3, 4, 5}
    assert faults[3] == "nothing reported within 1 s: it was ended"
    assert faults[4] == "ValueError: it can't be fitted"
    assert str(faults[5]).startswith("its worker was lost 2 times: ")
    notes = "; ".join(halving.notes)
    assert "trial 2" in notes
    assert "failed once and was tried again: OSError: the network was away" in notes
    assert "ms a rung" in notes
    by_hand = expected(problem, DirectoryStore(tmp_path / "by-hand")).trials()
    assert [t.parameters for t in trials] == [t.parameters for t in by_hand]
    assert [t.curve for t in trials] == [t.curve for t in by_hand]
    climbed = (tmp_path / "climbed").read_text().split()
    assert len(climbed) == len(set(climbed)), "no rung was climbed twice"
    assert not list(Path("/tmp").glob("treadle-ray-*/session_latest/troubled")), "all is cleared"


def squared(marks: Path, number: int) -> tuple[int, int]:
    time.sleep(0.1)
    return number**2, os.getpid()


def test_many_small_pieces_of_work_are_done_here_and_by_workers(tmp_path: Path) -> None:
    began, first_s = time.monotonic(), None
    found: dict[int, tuple[int, int] | str] = {}
    # More than there is time for: it ends when a worker has done some, however long that took.
    with closing(ray_tasks.spread(squared, tmp_path, range(1, 3000), 1000, 2)) as results:
        for number, answer in results:
            first_s = first_s or time.monotonic() - began
            assert number not in found
            found[number] = answer
            done = [answer for answer in found.values() if not isinstance(answer, str)]
            if sum(pid != os.getpid() for _, pid in done) >= 5:
                break
    assert first_s is not None
    assert first_s < 3, "it works while Ray starts"
    assert list(found) != sorted(found), "who is ready comes first"
    assert all(a[0] == n**2 for n, a in found.items() if not isinstance(a, str))
