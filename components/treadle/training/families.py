"""The families of models: how a candidate is built and how it grows by its resource."""

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

# Before scikit-learn loads OpenMP: its threads would spin where they wait for each other, and where
# others want the cores too, a round of boosting takes twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from treadle.records import Parameter, Task
from treadle.search import UNITS
from treadle.spec import Family
from treadle.training import bins, boosters

Parameters = dict[str, Parameter]
Weights = npt.NDArray[np.float64] | None
TREES_PER_UNIT = 6
ROUNDS_PER_UNIT = 25
EPOCHS_PER_UNIT = 4
_BOOSTING = HistGradientBoostingClassifier | HistGradientBoostingRegressor


@dataclass(frozen=True)
class Objective:
    """What every candidate of a problem has in common. ``classes`` is 0 for regression;
    ``monotonic`` has 1, 0 or -1 for each column of the matrix, or is empty."""

    task: Task
    classes: int
    metric: str
    seed: int
    quantile: float | None = None
    balanced: bool = False
    monotonic: tuple[int, ...] = ()


@dataclass(frozen=True)
class FamilyPlan:
    """How to build a candidate of a family.

    ``build(objective, parameters, units)`` returns an unfitted estimator with ``units`` of
    its resource (boosting rounds, trees, epochs); ``grow`` names the estimator's parameter that
    holds the resource and how much one unit is, or is None for a family that is fitted at once.
    """

    build: Callable[[Objective, Parameters, int], Any]
    grow: tuple[str, int] | None


def _scaled(estimator: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("model", estimator)])


def _linear(objective: Objective, parameters: Parameters, units: int) -> Any:
    strength = float(parameters["regularisation"])
    if objective.task.is_classification:
        return _scaled(LogisticRegression(C=1 / strength, max_iter=300))
    return _scaled(Ridge(alpha=strength))


def _boosting(objective: Objective, parameters: Parameters, units: int) -> Any:
    common: dict[str, Any] = {
        "max_iter": units * ROUNDS_PER_UNIT,
        "early_stopping": False,
        "warm_start": True,
        "random_state": objective.seed,
        "monotonic_cst": list(objective.monotonic) or None,
        **parameters,
    }
    if objective.task.is_classification:
        return HistGradientBoostingClassifier(**common)
    if objective.quantile is not None:
        return HistGradientBoostingRegressor(loss="quantile", quantile=objective.quantile, **common)
    return HistGradientBoostingRegressor(**common)


def _forest(objective: Objective, parameters: Parameters, units: int) -> Any:
    kind = ExtraTreesClassifier if objective.task.is_classification else ExtraTreesRegressor
    return kind(
        n_estimators=units * TREES_PER_UNIT,
        warm_start=True,
        bootstrap=True,
        max_samples=0.5,
        random_state=objective.seed,
        monotonic_cst=list(objective.monotonic) or None,
        **parameters,
    )


def _mlp(objective: Objective, parameters: Parameters, units: int) -> Any:
    kind = MLPClassifier if objective.task.is_classification else MLPRegressor
    width, depth = int(parameters["width"]), int(parameters["depth"])
    return _scaled(
        kind(
            hidden_layer_sizes=(width,) * depth,
            learning_rate_init=float(parameters["learning_rate"]),
            alpha=float(parameters["regularisation"]),
            max_iter=units * EPOCHS_PER_UNIT,
            random_state=objective.seed,
        )
    )


def _neighbours(objective: Objective, parameters: Parameters, units: int) -> Any:
    kind = KNeighborsClassifier if objective.task.is_classification else KNeighborsRegressor
    return _scaled(kind(n_neighbors=int(parameters["neighbours"]), algorithm="brute"))


def _lightgbm(objective: Objective, parameters: Parameters, units: int) -> Any:
    return boosters.lightgbm(objective, parameters, units * ROUNDS_PER_UNIT)


def _xgboost(objective: Objective, parameters: Parameters, units: int) -> Any:
    return boosters.xgboost(objective, parameters, units * ROUNDS_PER_UNIT)


FAMILIES = {
    Family.LINEAR: FamilyPlan(_linear, None),
    Family.HIST_GRADIENT_BOOSTING: FamilyPlan(_boosting, ("max_iter", ROUNDS_PER_UNIT)),
    Family.FOREST: FamilyPlan(_forest, ("n_estimators", TREES_PER_UNIT)),
    Family.MLP: FamilyPlan(_mlp, None),
    Family.NEIGHBOURS: FamilyPlan(_neighbours, None),
    Family.LIGHTGBM: FamilyPlan(_lightgbm, ("n_estimators", ROUNDS_PER_UNIT)),
    Family.XGBOOST: FamilyPlan(_xgboost, ("n_estimators", ROUNDS_PER_UNIT)),
}


