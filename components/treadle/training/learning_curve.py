"""Would more rows help? The winner, fitted on growing shares of the rows that candidates were
fitted on, scored on the tuning rows and on rows it learned from."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from treadle.metrics import measure
from treadle.prepared import TuningData, load_tuning
from treadle.records import Candidate, LearningPoint, Trial
from treadle.search import UNITS
from treadle.training import candidate
from treadle.training.families import Objective

Picked = npt.NDArray[np.int64]
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
LEAST_ROWS = 50
# Scored of the rows that it learned from.
MOST_SCORED = 20_000


def points(
    best: Trial, directory: Path, objective: Objective, cores: int, most_s: float
) -> list[LearningPoint]:
    """Return as much of the curve as ``most_s`` seconds allow: each point is expected to take twice
    as long as the one before."""
    data, started, last_s = load_tuning(directory), time.monotonic(), 0.0
    order = np.random.default_rng(objective.seed).permutation(len(data.fit_y))
    winner = Candidate(number=best.number, family=best.family, parameters=best.parameters)
    units = best.units or UNITS
    found = []
    for share in SHARES:
        # In the order of the table: what depends on it is then as it is in the search.
        rows = np.sort(order[: int(share * len(order))])
        if time.monotonic() - started + 2 * last_s > most_s:
            break
        if len(rows) < LEAST_ROWS or (objective.classes and not _whole(data, rows, objective)):
            continue
        begun = time.monotonic()
        found.append(_point(winner, units, data, rows, objective, cores))
        last_s = time.monotonic() - begun
    return found


def _whole(data: TuningData, rows: Picked, objective: Objective) -> bool:
    """Say whether the rows hold every class that the whole does."""
    return len(np.unique(data.fit_y[rows])) == len(np.unique(data.fit_y))


def _point(
    winner: Candidate,
    units: int,
    data: TuningData,
    rows: Picked,
    objective: Objective,
    cores: int,
) -> LearningPoint:
    weights = None if data.fit_w is None else data.fit_w[rows]
    part = replace(data, fit_x=data.fit_x[rows], fit_y=data.fit_y[rows], fit_w=weights)
    estimator, unlearned = candidate.grow(objective, part, winner, units, None, cores)
    scored = np.linspace(0, len(rows) - 1, min(len(rows), MOST_SCORED)).astype(int)
    output = candidate.predict(estimator, part.fit_x[scored], objective.classes)
    m = measure(objective.task, objective.metric)
    learned = m.score(part.fit_y[scored], output)
    return LearningPoint(rows=len(rows), learned=learned, unseen=unlearned.score)
