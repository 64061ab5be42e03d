"""The families of models: what there is to search, and how a candidate grows by its resource."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from treadle.records import Parameter, Task
from treadle.search import UNITS, Choice, Dimension, Range
from treadle.spec import Family

Parameters = dict[str, Parameter]
TREES_PER_UNIT = 6
ROUNDS_PER_UNIT = 25


@dataclass(frozen=True)
class FamilyPlan:
    """A family: its search space, the point in it to try first, and how to build a candidate.

    ``build(task, parameters, units, seed, threads)`` returns an unfitted estimator with ``units``
    of its resource (boosting rounds, trees); ``grow`` names the estimator's parameter that holds
    the resource and how much one unit is, or is None for a family that is fitted at once.
    """

    space: dict[str, Dimension]
    first: Parameters
    build: Callable[[Task, Parameters, int, int, int], Any]
    grow: tuple[str, int] | None


def _linear(task: Task, parameters: Parameters, units: int, seed: int, threads: int) -> Any:
    strength = float(parameters["regularisation"])
    estimator = (
        LogisticRegression(C=1 / strength, max_iter=300)
        if task.is_classification
        else Ridge(alpha=strength)
    )
    return Pipeline([("scale", StandardScaler()), ("linear", estimator)])


def _boosting(task: Task, parameters: Parameters, units: int, seed: int, threads: int) -> Any:
    kind = (
        HistGradientBoostingClassifier if task.is_classification else HistGradientBoostingRegressor
    )
    return kind(
        max_iter=units * ROUNDS_PER_UNIT,
        early_stopping=False,
        warm_start=True,
        random_state=seed,
        **parameters,
    )


def _forest(task: Task, parameters: Parameters, units: int, seed: int, threads: int) -> Any:
    kind = ExtraTreesClassifier if task.is_classification else ExtraTreesRegressor
    return kind(
        n_estimators=units * TREES_PER_UNIT,
        warm_start=True,
        bootstrap=True,
        max_samples=0.5,
        n_jobs=threads,
        random_state=seed,
        **parameters,
    )


FAMILIES = {
    Family.LINEAR: FamilyPlan(
        {"regularisation": Range(1e-3, 1e3, log=True)}, {"regularisation": 1.0}, _linear, None
    ),
    Family.HIST_GRADIENT_BOOSTING: FamilyPlan(
        {
            "learning_rate": Range(0.03, 0.3, log=True),
            "max_leaf_nodes": Range(8, 128, log=True, whole=True),
            "min_samples_leaf": Range(5, 200, log=True, whole=True),
            "l2_regularization": Range(1e-3, 10, log=True),
        },
        {
            "learning_rate": 0.1,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 20,
            "l2_regularization": 0.01,
        },
        _boosting,
        ("max_iter", ROUNDS_PER_UNIT),
    ),
    Family.FOREST: FamilyPlan(
        {
            "max_leaf_nodes": Range(64, 2048, log=True, whole=True),
            "min_samples_leaf": Range(2, 64, log=True, whole=True),
            "max_features": Choice((0.3, 0.5, 0.8, 1.0)),
        },
        {"max_leaf_nodes": 1024, "min_samples_leaf": 4, "max_features": 0.5},
        _forest,
        ("n_estimators", TREES_PER_UNIT),
    ),
}


def final_estimator(
    family: str, task: Task, parameters: Parameters, units: int, seed: int, threads: int
) -> Any:
    """Return the unfitted estimator of a trial that used ``units`` (1 to UNITS) of its resource."""
    plan = FAMILIES[Family(family)]
    return plan.build(task, parameters, min(units, UNITS), seed, threads)
