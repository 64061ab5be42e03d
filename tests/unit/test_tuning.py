"""The search: what it finds doesn't depend on who works, and nothing finished is done again."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.optuna import TpeProposer
from treadle.errors import ModelError
from treadle.halving import Course, Crew, Halving
from treadle.ledger import Ledger
from treadle.prepared import TuningData
from treadle.records import Candidate, Report, Task, Trial
from treadle.search import Range, Scored, SearchProblem
from treadle.training import candidate, tuning
from treadle.training.families import Objective
from treadle.training.train import choose, search
from treadle.training.tuning import InProcess

SPACES: dict[str, Any] = {
    "good": {"x": Range(0.0, 1.0)},
    "weak": {"x": Range(1e-3, 1.0, log=True), "n": Range(1, 9, whole=True)},
}


class Toy:
    """Grows nothing: a candidate's score follows from its parameters. Counts what it did."""

    def __init__(self, **faults: Any) -> None:
        self.grown: list[tuple[int, int]] = []
        self._faults = faults

    def __call__(
        self, data: TuningData, candidate: Candidate, units: int, grown: Any, threads: int
    ) -> tuple[Any, Scored]:
        self.grown.append((candidate.number, units))
        fault = self._faults.get(f"t{candidate.number}")
        if fault:
            fault()
        top = 1.0 if candidate.family == "good" else 0.5
        score = top - (float(candidate.parameters["x"]) - 0.3) ** 2 - 1 / units
        return units, Scored(score, score)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "prepared"
    directory.mkdir()
    random = np.random.default_rng(0)
    for name, rows in (("fit", 200), ("tuning", 80)):
        x = random.normal(size=(rows, 3)).astype(np.float32)
        np.save(directory / f"{name}_x.npy", x)
        np.save(directory / f"{name}_y.npy", x @ [1.0, -2.0, 0.5] + random.normal(size=rows))
    return directory


def problem(data: Path, grow: Any, **changes: Any) -> SearchProblem:
    given: dict[str, Any] = {
        "name": "toy",
        "metric": "r2",
        "higher_is_better": True,
        "spaces": SPACES,
        "first": [("good", {"x": 0.9}), ("weak", {"x": 0.5, "n": 3})],
        "at_once": frozenset(),
        "make_grow": lambda: grow,
        "data": data,
        "trials": 24,
        "budget_s": 60.0,
        "timeout_s": 60.0,
        "seed": 5,
    }
    return SearchProblem(**{**given, **changes})


Lead = Callable[[Halving], None]


def here(halving: Halving) -> None:
    """Grow one candidate after another in this process."""
    on_threads(1)(halving)


def on_threads(threads: int) -> Lead:
    def lead(halving: Halving) -> None:
        worker = InProcess(halving.problem, threads)
        while not halving.is_finished():
            for job in halving.ready():
                worker.work(job, halving)

    return lead


def shuffled(seed: int, workers: int) -> Lead:
    """Lead a search as on a busy cluster: several are grown at a time, and end in any order."""
    random = np.random.default_rng(seed)

    def lead(halving: Halving) -> None:
        grow, under_way = halving.problem.make_grow(), []
        while not halving.is_finished():
            ready = halving.ready()
            while ready and len(under_way) < workers:
                job = ready.pop(int(random.integers(len(ready))))
                halving.begin(job)
                under_way.append(job)
            job = under_way.pop(int(random.integers(len(under_way))))
            _, scored = grow(None, job.candidate, job.units, None, 1)
            halving.report(
                Report(candidate=job.candidate, units=job.units, score=scored.score, seconds=0.01)
            )

    return lead


def found(trials: list[Trial]) -> list[Any]:
    return [trial.model_dump(exclude={"seconds"}) for trial in trials]


def begun(asked: SearchProblem, store: DirectoryStore) -> Halving:
    return Halving(asked, TpeProposer, Ledger(store, asked.name))


def run(asked: SearchProblem, store: DirectoryStore, lead: Lead = here) -> list[Trial]:
    halving = begun(asked, store)
    lead(halving)
    return halving.trials()


def test_the_order_in_which_reports_come_decides_nothing(data: Path, store: DirectoryStore) -> None:
    runs = []
    for seed in range(4):
        asked = problem(data, Toy(), name=f"toy-{seed}")
        runs.append(found(run(asked, store, shuffled(seed, workers=1 + 2 * seed))))
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(runs[0]) == 24


