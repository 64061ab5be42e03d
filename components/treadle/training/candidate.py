"""One candidate, grown rung by rung."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.metrics import measure
from treadle.prepared import TuningData
from treadle.records import Candidate
from treadle.search import UNITS, Grow, Scored
from treadle.spec import Family
from treadle.training import boosters, families
from treadle.training.families import Objective


def make_grow(objective: Objective) -> Grow:
    """Return ``grow`` for one problem; called where the candidates are fitted."""
    return partial(grow, objective)


def grow(
    objective: Objective,
    data: TuningData,
    candidate: Candidate,
    units: int,
    grown: Any | None,
    threads: int,
) -> tuple[Any, Scored]:
    """Fit a candidate until it has ``units`` of its resource; return it with its scores on the
    tuning rows."""
    estimator = grown or families.build(candidate.family, objective, candidate.parameters, units)
    families.grow(
        estimator, candidate.family, units, objective, data.fit_x, data.fit_y, data.fit_w, threads
    )
    metric = measure(objective.task, objective.metric)
    # Of neighbours that are equally near, it depends on the threads which are found.
    threads = 1 if candidate.family == Family.NEIGHBOURS else threads

    def score(model: Any) -> float:
        with families.cores(threads):
            output = predict(model, data.tuning_x, objective.classes)
        return metric.score(data.tuning_y, output)

    told = families.remembering(estimator)
    whole = families.unshrunk(told) if units < UNITS else None
    scored = score(told)
    return estimator, Scored(scored, scored if whole is None else score(whole))


def predict(estimator: Any, rows: Any, classes: int) -> npt.NDArray[Any]:
    """Return (n,) values, or (n, classes) probabilities in the order of the codes (0 for a class
    that the estimator never saw); ``classes`` is 0 for regression."""
    if not classes:
        return np.asarray(estimator.predict(rows))
    given = np.asarray(estimator.predict_proba(rows))
    output = np.zeros((len(given), classes), dtype=given.dtype)
    output[:, boosters.classes_of(estimator).astype(np.int64)] = given
    return output
