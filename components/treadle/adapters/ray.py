"""The tuner: Ray Tune with Optuna's TPE and ASHA, on this machine.

Trials run in actors that are used again for the next trial, so that each pays for its imports
once. The matrices are mapped from disk: all actors share the same pages. Finished trials are kept
under ``directory``; an interrupted search of the same name goes on from there.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from treadle.errors import ModelError
from treadle.prepared import load_tuning
from treadle.progress import emit, say
from treadle.records import Parameter, Trial
from treadle.search import REDUCTION, RUNGS, UNITS, Choice, Range, SearchProblem

# Before ray is imported: no usage reports, its own output tables off, no stale warnings.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# An interruption is ours to handle; Tune would end the search as if it were done.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import optuna
import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

OBJECT_STORE_BYTES = 256 * 1024**2
# How long Ray and the first candidate may take before the search is given up.
START_S = 300.0


def search(problem: SearchProblem, directory: Path, cores: int) -> list[Trial]:
    """Run the search and return its trials in order; raises ModelError where none succeeded."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _local_ray(cores):
        tuner = _tuner(problem, directory, cores)
        # From here on this process waits for others.
        meanwhile = Thread(target=problem.meanwhile, daemon=True)
        meanwhile.start()
        results = tuner.fit()
        meanwhile.join()
    # The search came to its end: only one that was interrupted is gone on with.
    shutil.rmtree(directory / problem.name, ignore_errors=True)
    # A trial that the budget's end found before its first report has no configuration to name.
    begun = [result for result in results if result.config is not None]
    trials = [_trial(i, result) for i, result in enumerate(begun)]
    if not any(trial.curve for trial in trials):
        faults = sorted({trial.fault for trial in trials if trial.fault})
        why = "; ".join(faults) or (
            f"none reported within {problem.budget_s + START_S:.0f} s; give training.budget_s more"
        )
        raise ModelError(f"no candidate could be trained: {why}")
    return trials