def test_weak_candidates_stop_and_the_best_of_each_family_goes_on(
    data: Path, store: DirectoryStore
) -> None:
    trials = run(problem(data, Toy()), store)
    assert sum(trial.stopped_early for trial in trials) > 12
    ran_whole = {trial.family for trial in trials if not trial.stopped_early}
    assert ran_whole == {"good", "weak"}
    units = sum(trial.curve[-1][0] for trial in trials)
    assert units < 24 * 9 * 0.5
    best = choose(trials)
    assert best.family == "good"
    assert abs(float(best.parameters["x"]) - 0.3) < 0.2


def test_no_finished_rung_is_grown_again_after_an_interruption(
    data: Path, store: DirectoryStore
) -> None:
    whole = found(run(problem(data, Toy(), name="whole"), store))

    def interrupt() -> None:
        raise KeyboardInterrupt

    first = Toy(t11=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(problem(data, first), store)
    second = Toy()
    resumed = run(problem(data, second), store)
    assert found(resumed) == whole
    assert first.grown.pop() == (11, 1), "the one that was interrupted"
    assert not set(first.grown) & set(second.grown)


def test_a_candidate_that_fails_again_lets_the_others_recall_what_they_did(
    data: Path, store: DirectoryStore
) -> None:
    def fail() -> None:
        raise ValueError("it can't be fitted")

    def interrupt() -> None:
        raise KeyboardInterrupt

    first = Toy(t4=fail, t11=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(problem(data, first), store)
    second = Toy(t4=fail)
    run(problem(data, second), store)
    twice = set(first.grown) & set(second.grown)
    assert twice == {(4, 1), (11, 1)}, "a fault isn't kept, and a rung that broke off neither"


def test_another_machine_with_the_same_store_goes_on(data: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(problem(data, Toy(t3=die)), DirectoryStore(shared))
    # The other machine's matrices lie elsewhere; the reports name no path at all.
    elsewhere = data.rename(tmp_path / "elsewhere")
    toy = Toy()
    run(problem(elsewhere, toy), DirectoryStore(shared))
    assert (0, 1) not in toy.grown
    reports = "".join(path.read_text() for path in shared.rglob("*.json"))
    assert str(tmp_path) not in reports


def test_reports_of_other_candidates_are_not_believed(data: Path, store: DirectoryStore) -> None:
    run(problem(data, Toy()), store)
    other = Toy()
    run(problem(data, other, seed=6, trials=8), store)
    assert other.grown, "another seed draws others under the same numbers"


def test_a_candidate_that_fails_once_is_tried_again(data: Path, store: DirectoryStore) -> None:
    times: list[int] = []

    def once() -> None:
        times.append(1)
        if len(times) == 1:
            raise OSError("the network was away")

    asked = problem(data, Toy(t4=once))
    under_way = begun(asked, store)
    here(under_way)
    trials = under_way.trials()
    assert trials[4].fault is None
    assert trials[4].curve
    assert any("trial 4" in n and "the network was away" in n for n in under_way.notes)
    assert found(trials) == found(run(problem(data, Toy(), name="b"), store))


def test_a_candidate_that_always_fails_is_named_and_the_rest_goes_on(
    data: Path, store: DirectoryStore
) -> None:
    def fail() -> None:
        raise ValueError("it can't be fitted")

    trials = run(problem(data, Toy(t4=fail)), store)
    assert trials[4].fault == "ValueError: it can't be fitted"
    assert len(trials) == 24
    assert choose(trials).number != 4


def test_where_every_candidate_fails_the_reasons_are_said(
    data: Path, store: DirectoryStore
) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    faults = {f"t{i}": fail for i in range(24)}
    with pytest.raises(ModelError, match="no candidate could be trained: ValueError: no luck"):
        run(problem(data, Toy(**faults)), store)


def test_a_hanging_candidate_ends_in_bounded_time_and_is_named(
    data: Path, store: DirectoryStore
) -> None:
    began = time.monotonic()
    asked = problem(data, Toy(t2=lambda: time.sleep(60)), timeout_s=0.3)
    trials = run(asked, store)
    assert time.monotonic() - began < 10
    assert trials[2].fault is not None
    assert "nothing reported within" in trials[2].fault
    assert sum(trial.fault is not None for trial in trials) == 1


def test_time_that_is_up_ends_the_search_with_the_best_so_far(
    data: Path, store: DirectoryStore
) -> None:
    slow = {f"t{i}": lambda: time.sleep(0.05) for i in range(500)}
    asked = problem(data, Toy(**slow), trials=500, budget_s=0.6)
    under_way = begun(asked, store)
    began = time.monotonic()
    here(under_way)
    trials = under_way.trials()
    assert time.monotonic() - began < 5
    assert 0 < len(trials) < 500
    assert choose(trials).score is not None
    assert any("budget_s" in note for note in under_way.notes)


def test_cheap_candidates_never_start_ray(data: Path, store: DirectoryStore) -> None:
    def never(halving: Halving) -> None:
        pytest.fail("Ray was started")

    trials, notes = search(problem(data, Toy()), TpeProposer, Crew(never, 6.0, 8), store, 2)
    assert len(trials) == 24
    assert any("without Ray" in note for note in notes)


class Elsewhere:
    """A crew that leads as this process does, and remembers what."""

    def __init__(self) -> None:
        self.led: list[Halving] = []

    def __call__(self, halving: Halving) -> None:
        self.led.append(halving)
        here(halving)


def test_costly_candidates_that_use_cores_badly_go_to_the_crew(
    data: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Elsewhere()
    monkeypatch.setattr(tuning, "LEAST_S", 0.0)
    asked = problem(data, Toy(t0=lambda: time.sleep(0.05), t1=lambda: time.sleep(0.05)))
    trials, notes = search(asked, TpeProposer, Crew(there, start_s=0.0, cores=64), store, 2)
    assert len(there.led) == 1
    assert any("Ray Tune does the work" in note for note in notes)
    assert found(trials) == found(run(problem(data, Toy(), name="plain"), store))


def test_what_is_not_cheap_leaves_a_head_that_takes_no_work(
    data: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Elsewhere()
    crew = Crew(there, start_s=20.0, cores=1, relieves=True)
    _, notes = search(problem(data, Toy()), TpeProposer, crew, store, 2)
    assert not there.led
    assert any("without Ray" in note for note in notes)
    monkeypatch.setattr(tuning, "LEAST_S", 0.0)
    _, notes = search(problem(data, Toy(), name="slow"), TpeProposer, crew, store, 2)
    assert len(there.led) == 1
    assert any("the head of the cluster isn't for that" in note for note in notes)


def test_a_candidate_whose_worker_is_lost_for_good_holds_nobody_up(
    data: Path, store: DirectoryStore
) -> None:
    halving = begun(problem(data, Toy(), first=[]), store)
    first, *others = halving.ready()
    halving.begin(first)
    for job in others:
        halving.begin(job)
        halving.report(Report(candidate=job.candidate, units=1, score=0.5, seconds=0.1))
    assert not halving.ready()
    assert halving.course(others[0].candidate.number) is Course.WAITING
    halving.give_up(first.candidate.number, "its worker was lost")
    assert halving.ready()
    here(halving)
    assert halving.trials()[first.candidate.number].fault == "its worker was lost"


@pytest.mark.parametrize("family", ["hist_gradient_boosting", "forest", "lightgbm", "xgboost"])
def test_a_candidate_is_the_same_grown_in_steps_or_in_one_go(data: Path, family: str) -> None:
    from treadle.prepared import load_tuning
    from treadle.spec import Family
    from treadle.training.search_space import SPACES as REAL

    grow = candidate.make_grow(Objective(Task.REGRESSION, 0, "rmse", seed=3))
    asked = Candidate(number=0, family=family, parameters=REAL[Family(family)].first)
    rows = load_tuning(data)
    grown, scores = None, []
    for units in (1, 3, 9):
        grown, score = grow(rows, asked, units, grown, 2)
        scores.append(score)
    assert grow(rows, asked, 9, None, 1)[1] == scores[-1]
    assert len(set(scores)) == 3


def test_bins_are_found_once_for_the_same_rows_and_never_taken_for_others(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from treadle.prepared import load_tuning
    from treadle.training import families

    found = []
    find = HistGradientBoostingRegressor._bin_data

    def counting(self: Any, rows: Any, *more: Any, **named: Any) -> Any:
        found.append(rows.shape)
        return find(self, rows, *more, **named)

    monkeypatch.setattr(HistGradientBoostingRegressor, "_bin_data", counting)
    rows = load_tuning(data)
    objective = Objective(Task.REGRESSION, 0, "rmse", seed=0)

    def fitted(x: Any, y: Any, weights: Any = None) -> Any:
        model = families.build("hist_gradient_boosting", objective, {}, 1)
        families.grow(model, "hist_gradient_boosting", 1, objective, x, y, weights, 1)
        assert "_bin_data" not in vars(model), "nothing of it is kept in the model"
        return model.predict(rows.tuning_x)

    first = fitted(rows.fit_x, rows.fit_y)
    np.testing.assert_array_equal(fitted(rows.fit_x, rows.fit_y), first)
    assert len(found) == 1
    np.testing.assert_array_equal(fitted(rows.fit_x.copy(), rows.fit_y), first)
    assert len(found) == 2, "other rows, as far as is known"
    weights = np.linspace(0, 1, len(rows.fit_y))
    assert (fitted(rows.fit_x, rows.fit_y, weights) != first).any()
    fitted(rows.fit_x, rows.fit_y, weights.copy())
    assert len(found) == 3
    plain = HistGradientBoostingRegressor(max_iter=25, early_stopping=False, random_state=0)
    plain.fit(rows.fit_x, rows.fit_y, sample_weight=weights)
    np.testing.assert_array_equal(
        fitted(rows.fit_x, rows.fit_y, weights), plain.predict(rows.tuning_x)
    )


def test_real_candidates_are_found_alike_on_one_thread_and_on_two(
    data: Path, store: DirectoryStore
) -> None:
    from treadle.spec import Family
    from treadle.training.search_space import SPACES as REAL

    families = [Family.LINEAR, Family.HIST_GRADIENT_BOOSTING]
    objective = Objective(Task.REGRESSION, 0, "rmse", seed=3)
    both = []
    for threads in (1, 2):
        asked = problem(
            data,
            None,
            name=f"real-{threads}",
            spaces={f.value: REAL[f].dimensions for f in families},
            first=[(f.value, REAL[f].first) for f in families],
            at_once=frozenset({"linear"}),
            make_grow=partial(candidate.make_grow, objective),
            trials=8,
        )
        both.append(found(run(asked, store, on_threads(threads))))
    assert both[0] == both[1]


def test_a_forest_has_the_same_score_to_the_last_bit_on_any_number_of_threads(data: Path) -> None:
    from treadle.prepared import load_tuning

    grow = candidate.make_grow(Objective(Task.REGRESSION, 0, "rmse", seed=3))
    asked = Candidate(number=0, family="forest", parameters={"max_leaf_nodes": 64})
    rows = load_tuning(data)
    scores = {grow(rows, asked, 9, None, threads)[1] for threads in (1, 2, 8, 8, 8)}
    assert len(scores) == 1


def test_a_candidate_is_judged_by_what_it_promises(data: Path, store: DirectoryStore) -> None:
    def grow(
        data: TuningData, candidate: Candidate, units: int, grown: Any, threads: int
    ) -> tuple[Any, Scored]:
        # The slower one learns, the worse it looks at first, and the better it gets.
        x = float(candidate.parameters["x"])
        return units, Scored(-x if units == 9 else x, -x)

    asked = problem(data, grow, spaces={"good": SPACES["good"]}, first=[])
    trials = run(asked, store)
    whole = [trial for trial in trials if not trial.stopped_early]
    slowest = min(trials[: asked.cohort], key=lambda trial: float(trial.parameters["x"]))
    assert slowest in whole


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.BINARY])
def test_a_slow_learner_promises_what_becomes_of_it(data: Path, task: Task) -> None:
    from treadle.prepared import load_tuning

    rows, classes, metric = load_tuning(data), 0, "rmse"
    if task is Task.BINARY:
        answers = {"fit_y": (rows.fit_y > 0).astype(int), "tuning_y": (rows.tuning_y > 0) * 1}
        rows, classes, metric = replace(rows, **answers), 2, "log_loss"
    slow = Candidate(
        number=0, family="hist_gradient_boosting",
        parameters={"learning_rate": 0.03, "max_leaf_nodes": 8, "min_samples_leaf": 5,
                    "l2_regularization": 0.01},
    )  # fmt: skip
    objective = Objective(task, classes, metric, seed=0)
    grown, early = candidate.grow(objective, rows, slow, 1, None, 1)
    _, late = candidate.grow(objective, rows, slow, 9, grown, 1)
    assert late.promise == late.score, "a whole candidate has nothing left to promise"
    assert abs(early.promise - late.score) < 0.6 * abs(early.score - late.score)


def test_the_best_rung_of_all_wins_and_the_refit_stops_there() -> None:
    def trial(number: int, *scores: float, stopped: bool = False) -> Trial:
        curve = list(zip((1, 3, 9), scores, strict=False))
        return Trial(
            number=number, family="good", parameters={}, curve=curve, seconds=1,
            stopped_early=stopped,
        )  # fmt: skip

    best = choose([trial(0, 0.1, 0.5, 0.4), trial(1, 0.2, 0.7, 0.6), trial(2, 0.65, stopped=True)])
    assert (best.number, best.score, best.units) == (1, 0.7, 3)
    assert choose([trial(0, 0.1, 0.5, 0.6), trial(1, 0.65, stopped=True)]).number == 1
    nan = float("nan")
    unclear = choose([trial(0, nan, 0.5), trial(1, nan, nan, nan), trial(2, 0.4, nan)])
    assert (unclear.number, unclear.score, unclear.units) == (0, 0.5, 3)
    assert trial(1, nan).score is None
