"""The bootstrap: draw rows again, with replacement, and see how far a statistic moves (Efron and
Tibshirani 1993, chapters 6 and 13).

A resample is how often each row was drawn, so that a statistic that is made of sums over rows is a
matrix product for many resamples at once. All statistics of one call see the same resamples: that
is what makes a difference of two of them a paired one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[Any]
# (resamples, rows): how often each row was drawn.
Counts = npt.NDArray[np.float64]
# Counts to (resamples,) values; nan where a resample leaves the statistic undefined.
Statistic = Callable[[Counts], Vector]
# Resamples are made a block at a time, which fits into a processor's cache and any memory.
_BLOCK = 1_000_000


def draws(rows: int, rounds: int, seed: int) -> Iterator[Counts]:
    """Yield ``rounds`` resamples of that many rows, in blocks."""
    random = np.random.default_rng(seed)
    at_once = max(1, _BLOCK // rows)
    for first in range(0, rounds, at_once):
        block = np.empty((min(at_once, rounds - first), rows))
        for resample in block:
            resample[:] = np.bincount(random.integers(0, rows, rows), minlength=rows)
        yield block


def resampled(statistics: Sequence[Statistic], rows: int, rounds: int, seed: int) -> Vector:
    """Return each statistic on each of the same resamples: (statistics, rounds)."""
    blocks = [
        np.array([statistic(counts) for statistic in statistics])
        for counts in draws(rows, rounds, seed)
    ]
    return np.concatenate(blocks, axis=1)


def of_rows(statistic: Statistic, rows: int) -> float:
    """Return the statistic on the rows themselves."""
    return float(statistic(np.ones((1, rows)))[0])


def interval(values: Vector) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled values; nan where all are undefined."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def mean_of(terms: Vector, finish: Callable[[Vector], Vector] = lambda mean: mean) -> Statistic:
    """Return the statistic that is the mean of a term a row, put through ``finish``."""
    values = np.asarray(terms, dtype=np.float64)
    return lambda counts: finish(counts @ values / counts.sum(axis=1))