@contextmanager
def _local_ray(cores: int) -> Iterator[None]:
    # Ray's sockets need a short path; the home's may be too long.
    scratch = tempfile.mkdtemp(prefix="treadle-ray-", dir="/tmp")
    try:
        ray.init(
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=scratch,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _tuner(problem: SearchProblem, directory: Path, cores: int) -> "tune.Tuner":
    trainable = tune.with_resources(tune.with_parameters(_Candidate, problem=problem), {"cpu": 1})
    saved = directory / problem.name
    if tune.Tuner.can_restore(str(saved)):
        say("train: going on with the search that was interrupted")
        return tune.Tuner.restore(str(saved), trainable=trainable, restart_errored=True)
    searcher = ConcurrencyLimiter(
        OptunaSearch(
            space=partial(_suggest, problem.spaces),
            points_to_evaluate=[_first(family, point) for family, point in problem.first.items()],
            metric="score",
            mode="max",
            seed=problem.seed,
        ),
        max_concurrent=cores,
        batch=True,
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            search_alg=searcher,
            scheduler=_AshaByFamily(problem),
            num_samples=problem.trials,
            time_budget_s=problem.budget_s + START_S,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=problem.name,
            storage_path=str(directory),
            verbose=0,
            stop=_Budget(problem.budget_s),
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )


def _suggest(spaces: dict[str, dict[str, Range | Choice]], trial: Any) -> None:
    """Define a candidate by run: the family first, then that family's own parameters."""
    family = trial.suggest_categorical("family", sorted(spaces))
    for name, dimension in spaces[family].items():
        label = f"{family}.{name}"
        match dimension:
            case Choice(values=values):
                trial.suggest_categorical(label, list(values))
            case Range(whole=True):
                trial.suggest_int(label, int(dimension.low), int(dimension.high), log=dimension.log)
            case Range():
                trial.suggest_float(label, dimension.low, dimension.high, log=dimension.log)


def _first(family: str, point: dict[str, Parameter]) -> dict[str, Parameter]:
    """Return a family's own defaults as a candidate."""
    return {"family": family} | {f"{family}.{name}": value for name, value in point.items()}


def _parameters(config: dict[str, Any]) -> dict[str, Parameter]:
    """Take the family's prefix off the names."""
    return {key.partition(".")[2]: value for key, value in config.items() if "." in key}


class _Candidate(tune.Trainable):  # type: ignore[misc]
    """One trial after another in one actor. A trial that is restored begins again: growing a
    candidate anew costs less than keeping every model on disk."""

    def setup(self, config: dict[str, Any], problem: SearchProblem) -> None:
        self._grow = problem.make_grow()
        self._data = load_tuning(problem.data)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._curve: list[tuple[int, float]] = []
        self._reports = self._grow(self._data, new_config["family"], _parameters(new_config), 1)
        return True

    def step(self) -> dict[str, Any]:
        units, score = next(self._reports)
        self._curve.append((units, score))
        return {"units": units, "score": score, "curve": self._curve, "done": units >= UNITS}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        return None


class _AshaByFamily(FIFOScheduler):  # type: ignore[misc]
    """ASHA within each family, which also tells of every trial that ends.

    A forest is near its best with few trees, boosting is not with few rounds: held against each
    other at the first rung, whole families would be stopped. Trials are told of here and not in a
    callback, because Tune counts callbacks for its usage reports, and imports MLflow to do so.
    """

    def __init__(self, problem: SearchProblem) -> None:
        super().__init__()
        self._of: dict[str, AsyncHyperBandScheduler] = {}
        self._wanted = problem.trials
        self._of_interest = problem.metric
        self._sign = 1 if problem.higher_is_better else -1

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def _asha(self, trial: Any) -> AsyncHyperBandScheduler:
        family = trial.config["family"]
        if family not in self._of:
            self._of[family] = AsyncHyperBandScheduler(
                time_attr="units",
                metric="score",
                mode="max",
                grace_period=RUNGS[0],
                max_t=UNITS,
                reduction_factor=REDUCTION,
            )
        return self._of[family]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._asha(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(self._asha(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._asha(trial).on_trial_complete(tune_controller, trial, result)
        self._tell(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._asha(trial).on_trial_error(tune_controller, trial)
        self._tell(tune_controller, trial, trial.last_result or {})

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._asha(trial).on_trial_remove(tune_controller, trial)

    def _tell(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tell what is known of all trials, those of an interrupted search included."""
        others = [other for other in tune_controller.get_trials() if other is not trial]
        scores = [
            result.get("score"),
            *((other.last_result or {}).get("score") for other in others),
        ]
        known = [score for score in scores if score is not None]
        emit(
            "trial",
            done=1 + sum(other.is_finished() for other in others),
            wanted=self._wanted,
            family=trial.config["family"],
            metric=self._of_interest,
            value=None if scores[0] is None else self._sign * scores[0],
            best=self._sign * max(known) if known else None,
        )


class _Budget(tune.Stopper):  # type: ignore[misc]
    """Ends the search when its time is up, counted from the first report: starting the actors is
    not the candidates' time, and something is always found."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._first: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if self._first is None:
            self._first = time.time()
        return False

    def stop_all(self) -> bool:
        return self._first is not None and time.time() - self._first > self._seconds


def _trial(number: int, result: Any) -> Trial:
    metrics = result.metrics or {}
    curve = metrics.get("curve", [])
    units = curve[-1][0] if curve else 0
    return Trial(
        number=number,
        family=result.config["family"],
        parameters=_parameters(result.config),
        curve=[(int(u), float(s)) for u, s in curve],
        seconds=float(metrics.get("time_total_s", 0.0)),
        stopped_early=bool(curve) and units < UNITS,
        fault=None if result.error is None else _last_line(str(result.error)),
    )


def _last_line(traceback: str) -> str:
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
