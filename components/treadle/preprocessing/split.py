"""Part rows into what is learned from and what is held out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treadle.errors import DataError, counted
from treadle.spec import SplitBy

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """``held_out`` marks the held-out rows; ``cutoff`` is their first time (epoch seconds)."""

    held_out: Mask
    cutoff: float | None = None


def part(
    by: SplitBy, share: float, seed: int, key: npt.NDArray[np.generic] | None, rows: int
) -> Parts:
    """Hold out about ``share`` of the rows.

    ``key`` has one value a row: the time (epoch seconds), the group or the stratum; None for a
    random split. Rows whose time is null are learned from. Raises DataError where one side would
    be empty.
    """
    random = np.random.default_rng(seed)
    match by, key:
        case SplitBy.TIME, np.ndarray():
            parts = _by_time(key.astype(np.float64), share)
        case SplitBy.GROUP, np.ndarray():
            parts = Parts(_by_group(key, share, random))
        case SplitBy.STRATUM, np.ndarray():
            parts = Parts(_by_stratum(key, share, random))
        case _:
            parts = Parts(_at_random(rows, share, random))
    held_out = int(parts.held_out.sum())
    if not 0 < held_out < rows:
        raise DataError(
            f"a split by {by.value} that holds out {share:.0%} of {counted(rows, 'row')} leaves "
            f"{rows - held_out:,} to learn from and {held_out:,} held out: choose another split"
        )
    if not share / 2 <= held_out / rows <= 2 * share and rows >= MIN_CHECKED_ROWS:
        raise DataError(
            f"a split by {by.value} can't hold out {share:.0%} of the rows here, it would be "
            f"{held_out / rows:.0%}: many rows share one {by.value}; choose another split or share"
        )
    return parts


# In a smaller table a share is coarse by itself.
MIN_CHECKED_ROWS = 100


def _by_time(times: npt.NDArray[np.float64], share: float) -> Parts:
    known = times[~np.isnan(times)]
    if not known.size:
        raise DataError("the column of the split by time has no time in it")
    cutoff = float(np.quantile(known, 1 - share, method="higher"))
    if cutoff == known.min():
        # Nothing lies before the quantile: start the held-out part at the next time.
        later = known[known > cutoff]
        cutoff = float(later.min()) if later.size else cutoff
    return Parts(np.nan_to_num(times, nan=-np.inf) >= cutoff, cutoff)


def _by_group(groups: npt.NDArray[np.generic], share: float, random: np.random.Generator) -> Mask:
    _, codes, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    order = random.permutation(len(counts))
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]])
    chosen = order[before < share * len(groups)]
    if len(chosen) == len(counts):
        chosen = chosen[:-1]
    return np.isin(codes, chosen)


def _by_stratum(strata: npt.NDArray[np.generic], share: float, random: np.random.Generator) -> Mask:
    held_out = np.zeros(len(strata), dtype=bool)
    _, codes = np.unique(strata.astype(str), return_inverse=True)
    for code in range(codes.max() + 1):
        members = random.permutation(np.flatnonzero(codes == code))
        # A class of one row can only be learned from.
        held_out[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return held_out


def _at_random(rows: int, share: float, random: np.random.Generator) -> Mask:
    held_out = np.zeros(rows, dtype=bool)
    held_out[random.permutation(rows)[: max(round(share * rows), 1)]] = True
    return held_out
