"""The families of models: how a candidate is built and how it grows by its resource."""

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
from treadle.search import UNITS
from treadle.spec import Family

Parameters = dict[str, Parameter]
TREES_PER_UNIT = 6
ROUNDS_PER_UNIT = 25


@dataclass(frozen=True)
class FamilyPlan:
    """How to build a candidate of a family.

    ``build(task, parameters, units, seed, threads)`` returns an unfitted estimator with ``units``
    of its resource (boosting rounds, trees); ``grow`` names the estimator's parameter that holds
    the resource and how much one unit is, or is None for a family that is fitted at once.
    """

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
    Family.LINEAR: FamilyPlan(_linear, None),
    Family.HIST_GRADIENT_BOOSTING: FamilyPlan(_boosting, ("max_iter", ROUNDS_PER_UNIT)),
    Family.FOREST: FamilyPlan(_forest, ("n_estimators", TREES_PER_UNIT)),
}


def final_estimator(
    family: str, task: Task, parameters: Parameters, units: int, seed: int, threads: int
) -> Any:
    """Return the unfitted estimator of a trial that used ``units`` (1 to UNITS) of its resource."""
    plan = FAMILIES[Family(family)]
    return plan.build(task, parameters, min(units, UNITS), seed, threads)
