"""The metrics of a task: what the search optimises, analysis reports and feedback watches."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from treadle.errors import SpecError, nearest
from treadle.records import Metric, Task
from treadle.resampling import Counts, Statistic, Vector, interval, mean_of, of_rows, resampled
from treadle.spec import SCORERS, MetricName

PINBALL = "pinball_"
_OF_PROBABILITIES = ("average_precision", "neg_brier_score", "roc_auc_ovr", "roc_auc_ovo")


@dataclass(frozen=True)
class Measure:
    """A metric. ``weighing(answers, output)`` takes (n,) answers and the model's output: (n,)
    values, or (n, classes) probabilities; it returns the metric as a function of how often each row
    counts, nan where it is undefined."""

    name: str
    weighing: Callable[[Vector, Vector], Statistic]
    higher_is_better: bool

    def of(self, answers: Vector, output: Vector) -> float:
        """Return the metric, nan where it is undefined."""
        return of_rows(self.weighing(answers, output), len(answers))

    def score(self, answers: Vector, output: Vector) -> float:
        """Return the metric with its sign turned so that higher is better."""
        value = self.of(answers, output)
        return value if self.higher_is_better else -value


def _errors(answers: Vector, output: Vector) -> Vector:
    return np.asarray(answers, dtype=np.float64) - output


def _rmse(answers: Vector, output: Vector) -> Statistic:
    return mean_of(np.square(_errors(answers, output)), np.sqrt)


def _mae(answers: Vector, output: Vector) -> Statistic:
    return mean_of(np.abs(_errors(answers, output)))


def _r2(answers: Vector, output: Vector) -> Statistic:
    centred = np.asarray(answers, dtype=np.float64) - np.mean(answers)
    squares, missed = np.square(centred), np.square(_errors(answers, output))

    def of(counts: Counts) -> Vector:
        whole = counts @ squares
        spread = whole - np.square(counts @ centred) / counts.sum(axis=1)
        # Answers that are all the same leave a spread of rounding errors.
        known = spread > 1e-12 * whole
        return np.where(known, 1 - (counts @ missed) / np.where(known, spread, 1), np.nan)

    return of


def _roc_auc(answers: Vector, output: Vector) -> Statistic:
    """Area under the curve by the rank sum, ties counted half (Mann-Whitney U)."""
    order = np.argsort(output[:, 1], kind="stable")
    scores, positive = output[order, 1], answers[order] == 1
    firsts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))

    def of(counts: Counts) -> Vector:
        drawn = counts[:, order]
        hits = np.add.reduceat(drawn * positive, firsts, axis=1)
        misses = np.add.reduceat(drawn * ~positive, firsts, axis=1)
        below = np.cumsum(misses, axis=1) - misses / 2
        pairs = hits.sum(axis=1) * misses.sum(axis=1)
        won = np.sum(hits * below, axis=1)
        return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)

    return of


def surprise(answers: Vector, output: Vector) -> Vector:
    """Return each row's log loss: minus the logarithm of the probability given to its class."""
    given = output[np.arange(len(answers)), answers.astype(np.int64)].astype(np.float64)
    # float32 probabilities reach 0: the floor is float32's resolution.
    return np.asarray(-np.log(np.clip(given, np.finfo(np.float32).eps, 1)))


def _log_loss(answers: Vector, output: Vector) -> Statistic:
    return mean_of(surprise(answers, output))


def _accuracy(answers: Vector, output: Vector) -> Statistic:
    return mean_of(np.argmax(output, axis=1) == answers)


def row_losses(name: str, answers: Vector, output: Vector) -> Vector:
    """Return what each row adds to a metric, higher is worse; for one that is no mean over rows
    (roc_auc, r2, most of scikit-learn's) the nearest that is."""
    if name.startswith(PINBALL):
        return _checked(float(name.removeprefix(PINBALL)), answers, output)
    match name:
        case MetricName.RMSE | MetricName.R2:
            return np.asarray(np.square(_errors(answers, output)))
        case MetricName.ROC_AUC | MetricName.LOG_LOSS:
            return surprise(answers, output)
        case _ if output.ndim == 1:
            return np.asarray(np.abs(_errors(answers, output)))
        case _ if name in _OF_PROBABILITIES:
            return surprise(answers, output)
        case _:
            return np.asarray(np.argmax(output, axis=1) != answers, dtype=np.float64)


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


def measure(task: Task, name: str) -> Measure:
    """Return one metric; AUTO is the task's default. Raises SpecError if it doesn't fit."""
    of_task = _MEASURES[task]
    if name == MetricName.AUTO:
        return of_task[0]
    if name.startswith(PINBALL) and task is Task.REGRESSION:
        return _pinball(float(name.removeprefix(PINBALL)))
    found = next((m for m in of_task if m.name == name), None)
    if found is None and name in SCORERS[task]:
        return _scorer(name, task)
    if found is None:
        fitting = [*(m.name for m in of_task), *SCORERS[task]]
        words = nearest(name, fitting)
        raise SpecError(
            f"training.metric: {name} doesn't fit a {task} task; these do: "
            f"{', '.join(fitting)}{words}"
        )
    return found


