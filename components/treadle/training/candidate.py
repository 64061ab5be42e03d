"""One candidate, grown rung by rung."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.metrics import measure
from treadle.prepared import TuningData
from treadle.records import Parameter, Task
from treadle.search import RUNGS, Grow
from treadle.spec import Family, MetricName
from treadle.training.families import FAMILIES


def make_grow(task: Task, classes: int, metric: MetricName, seed: int) -> Grow:
    """Return ``grow`` for one problem; called where the candidates are fitted."""
    return partial(grow, task, classes, metric, seed)


def grow(
    task: Task,
    classes: int,
    metric: MetricName,
    seed: int,
    data: TuningData,
    family: str,
    parameters: dict[str, Parameter],
    threads: int,
) -> Iterator[tuple[int, float]]:
    """Fit a candidate with more and more of its resource; yield (units, score) at each rung.

    A family that is fitted at once yields one report, at the last rung, so that it never looks
    weak for having been cheap.
    """
    plan = FAMILIES[Family(family)]
    wanted = measure(task, metric)
    estimator = plan.build(task, parameters, 1, seed, threads)
    for units in RUNGS if plan.grow else RUNGS[-1:]:
        if plan.grow:
            name, step = plan.grow
            estimator.set_params(**{name: units * step})
        estimator.fit(data.fit_x, data.fit_y)
        output = predict(estimator, data.tuning_x, classes)
        yield units, wanted.score(data.tuning_y, output)


def predict(estimator: Any, rows: Any, classes: int) -> npt.NDArray[Any]:
    """Return (n,) values, or (n, classes) probabilities in the order of the codes (0 for a class
    that the estimator never saw); ``classes`` is 0 for regression."""
    if not classes:
        return np.asarray(estimator.predict(rows))
    given = np.asarray(estimator.predict_proba(rows))
    output = np.zeros((len(given), classes), dtype=given.dtype)
    output[:, estimator.classes_.astype(np.int64)] = given
    return output
