"""Whether probabilities mean what they say, and what to do by them: reliability (Guo et al. 2017),
the threshold at the least cost, ROC and confusion."""

import numpy as np
import numpy.typing as npt

from treadle.analysis.examined import Examined
from treadle.evaluation import Bin, Calibration, Threshold
from treadle.records import Metric
from treadle.resampling import Counts, Statistic, Vector, interval, mean_of, of_rows, resampled
from treadle.spec import Costs

BINS = 10
_POINTS = 100
_Z = 1.959964


def of(seen: Examined, rounds: int, seed: int) -> Calibration:
    """Return how well probabilities are calibrated: of two classes the second's, else the
    predicted one's."""
    said, happened = _said(seen)
    places = np.clip((said * BINS).astype(np.int64), 0, BINS - 1)
    statistics = {
        "ece": _calibration_error(said, happened, places),
        "brier": mean_of(_squares(seen)),
    }
    drawn = resampled(list(statistics.values()), len(seen), rounds, seed)
    error, brier = (
        _metric(name, of_rows(statistic, len(seen)), values)
        for (name, statistic), values in zip(statistics.items(), drawn, strict=True)
    )
    bins = [_bin(said[places == b], happened[places == b]) for b in range(BINS) if b in places]
    return Calibration(error=error, brier=brier, bins=bins)


def _said(seen: Examined) -> tuple[Vector, Vector]:
    """Return the probability that a row was given, and whether it came true."""
    output = seen.output.astype(np.float64)
    if output.shape[1] == 2:
        return output[:, 1], seen.answers == 1
    best = output.argmax(axis=1)
    return output[np.arange(len(output)), best], best == seen.answers


def _squares(seen: Examined) -> Vector:
    """Return each row's Brier score: of two classes the second's square, else all classes'."""
    output = seen.output.astype(np.float64)
    truth = np.zeros_like(output)
    truth[np.arange(len(output)), seen.answers.astype(np.int64)] = 1
    squares: Vector = np.square(output - truth).sum(axis=1)
    return squares / 2 if output.shape[1] == 2 else squares


def _calibration_error(said: Vector, happened: Vector, places: Vector) -> Statistic:
    """The mean over rows of how far the bin's probabilities are from what happened in it."""
    members = np.eye(BINS)[places]
    off = (said - happened)[:, None] * members

    def error(counts: Counts) -> Vector:
        found: Vector = np.abs(counts @ off).sum(axis=1) / counts.sum(axis=1)
        return found

    return error


def _metric(name: str, value: float, drawn: Vector) -> Metric:
    low, high = interval(drawn)
    return Metric(name=name, value=value, low=low, high=high, higher_is_better=False)


def _bin(said: Vector, happened: Vector) -> Bin:
    """Return a bin with the interval of its share (Wilson 1927)."""
    rows, share = len(said), float(happened.mean())
    middle = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    half = _Z / (1 + _Z**2 / rows) * np.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    return Bin(
        rows=rows, said=float(said.mean()), happened=share,
        low=max(float(middle - half), 0.0), high=min(float(middle + half), 1.0),
    )  # fmt: skip


def threshold(seen: Examined, costs: Costs) -> Threshold:
    """Choose the threshold of least cost. What it costs is told of rows that it wasn't chosen by:
    one half of the rows is judged by the other half's choice."""
    scores, positive = seen.output[:, 1].astype(np.float64), seen.answers == 1
    places, cost = _costs(scores, positive, costs)
    half = np.arange(len(seen)) % 2 == 0
    honest = [
        _cost(
            scores[judged],
            positive[judged],
            _best(scores[~judged], positive[~judged], costs),
            costs,
        )
        for judged in (half, ~half)
        if judged.any() and not judged.all()
    ]
    shown = np.unique(np.linspace(0, len(places) - 1, _POINTS).astype(int))
    return Threshold(
        label=seen.signature.classes[1],
        false_positive=costs.false_positive,
        false_negative=costs.false_negative,
        value=_best(scores, positive, costs),
        expected=costs.false_positive / (costs.false_positive + costs.false_negative),
        cost=float(np.mean(honest)) if honest else float(cost.min()),
        cost_at_half=_cost(scores, positive, 0.5, costs),
        cost_of_neither=float(
            min(costs.false_negative * positive.mean(), costs.false_positive * (~positive).mean())
        ),
        curve=[(float(places[i]), float(cost[i])) for i in shown],
    )


def _costs(scores: Vector, positive: npt.NDArray[np.bool_], costs: Costs) -> tuple[Vector, Vector]:
    """Return thresholds, ascending, and a row's mean cost at each: a score at or above it counts
    as positive. The last is above all scores."""
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], positive[order]
    missed = np.concatenate([[0], np.cumsum(hits)])
    alarms = (~hits).sum() - np.concatenate([[0], np.cumsum(~hits)])
    firsts = np.concatenate([np.flatnonzero(np.diff(ordered, prepend=-np.inf)), [len(ordered)]])
    places = np.concatenate([ordered, [np.nextafter(ordered[-1], np.inf)]])[firsts]
    whole = costs.false_negative * missed + costs.false_positive * alarms
    return places, whole[firsts] / len(scores)


def _best(scores: Vector, positive: npt.NDArray[np.bool_], costs: Costs) -> float:
    places, cost = _costs(scores, positive, costs)
    return float(places[cost.argmin()])


def _cost(scores: Vector, positive: npt.NDArray[np.bool_], at: float, costs: Costs) -> float:
    called = scores >= at
    wrong = costs.false_positive * (called & ~positive) + costs.false_negative * (
        ~called & positive
    )
    return float(wrong.mean())


def roc(seen: Examined) -> list[tuple[float, float, float]]:
    """Return (false positive rate, true positive rate, threshold) at up to 100 places; nothing
    where there is one class only."""
    scores, positive = seen.output[:, 1].astype(np.float64), seen.answers == 1
    if positive.all() or not positive.any():
        return []
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order]) / positive.sum()
    alarms = np.cumsum(~positive[order]) / (~positive).sum()
    lasts = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    shown = lasts[np.unique(np.linspace(0, len(lasts) - 1, _POINTS).astype(int))]
    points = [(float(alarms[i]), float(hits[i]), float(scores[order][i])) for i in shown]
    return [(0.0, 0.0, float(np.nextafter(scores.max(), np.inf))), *points]


def confusion(seen: Examined) -> list[list[int]]:
    """Count rows by actual class, then by predicted."""
    classes = len(seen.signature.classes)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (seen.answers.astype(np.int64), seen.output.argmax(axis=1)), 1)
    found: list[list[int]] = counts.tolist()
    return found