def _pinball(quantile: float) -> Measure:
    """Return the loss that is least where ``quantile`` of the answers lie below the output
    (Koenker and Bassett 1978)."""

    return Measure(
        f"{PINBALL}{quantile:g}", lambda y, output: mean_of(_checked(quantile, y, output)), False
    )


def _checked(quantile: float, answers: Vector, output: Vector) -> Vector:
    """Return each row's pinball loss, whose graph is a check mark."""
    below = _errors(answers, output)
    return np.asarray(np.maximum(quantile * below, (quantile - 1) * below))


def _scorer(name: str, task: Task) -> Measure:
    """Return one of scikit-learn's scorers by its name there, and with its sign."""
    from sklearn.metrics import get_scorer

    scorer = get_scorer(name)

    def weighing(answers: Vector, output: Vector) -> Statistic:
        given = _as_asked(name, task, output)

        def one(counts: Vector) -> float:
            rows = np.repeat(np.arange(len(answers)), counts)
            try:
                score = scorer._score_func(answers[rows], given[rows], **scorer._kwargs)
            except ValueError:
                return float("nan")  # undefined for these rows
            return float(scorer._sign * score)

        def of(counts: Counts) -> Vector:
            with warnings.catch_warnings():
                # A class that nobody predicted: scikit-learn counts it as 0, and says so each time.
                warnings.simplefilter("ignore")
                return np.array([one(drawn) for drawn in counts.astype(np.int64)])

        return of

    return Measure(name, weighing, True)


def _as_asked(name: str, task: Task, output: Vector) -> Vector:
    """Return what a scorer wants to see of a model's output."""
    if task is Task.REGRESSION:
        return output
    if name not in _OF_PROBABILITIES:
        return np.asarray(np.argmax(output, axis=1))
    return output[:, 1] if task is Task.BINARY else output


# Rows that come one after another are alike (a day's weather, a customer's orders): blocks of them
# are less so.
BLOCKS = 20
# Student's t for as many blocks less one, 97.5 %.
_T = 2.093
# Blocks are left out one by one of about so many rows.
_MOST_JACKKNIFED = 50_000


def with_block_interval(m: Measure, answers: Vector, output: Vector) -> Metric:
    """Return the metric with the 95 % interval of a delete-a-block jackknife over BLOCKS blocks of
    rows in their order, which holds where neighbours aren't independent, as rows over time aren't
    (Künsch 1989, "The jackknife and the bootstrap for general stationary observations")."""
    return block_interval(m, lambda kept: m.of(answers[kept], output[kept]), len(answers))


def block_interval(m: Measure, of: Callable[[Vector], float], rows: int) -> Metric:
    """Return what ``of`` makes of all rows (their positions), with that interval, as the metric."""
    value, spread = of(np.arange(rows)), block_spread(of, rows)
    return Metric(
        name=m.name,
        value=value,
        low=value - spread,
        high=value + spread,
        higher_is_better=m.higher_is_better,
    )


def block_spread(of: Callable[[Vector], float], rows: int) -> float:
    """Return half the width of the 95 % interval of what ``of`` makes of rows (their positions);
    nan where it can't be told."""
    every = max(rows // _MOST_JACKKNIFED, 1)
    blocks = np.arange(rows) * BLOCKS // max(rows, 1)
    # A part of each block's rows stands for the block.
    taken = np.arange(0, rows, every)
    values = np.array([of(taken[blocks[taken] != block]) for block in range(BLOCKS)])
    known = values[~np.isnan(values)]
    if len(known) < BLOCKS // 2:
        return float("nan")
    n = len(known)
    return float(_T * np.sqrt((n - 1) / n * np.sum(np.square(known - known.mean()))))


def with_interval(m: Measure, answers: Vector, output: Vector, rounds: int, seed: int) -> Metric:
    """Return the metric with its 95 % bootstrap interval."""
    return with_intervals([m], answers, output, rounds, seed)[0]


def with_intervals(
    wanted: Sequence[Measure], answers: Vector, output: Vector, rounds: int, seed: int
) -> list[Metric]:
    """Return metrics with their 95 % bootstrap intervals."""
    statistics = [m.weighing(answers, output) for m in wanted]
    drawn = resampled(statistics, len(answers), rounds, seed)
    return [
        measured(m, of_rows(statistic, len(answers)), values)
        for m, statistic, values in zip(wanted, statistics, drawn, strict=True)
    ]


def measured(m: Measure, value: float, drawn: Vector) -> Metric:
    """Return a metric's record from its value and what resamples made of it."""
    low, high = interval(drawn)
    return Metric(name=m.name, value=value, low=low, high=high, higher_is_better=m.higher_is_better)