def build(family: str, objective: Objective, parameters: Parameters, units: int) -> Any:
    """Return an unfitted estimator with ``units`` (1 to UNITS) of its family's resource."""
    return FAMILIES[Family(family)].build(objective, parameters, min(units, UNITS))


def grow(
    estimator: Any,
    family: str,
    units: int,
    objective: Objective,
    rows: Any,
    answers: Any,
    weights: Weights,
    threads: int,
) -> Any:
    """Fit an estimator, or go on with it, until it has ``units`` of its resource."""
    if isinstance(estimator, ExtraTreesClassifier | ExtraTreesRegressor):
        estimator.n_jobs = threads
    if objective.balanced:
        weights = _balanced(answers, objective.classes, weights)
    if boosters.is_one(estimator):
        with cores(threads):
            rounds = units * ROUNDS_PER_UNIT
            boosters.grow(estimator, rounds, rows, answers, weights, threads)
        return estimator
    plan = FAMILIES[Family(family)]
    if plan.grow:
        name, step = plan.grow
        estimator.set_params(**{name: units * step})
    if family == Family.NEIGHBOURS:
        wanted = estimator["model"].n_neighbors
        estimator.set_params(model__n_neighbors=min(wanted, len(rows)))
    boosting = isinstance(estimator, _BOOSTING)
    with (
        cores(threads),
        bins.kept(estimator, rows, weights) if boosting else nullcontext(),
        warnings.catch_warnings(),
    ):
        # Few epochs are meant: the network's search is over how it learns, not for how long.
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(rows, answers, **weighted(estimator, weights))
    if isinstance(estimator, ExtraTreesClassifier | ExtraTreesRegressor):
        # Several threads add the trees' answers up in the order in which they come: the sum's last
        # bit would depend on it. Fitting doesn't.
        estimator.n_jobs = 1
    return estimator


def remembering(estimator: Any) -> Any:
    """Return boosting that asks its trees once, however often it answers for the same rows; itself
    where it isn't boosting."""
    if not isinstance(estimator, _BOOSTING):
        return estimator
    told: list[Any] = []

    def raw(rows: Any, **how: Any) -> Any:
        if not told:
            told.append(estimator._raw_predict(rows, **how))
        return told[0]

    other = copy(estimator)
    other._raw_predict = raw
    return other


def unshrunk(estimator: Any) -> Any | None:
    """Return boosting that answers as if its learning rate held nothing back any more; None for
    what isn't boosting.

    After k rounds at the rate r, what could be learned at once has been learned to a share of
    1 - (1 - r)^k: of a slow learner little, however good it will be. Divided by that share, answers
    say more of what becomes of it (as Adam corrects its first steps; Kingma and Ba 2015).
    """
    if boosters.is_one(estimator):
        return boosters.Unshrunk(estimator, _learned(estimator, estimator.n_estimators))
    if not isinstance(estimator, _BOOSTING):
        return None
    learned = _learned(estimator, estimator.n_iter_)
    base = estimator._baseline_prediction
    other = copy(estimator)
    other._raw_predict = lambda rows, **how: (
        base + (estimator._raw_predict(rows, **how) - base) / learned
    )
    return other


def _learned(estimator: Any, rounds: int) -> float:
    return 1 - (1 - min(float(estimator.learning_rate), 1.0)) ** rounds


def cores(threads: int) -> Any:
    """Return a context in which boosting uses so many cores, and linear algebra one: with several,
    the last bit of its sums would depend on them."""
    return _libraries().limit(limits={"openmp": threads, "blas": 1})


@cache
def _libraries() -> ThreadpoolController:
    # To look for them takes 4 ms: as long as a small segment's fit.
    return ThreadpoolController()


def _balanced(answers: Any, classes: int, weights: Weights) -> Weights:
    """Return weights that make every class count the same."""
    counts = np.bincount(answers, minlength=classes)
    shares = np.maximum(counts, 1) / len(answers)
    of_class: npt.NDArray[np.float64] = 1 / (np.count_nonzero(counts) * shares)
    balanced = of_class[answers]
    return np.asarray(balanced if weights is None else balanced * weights)


def weighted(estimator: Any, weights: Weights) -> dict[str, Any]:
    """Return the argument of ``fit`` that gives each row its weight."""
    if weights is None:
        return {}
    name = "model__sample_weight" if isinstance(estimator, Pipeline) else "sample_weight"
    return {name: weights}
