"""Hold models against each other on the same rows: each resample of the rows is given to all, so
that what makes a row hard for all of them cancels out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from treadle.analysis.examined import Examined
from treadle.answers import Output
from treadle.evaluation import Comparison
from treadle.metrics import Measure, measured
from treadle.records import Metric
from treadle.resampling import Vector, interval, of_rows, resampled

MODEL = "model"


@dataclass(frozen=True)
class Against:
    """The champion: its version, what it says to the same rows, how the model compares; ``same``
    where it is the very model. Compared are the rows that are ``fair``; ``learned`` is from how
    many the champion learned, None where that can't be told."""

    version: int
    output: Output
    whole: Comparison
    same: bool
    fair: Vector
    learned: int | None


@dataclass(frozen=True)
class Compared:
    """Every model's metrics with intervals, and the model against each of the others."""

    metrics: dict[str, list[Metric]]
    comparisons: dict[str, Comparison]


def compare(
    seen: Examined, wanted: Sequence[Measure], others: Mapping[str, Output], rounds: int, seed: int
) -> Compared:
    """Measure the model and others by name; compare by the first measure."""
    outputs = {MODEL: seen.output, **others}
    places = [(name, m) for name in outputs for m in wanted]
    statistics = [m.weighing(seen.answers, outputs[name]) for name, m in places]
    drawn = resampled(statistics, len(seen), rounds, seed)
    values = [of_rows(statistic, len(seen)) for statistic in statistics]
    found: dict[str, list[Metric]] = {name: [] for name in outputs}
    for (name, m), value, around in zip(places, values, drawn, strict=True):
        found[name].append(measured(m, value, around))
    first = {name: position * len(wanted) for position, name in enumerate(outputs)}
    comparisons = {
        name: _comparison(
            wanted[0], len(seen), values[0], values[first[name]], drawn[0], drawn[first[name]]
        )
        for name in others
    }
    return Compared(found, comparisons)


def compare_rows(
    m: Measure, answers: Vector, ours: Output, theirs: Output, rounds: int, seed: int
) -> Comparison:
    """Compare two models' outputs on some rows."""
    statistics = [m.weighing(answers, ours), m.weighing(answers, theirs)]
    drawn = resampled(statistics, len(answers), rounds, seed)
    one, other = (of_rows(statistic, len(answers)) for statistic in statistics)
    return _comparison(m, len(answers), one, other, drawn[0], drawn[1])


def _comparison(
    m: Measure, rows: int, ours: float, theirs: float, our_draws: Vector, their_draws: Vector
) -> Comparison:
    # Shares of the other's error on the rows themselves: on some resamples a small error is next to
    # nothing, and what is divided by that says nothing.
    share = (1 if m.higher_is_better else -1) / max(abs(theirs), 1e-12)
    gain = share * (ours - theirs)
    gains = share * (our_draws - their_draws)
    low, high = interval(gains)
    known = gains[~np.isnan(gains)]
    error = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
    return Comparison(
        metric=m.name, rows=rows, ours=ours, theirs=theirs, gain=gain, low=low, high=high,
        error=error, p_value=2 * chance(abs(gain), error),
    )  # fmt: skip


def chance(gain: float, error: float) -> float:
    """Return how likely a gain so large is where there is none: normal, by the bootstrap's standard
    error. Counting resamples could tell nothing below one in their number, which is too coarse
    where many slices are asked about."""
    if np.isnan(gain) or np.isnan(error):
        return float("nan")
    if error == 0:
        return 0.5 if gain == 0 else float(gain < 0)
    return math.erfc(gain / error / math.sqrt(2)) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many there are (Holm 1979); nan ones stay and don't
    count."""
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    scaled = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]
