"""Splits keep their promises for any rows; where they can't, they say so in numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from treadle.errors import DataError
from treadle.preprocessing.split import Parts, part
from treadle.spec import SplitBy

quick = settings(deadline=None)
SHARES = st.floats(0.01, 0.89)
# Few distinct values, so that ties are common.
TIMES = st.lists(st.integers(0, 12).map(float) | st.just(float("nan")), min_size=2, max_size=60)
LABELS = st.lists(st.sampled_from(["a", "b", "ü", "<null>"]), min_size=2, max_size=80)


def split(by: SplitBy, share: float, key: list[float] | list[str], seed: int = 0) -> Parts:
    array = np.array(key, dtype=float if by is SplitBy.TIME else object)
    return part(by, share, seed, array, len(key))


def parted(by: SplitBy, share: float, key: list[float] | list[str], seed: int = 0) -> Parts:
    """The split, for rows that can be split at all."""
    try:
        return split(by, share, key, seed)
    except DataError:
        assume(False)
        raise


@quick
@given(TIMES, SHARES)
def test_a_split_by_time_never_trains_on_the_future_nor_parts_rows_of_one_time(
    times: list[float], share: float
) -> None:
    parts = parted(SplitBy.TIME, share, times)
    held_out, learned = (np.array(times)[mask] for mask in (parts.held_out, ~parts.held_out))
    assert not np.isnan(held_out).any()
    assert parts.cutoff == held_out.min()
    assert not (learned >= parts.cutoff).any()


@quick
@given(st.lists(st.floats(-1e9, 4e9), min_size=2, max_size=60, unique=True), SHARES)
def test_a_split_by_distinct_times_holds_out_the_share_within_one_row(
    times: list[float], share: float
) -> None:
    held_out = int(split(SplitBy.TIME, share, times).held_out.sum())
    assert 1 <= held_out < len(times)
    assert abs(held_out - share * len(times)) <= 1


def test_rows_tied_at_the_cutoff_are_all_held_out_and_those_without_a_time_learned_from() -> None:
    parts = split(SplitBy.TIME, 0.3, [1.0, 2.0, 3.0, 3.0, 3.0, float("nan")])
    assert parts.held_out.tolist() == [False, False, True, True, True, False]
    assert parts.cutoff == 3.0


def test_a_first_time_that_most_rows_share_is_learned_from() -> None:
    parts = split(SplitBy.TIME, 0.5, [1.0] * 9 + [2.0])
    assert parts.held_out.tolist() == [False] * 9 + [True]


@quick
@given(LABELS, SHARES, st.integers(0, 9))
def test_no_group_is_on_both_sides(groups: list[str], share: float, seed: int) -> None:
    held_out = parted(SplitBy.GROUP, share, groups, seed).held_out
    sides = {group: set(held_out[np.array(groups) == group]) for group in set(groups)}
    assert all(len(side) == 1 for side in sides.values())
    assert held_out.any() and not held_out.all()


def test_many_small_groups_come_close_to_the_share() -> None:
    groups = [str(i // 3) for i in range(900)]
    assert split(SplitBy.GROUP, 0.2, groups).held_out.mean() == pytest.approx(0.2, abs=0.004)


@quick
@given(LABELS, SHARES, st.integers(0, 9))
def test_each_stratum_keeps_the_share_within_one_row(
    strata: list[str], share: float, seed: int
) -> None:
    held_out = parted(SplitBy.STRATUM, share, strata, seed).held_out
    for stratum, rows in Counter(strata).items():
        taken = int(held_out[np.array(strata) == stratum].sum())
        assert abs(taken - share * rows) <= 1
        assert taken < rows  # every class can be learned


def test_a_class_of_one_row_is_learned_from() -> None:
    strata = ["common"] * 20 + ["alone"]
    assert not split(SplitBy.STRATUM, 0.8, strata).held_out[-1]


@quick
@given(st.integers(10, 200), SHARES, st.integers(0, 99))
def test_a_random_split_holds_out_the_share_and_repeats_with_its_seed(
    rows: int, share: float, seed: int
) -> None:
    held_out = part(SplitBy.RANDOM, share, seed, None, rows).held_out
    assert held_out.sum() == max(round(share * rows), 1)
    assert (part(SplitBy.RANDOM, share, seed, None, rows).held_out == held_out).all()


@pytest.mark.parametrize("by", [SplitBy.RANDOM, SplitBy.GROUP, SplitBy.STRATUM])
def test_another_seed_gives_another_split(by: SplitBy) -> None:
    key = [str(i // 5) for i in range(500)]
    one, other = (split(by, 0.3, key, seed).held_out for seed in (1, 2))
    assert (one != other).any()


def test_a_random_split_does_not_follow_the_order_of_the_rows() -> None:
    held_out = np.flatnonzero(part(SplitBy.RANDOM, 0.2, 0, None, 10_000).held_out)
    assert np.mean(held_out) == pytest.approx(5_000, abs=200)


# Of 100 rows, which one group or one time shares out: 95 or 5 can be held out, 20 can't.
LUMPS: list[tuple[SplitBy, list[float] | list[str], str]] = [
    (SplitBy.TIME, [1.0] * 5 + [2.0] * 95, "95%"),
    (SplitBy.TIME, [1.0] * 95 + [2.0] * 5, "5%"),
    (SplitBy.GROUP, ["common"] * 95 + ["rare"] * 5, "(5|95)%"),
]


@pytest.mark.parametrize(("by", "key", "held_out"), LUMPS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_share_off_by_more_than_a_factor_of_two_is_refused_in_numbers(
    by: SplitBy, key: list[float] | list[str], held_out: str, seed: int
) -> None:
    words = (
        rf"^a split by {by} can't hold out 20% of the rows here, .*\b{held_out}: .*another split"
    )
    with pytest.raises(DataError, match=words):
        split(by, 0.2, key, seed)


def test_a_share_off_by_less_or_of_a_small_table_is_let_through() -> None:
    for times in ([1.0] * 89 + [2.0] * 11, [1.0] * 61 + [2.0] * 39, [1.0] * 94 + [2.0] * 5):
        held_out = split(SplitBy.TIME, 0.2, times).held_out
        assert (np.array(times)[held_out] == 2.0).all()


@pytest.mark.parametrize(
    ("by", "key", "words"),
    [
        (SplitBy.TIME, [5.0] * 1200, "leaves 0 to learn from and 1,200 held out"),
        (SplitBy.TIME, [float("nan")] * 10, "the column of the split by time has no time in it"),
        (SplitBy.GROUP, ["one"] * 1200, "leaves 1,200 to learn from and 0 held out"),
        (SplitBy.STRATUM, ["a", "b", "c"], "leaves 3 to learn from and 0 held out"),
        (SplitBy.RANDOM, ["a"], "a split by random that holds out 20% of 1 row leaves 0"),
    ],
)
def test_a_split_that_can_not_be_made_is_told_in_numbers(
    by: SplitBy, key: list[float] | list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        split(by, 0.2, key)
