"""The metrics of a task: what the search optimises, analysis reports and feedback watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.errors import SpecError
from treadle.records import Metric, Task
from treadle.spec import MetricName

Vector = npt.NDArray[Any]


@dataclass(frozen=True)
class Measure:
    """A metric. ``of(answers, output)`` takes (n,) answers and the model's output: (n,) values,
    or (n, classes) probabilities; it returns nan where it is undefined."""

    name: MetricName
    of: Callable[[Vector, Vector], float]
    higher_is_better: bool

    def score(self, answers: Vector, output: Vector) -> float:
        """Return the metric with its sign turned so that higher is better."""
        value = self.of(answers, output)
        return value if self.higher_is_better else -value


def _rmse(answers: Vector, output: Vector) -> float:
    return float(np.sqrt(np.mean(np.square(answers - output))))


def _mae(answers: Vector, output: Vector) -> float:
    return float(np.mean(np.abs(answers - output)))


def _r2(answers: Vector, output: Vector) -> float:
    spread = float(np.sum(np.square(answers - np.mean(answers))))
    return 1 - float(np.sum(np.square(answers - output))) / spread if spread else float("nan")


def _roc_auc(answers: Vector, output: Vector) -> float:
    """Area under the curve by the rank sum, ties counted half (Mann-Whitney U)."""
    scores = output[:, 1]
    positive = answers == 1
    pairs = int(positive.sum()) * int((~positive).sum())
    if not pairs:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    won = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(won / pairs)


def _log_loss(answers: Vector, output: Vector) -> float:
    given = output[np.arange(len(answers)), answers.astype(np.int64)].astype(np.float64)
    # float32 probabilities reach 0: the floor is float32's resolution.
    return float(-np.mean(np.log(np.clip(given, np.finfo(np.float32).eps, 1))))


def _accuracy(answers: Vector, output: Vector) -> float:
    return float(np.mean(np.argmax(output, axis=1) == answers))


_MEASURES = {
    Task.REGRESSION: [
        Measure(MetricName.RMSE, _rmse, False),
        Measure(MetricName.MAE, _mae, False),
        Measure(MetricName.R2, _r2, True),
    ],
    Task.BINARY: [
        Measure(MetricName.ROC_AUC, _roc_auc, True),
        Measure(MetricName.LOG_LOSS, _log_loss, False),
        Measure(MetricName.ACCURACY, _accuracy, True),
    ],
    Task.MULTICLASS: [
        Measure(MetricName.LOG_LOSS, _log_loss, False),
        Measure(MetricName.ACCURACY, _accuracy, True),
    ],
}


def measures(task: Task) -> list[Measure]:
    """Return the metrics of a task, the default one first."""
    return list(_MEASURES[task])


def measure(task: Task, name: MetricName) -> Measure:
    """Return one metric; AUTO is the task's default. Raises SpecError if it doesn't fit."""
    of_task = _MEASURES[task]
    if name is MetricName.AUTO:
        return of_task[0]
    found = next((m for m in of_task if m.name is name), None)
    if found is None:
        fitting = ", ".join(m.name for m in of_task)
        raise SpecError(f"training.metric: {name} doesn't fit a {task} task; these do: {fitting}")
    return found


def with_interval(m: Measure, answers: Vector, output: Vector, rounds: int, seed: int) -> Metric:
    """Return the metric with its 95 % percentile bootstrap interval (Efron and Tibshirani 1993,
    chapter 13)."""
    random = np.random.default_rng(seed)
    rows = len(answers)
    values = np.empty(rounds)
    for i in range(rounds):
        drawn = random.integers(0, rows, rows)
        values[i] = m.of(answers[drawn], output[drawn])
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [0.025, 0.975]) if known.size else (np.nan, np.nan)
    return Metric(
        name=m.name.value,
        value=m.of(answers, output),
        low=float(low),
        high=float(high),
        higher_is_better=m.higher_is_better,
    )
