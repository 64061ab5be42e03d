"""For whom it is worse: the slices that the spec names, and those that are searched for.

The search (after SliceFinder, Chung et al. 2019) looks at every value of every feature and at every
pair of values of the features that matter most. So many looks find bad slices by chance alone:
those are kept alone whose loss is higher than elsewhere by a one-sided Welch test, adjusted for the
number looked at, and noticeably so.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from treadle import metrics
from treadle.analysis import cells
from treadle.analysis.cells import Cells
from treadle.analysis.comparison import Against, chance, compare_rows, holm
from treadle.analysis.examined import Examined
from treadle.evaluation import Search, Slice
from treadle.metrics import Measure
from treadle.resampling import Vector
from treadle.spec import Analysis

MIN_SLICE_ROWS = 30
# What a search looks at and reports: slices of so many rows, pairs of so many features.
MIN_SEARCHED_ROWS = 50
MIN_SEARCHED_SHARE = 0.005
MOST_PAIRED = 12
MOST_FOUND = 10
# A slice is worth telling where its loss is higher by this share, and a pair where it is so
# compared with each of its two.
NOTICEABLE = 0.1
_DOUBT = 0.05
_ALIKE = 0.8


def of_spec(
    seen: Examined, m: Measure, options: Analysis, seed: int, rival: Against | None
) -> list[Slice]:
    """Return every value of the columns that the spec names, held against the champion's answers
    where there is one."""
    named = [*options.slices, *options.sensitive, *options.must_not_lose_on]
    found = []
    for name in dict.fromkeys(named):
        parted = cells.part(seen, name)
        for code, label in enumerate(parted.labels):
            rows = np.flatnonzero(parted.codes == code)
            found.append(_slice(name, label, rows, seen, m, options, seed, rival))
    return found


def _slice(
    column: str,
    value: str,
    rows: Vector,
    seen: Examined,
    m: Measure,
    options: Analysis,
    seed: int,
    rival: Against | None = None,
    excess: float | None = None,
) -> Slice:
    count, answers, output = len(rows), seen.answers[rows], seen.output[rows]
    if count < MIN_SLICE_ROWS:
        why = f"fewer than {MIN_SLICE_ROWS} rows"
        return Slice(column=column, value=value, rows=count, metric=None, why=why, excess=excess)
    found = metrics.with_interval(m, answers, output, options.bootstrap, seed)
    if np.isnan(found.value):
        why = "one class only" if seen.signature.classes else "one answer only"
        return Slice(column=column, value=value, rows=count, metric=None, why=why, excess=excess)
    against = None
    if rival is not None and not rival.same:
        fair = rows[rival.fair[rows]]
        if len(fair) >= MIN_SLICE_ROWS:
            ours, theirs = seen.output[fair], rival.output[fair]
            against = compare_rows(m, seen.answers[fair], ours, theirs, options.bootstrap, seed)
    return Slice(
        column=column, value=value, rows=count, metric=found, excess=excess, against=against
    )


class _Found(NamedTuple):
    """A slice that the search looked at: the columns and codes that make it."""

    parts: tuple[tuple[int, int], ...]
    rows: int
    mean: float
    p_value: float


def searched(seen: Examined, m: Measure, options: Analysis, seed: int, ranked: list[str]) -> Search:
    """Search the features for slices, those of the most important ones in pairs too; ``ranked`` are
    the features by importance."""
    losses = metrics.row_losses(m.name, seen.answers, seen.output)
    texts = {f.name for f in seen.signature.features if f.tokens}
    parted = [cells.part(seen, name) for name in ranked if name not in texts]
    looked = _singles(parted, losses)
    looked += _pairs(parted[:MOST_PAIRED], losses)
    adjusted = holm([found.p_value for found in looked])
    means = {found.parts: found.mean for found in looked}
    whole = float(losses.mean())
    certain = [
        found
        for found, p in zip(looked, adjusted, strict=True)
        if p < _DOUBT and found.mean > (1 + NOTICEABLE) * whole and _adds(found, means)
    ]
    worst: list[Slice] = []
    taken: list[npt.NDArray[np.bool_]] = []
    for found in sorted(certain, key=lambda found: -found.mean):
        within = np.logical_and.reduce([parted[i].codes == code for i, code in found.parts])
        if len(worst) < MOST_FOUND and not any(_alike(within, other) for other in taken):
            taken.append(within)
            worst.append(_reported(found, within, parted, losses, seen, m, options, seed))
    return Search(looked_at=len(looked), worst=worst)


def _reported(
    found: _Found,
    within: npt.NDArray[np.bool_],
    parted: list[Cells],
    losses: Vector,
    seen: Examined,
    m: Measure,
    options: Analysis,
    seed: int,
) -> Slice:
    elsewhere = float(losses[~within].mean())
    excess = found.mean / elsewhere - 1 if elsewhere else float("inf")
    column = " × ".join(parted[i].column for i, _ in found.parts)
    value = " × ".join(parted[i].labels[code] for i, code in found.parts)
    rows = np.flatnonzero(within)
    return _slice(column, value, rows, seen, m, options, seed, excess=excess)


def _adds(found: _Found, means: dict[tuple[tuple[int, int], ...], float]) -> bool:
    """Say whether a pair is noticeably worse than each of its two alone."""
    if len(found.parts) == 1:
        return True
    alone = [means.get((part,), 0.0) for part in found.parts]
    return found.mean > (1 + NOTICEABLE) * max(alone)


def _alike(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> bool:
    return bool((one & other).sum() > _ALIKE * (one | other).sum())


def _singles(parted: list[Cells], losses: Vector) -> list[_Found]:
    found = []
    for i, column in enumerate(parted):
        for code, rows, mean, p in _tested(column.codes, len(column.labels), losses):
            found.append(_Found(((i, code),), rows, mean, p))
    return found


def _pairs(parted: list[Cells], losses: Vector) -> list[_Found]:
    found = []
    for (i, one), (j, other) in combinations(enumerate(parted), 2):
        width = len(other.labels)
        both = np.where((one.codes < 0) | (other.codes < 0), -1, one.codes * width + other.codes)
        for code, rows, mean, p in _tested(both, len(one.labels) * width, losses):
            found.append(_Found(((i, code // width), (j, code % width)), rows, mean, p))
    return found


def _tested(
    codes: npt.NDArray[np.int64], cells_: int, losses: Vector
) -> list[tuple[int, int, float, float]]:
    """Return code, rows, mean loss and p-value of every cell that is large enough, and leaves
    enough elsewhere."""
    rows, every = len(losses), codes + 1
    count = np.bincount(every, minlength=cells_ + 1)[1:].astype(np.float64)
    total = np.bincount(every, losses, minlength=cells_ + 1)[1:]
    squares = np.bincount(every, losses * losses, minlength=cells_ + 1)[1:]
    least = max(MIN_SEARCHED_ROWS, MIN_SEARCHED_SHARE * rows)
    large = np.flatnonzero((count >= least) & (rows - count >= least))
    n, s, q = count[large], total[large], squares[large]
    inside, inside_error = _mean(n, s, q)
    outside, outside_error = _mean(rows - n, losses.sum() - s, np.square(losses).sum() - q)
    error = np.sqrt(inside_error + outside_error)
    by_chance = [chance(*gap) for gap in zip(inside - outside, error, strict=True)]
    return list(zip(large.tolist(), n.astype(int).tolist(), inside.tolist(), by_chance,
                    strict=True))  # fmt: skip


def _mean(count: Vector, total: Vector, squares: Vector) -> tuple[Vector, Vector]:
    """Return means and the squares of their standard errors."""
    mean = total / count
    return mean, np.maximum(squares / count - mean * mean, 0) / (count - 1)
