"""Drift is told by effect size and believed by sample size, on Parquet files as they are."""

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, false_discovery_control, wasserstein_distance
from sklearn.datasets import load_breast_cancer

from treadle.drift import (
    FALSE_DISCOVERY_RATE,
    believable,
    chance,
    compare,
    compare_profiled,
    distance,
)
from treadle.errors import DataError
from treadle.feedback.held_out import _refuse_missing
from treadle.kinds import kinds_of
from treadle.profile import profile, profile_and_count
from treadle.records import ColumnDrift, Kind

quick = settings(deadline=None)
COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=30)
Compare = Callable[..., dict[str, ColumnDrift]]


def counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@quick
@given(COUNTS)
def test_the_distance_is_scipys_and_the_same_both_ways(pairs: list[tuple[int, int]]) -> None:
    was, now = np.array(pairs, dtype=np.int64).T
    found = distance(was, now)
    assert 0 <= found <= 1
    assert found == distance(now, was)
    if was.sum() and now.sum():
        assert found == pytest.approx(jensenshannon(was, now, base=2), abs=1e-7)


@quick
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(1, 1000))
def test_the_distance_of_equal_shares_is_zero(shares: list[int], times: int) -> None:
    was = np.array(shares, dtype=np.int64)
    assert distance(was, was) == 0
    assert distance(was, was * times) == pytest.approx(0, abs=1e-7)


@quick
@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_the_distance_of_what_shares_no_cell_is_one(was: list[int], now: list[int]) -> None:
    left, right = counts(1, *was, 0, *[0] * len(now)), counts(0, *[0] * len(was), 1, *now)
    assert distance(left, right) == pytest.approx(1)


@quick
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)), min_size=2, max_size=60)
)
def test_the_chance_is_scipys(pairs: list[tuple[int, int]]) -> None:
    was, now = np.array(pairs).T
    seen = (was + now) > 0
    if was.sum() and now.sum() and seen.sum() > 1:
        known = chi2_contingency([was[seen], now[seen]]).pvalue
        assert chance(was, now) == pytest.approx(known, rel=1e-9, abs=1e-290)
    else:
        assert chance(was, now) == 1


def test_a_part_that_moved_is_between() -> None:
    near, far = distance(counts(50, 50), counts(45, 55)), distance(counts(50, 50), counts(10, 90))
    assert 0 < near < 0.05 < far < 1


def test_a_few_rows_are_not_believed_and_many_are() -> None:
    assert chance(counts(3, 1), counts(1, 3)) > 0.2
    assert chance(counts(300, 100), counts(100, 300)) < 1e-9
    assert chance(counts(5, 0), counts(7, 0)) == chance(counts(0, 0), counts(4, 4)) == 1


# Benjamini and Hochberg's own example (1995, section 4.1): 15 p-values. At 0.05 four survive; at
# 0.01 the limits are 0.01 * i / 15, and only 0.0001 <= 0.00067 and 0.0004 <= 0.00133 pass, as
# 0.0019 <= 0.002 does, which is the last: 0.0095 is above 0.00267.
TREATMENT = [
    *[0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459],
    *[0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0],
]


def test_the_published_example_keeps_three_at_one_per_cent_in_any_order() -> None:
    assert FALSE_DISCOVERY_RATE == 0.01
    assert believable(TREATMENT) == [True] * 3 + [False] * 12
    assert believable(TREATMENT[::-1]) == [False] * 12 + [True] * 3


def test_a_value_above_its_own_limit_is_kept_by_a_later_one_below_its() -> None:
    # Limits 0.0033, 0.0067, 0.01: the first two are above theirs, the last is below.
    assert believable([0.009, 0.008, 0.0095]) == [True, True, True]
    assert believable([0.009, 0.008, 0.0105]) == [False, False, False]
    assert believable([]) == []


@given(st.lists(st.floats(0, 1) | st.floats(0, 0.02), min_size=1, max_size=30))
def test_what_is_believed_is_what_scipy_adjusts_to_below_the_rate(chances: list[float]) -> None:
    adjusted = false_discovery_control(chances)
    for kept, value in zip(believable(chances), adjusted, strict=True):
        assert kept == (value <= FALSE_DISCOVERY_RATE) or value == pytest.approx(
            FALSE_DISCOVERY_RATE
        )


# Whole columns, from Parquet


@pytest.fixture
def compared(parquet: Callable[[pa.Table], Path]) -> Compare:
    """Profiles one table and compares another with it; returns the drift of each column."""

    def run(was: pa.Table, now: pa.Table, **kinds: Kind) -> dict[str, ColumnDrift]:
        reference = profile(parquet(was), kinds_of(was.schema, kinds))
        with duckdb.connect() as connection:
            connection.read_parquet(str(parquet(now))).create_view("data")
            found = compare(connection, reference.columns, now.num_rows)
        later, kinds = parquet(now), {c.name: c.kind for c in reference.columns}
        seen = profile_and_count(later, kinds, reference.columns)
        assert compare_profiled(later, reference.columns, seen.profile, seen.counted) == found
        distances = [drift.distance for drift in found]
        assert distances == sorted(distances, reverse=True)
        assert not np.isnan(distances).any()
        return {drift.column: drift for drift in found}

    return run


def column(values: Sequence[object] | np.ndarray, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


NORMAL = np.random.default_rng(0).normal(size=4000)


def test_a_million_rows_have_not_drifted_from_themselves(compared: Compare) -> None:
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "number": random.normal(size=1_000_000),
            "code": random.integers(0, 100, 1_000_000).astype(str),
            "open": random.integers(0, 2, 1_000_000).astype(bool),
        }
    )
    found = compared(table, table)
    assert {drift.distance for drift in found.values()} == {0}
    assert not any(drift.significant for drift in found.values())


def test_two_halves_of_real_rows_have_not_drifted(compared: Compare) -> None:
    frame = load_breast_cancer(as_frame=True).data.sample(frac=1, random_state=0)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    found = compared(table[:280], table[280:])
    assert len(found) == 30
    assert not any(drift.significant for drift in found.values())


def test_another_draw_of_a_number_is_near_and_a_shifted_one_far(compared: Compare) -> None:
    same = compared(column(NORMAL[:2000]), column(NORMAL[2000:]))["x"]
    shifted = compared(column(NORMAL[:2000]), column(NORMAL[2000:] + 2))["x"]
    assert same.distance < 0.1 and not same.significant
    assert shifted.distance > 0.5 and shifted.significant
    assert shifted.words.endswith("now")


def test_values_beyond_the_range_once_seen_are_counted(compared: Compare) -> None:
    far = compared(column(NORMAL), column(np.full(4000, 1e9)))["x"]
    assert far.distance > 0.9 and far.significant


def test_twenty_rows_are_not_enough_to_believe_a_shift(compared: Compare) -> None:
    few = compared(column(NORMAL), column(NORMAL[:20] + 0.5))["x"]
    assert few.distance > 0.2 and not few.significant


def test_a_category_never_seen_before_is_named(compared: Compare) -> None:
    was, now = ["a"] * 500 + ["it's"] * 500, ["a"] * 500 + ["new"] * 500
    drift = compared(column(was), column(now))["x"]
    assert drift.distance == pytest.approx(np.sqrt(0.5)) and drift.significant
    assert drift.words == "it's: 50.0% of rows before, 0.0% now"
    drift = compared(column(["a"] * 1000), column(now))["x"]
    assert drift.words in (
        "a: 100.0% of rows before, 50.0% now",
        "any other value: 0.0% of rows before, 50.0% now",
    )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.NUMBER, NORMAL),
        (Kind.CATEGORY, ["a", "b"] * 2000),
        (Kind.BOOLEAN, [True, False] * 2000),
    ],
)
def test_nulls_flooding_in_are_told(
    compared: Compare, kind: Kind, values: Sequence[object]
) -> None:
    holes = [value if i // 2 % 2 else None for i, value in enumerate(values)]
    drift = compared(column(values), column(holes))["x"]
    assert drift.distance > 0.4 and drift.significant
    assert drift.words == f"null or no {kind}: 0.0% of rows before, 50.0% now"


def test_nulls_that_were_always_there_have_not_drifted(compared: Compare) -> None:
    for values in (NORMAL, ["a", "b"] * 2000):
        holes = column([value if i // 2 % 2 else None for i, value in enumerate(values)])
        assert compared(holes, holes)["x"].distance == 0


def test_alarms_dont_grow_with_the_rows(compared: Compare) -> None:
    random = np.random.default_rng(2)
    was = column(random.normal(size=20_000))
    for rows in (2_000, 20_000, 200_000):
        slightly = compared(was, column(random.normal(0.06, 1, rows)))["x"]
        assert slightly.distance < 0.1
        assert slightly.shift is not None and slightly.shift < 0.1
    # So many rows are sure of so small a shift; its effect stays what it is.
    assert slightly.significant


def test_a_shift_is_told_in_spreads(compared: Compare) -> None:
    random = np.random.default_rng(2)
    was = column(random.normal(10, 3, 20_000))
    assert compared(was, was)["x"].shift == 0
    assert compared(was, column(random.normal(11.5, 3, 20_000)))["x"].shift == pytest.approx(
        0.5, abs=0.03
    )
    wider = random.normal(10, 6, 20_000)
    low, high = np.quantile(was["x"], [0.01, 0.99])
    known = wasserstein_distance(*(np.clip(values, low, high) for values in (was["x"], wider)))
    assert compared(was, column(wider))["x"].shift == pytest.approx(known / 3, abs=0.01)
    wild = [*was["x"].to_pylist()[:-1], 1e30]
    assert compared(was, column(wild))["x"].shift == pytest.approx(0, abs=0.001)


def test_what_moved_is_said_in_ranges(compared: Compare) -> None:
    was = column([1.0, 2.0, 3.0, 4.0] * 250)
    words = "above 4: 0.0% of rows before, 100.0% now"
    assert compared(was, column([7.0] * 1000))["x"].words == words
    assert compared(was, column([0.5] * 1000))["x"].words.startswith("below 1: 0.0%")
    assert compared(was, column([2.0] * 1000))["x"].words.startswith("2: 25.0% of rows before")


def test_a_skewed_column_is_compared_where_its_rows_are(compared: Compare) -> None:
    random = np.random.default_rng(2)
    was, now = random.lognormal(0, 2, 20_000), random.lognormal(0, 1, 20_000)
    drift = compared(column(was), column(now))["x"]
    assert drift.distance > 0.2 and drift.significant


def test_the_pictures_counts_are_all_rows_then_and_now(compared: Compare) -> None:
    holes = [None if i % 10 == 0 else float(i % 7) for i in range(1000)]
    number = compared(column(holes), column(holes[:500]))["x"]
    assert (sum(number.was), sum(number.now)) == (1000, 500)
    assert number.was[-1] == 100 and number.now[-1] == 50
    words = compared(column(["a", "b"] * 50), column(["a", "c"] * 20))["x"]
    assert (words.was, words.now) == ([50, 50, 0, 0], [20, 0, 20, 0])


def test_a_constant_column_is_constant(compared: Compare) -> None:
    for values in ([7.0] * 100, ["a"] * 100, [True] * 100):
        drift = compared(column(values), column(values))["x"]
        assert (drift.distance, drift.significant) == (0, False)


def test_a_column_of_nulls_is_compared_without_nan(compared: Compare) -> None:
    nothing = column([None] * 100, pa.float64())
    assert compared(nothing, nothing)["x"].distance == 0
    assert compared(nothing, column([1.0] * 100))["x"].distance == 1


def test_a_number_that_now_is_stored_as_another_type_has_not_drifted(compared: Compare) -> None:
    whole = np.arange(1000)
    assert compared(column(whole), column(whole.astype(float)))["x"].distance == 0
    assert compared(column(whole), column(whole.astype(str)))["x"].distance == 0


def test_times_are_left_out_as_later_rows_are_later(compared: Compare) -> None:
    days = column([0, 1, 2], pa.date32())
    assert compared(days, days) == {}


def test_names_and_values_with_quotes_are_compared(compared: Compare) -> None:
    table = pa.table({'a "b" c\'s': ['x"', "y'"] * 50, "größe; DROP TABLE data": [1.5, 2.5] * 50})
    assert {drift.distance for drift in compared(table, table).values()} == {0}


# What once went unseen


@pytest.mark.parametrize(
    "broken",
    [[float("nan")] * 4000, [float("inf")] * 4000, ["error"] * 4000],
    ids=["nan", "inf", "text"],
)
def test_a_number_that_is_none_any_more_has_drifted(
    compared: Compare, broken: list[object]
) -> None:
    drift = compared(column(NORMAL), column(broken))["x"]
    assert drift.distance == 1 and drift.significant
    assert drift.words == "null or no number: 0.0% of rows before, 100.0% now"


def test_a_constant_that_begins_to_vary_has_drifted(compared: Compare) -> None:
    assert compared(column([7.0] * 4000), column(NORMAL))["x"].distance > 0.9


def test_a_category_that_now_is_stored_as_another_type_has_not_drifted(compared: Compare) -> None:
    codes = np.array([1, 2] * 500)
    found = compared(column(codes), column(codes.astype(float)), x=Kind.CATEGORY)
    assert found["x"].distance == 0


def test_columns_that_the_later_rows_lack_are_named_with_the_nearest() -> None:
    words = "^the later rows lack columns that prices reads: length, width.*did you mean 'lenght'"
    with pytest.raises(DataError, match=words):
        _refuse_missing(["length", "x", "width"], ["x", "lenght"], "prices")
    _refuse_missing(["x"], ["y", "x"], "prices")
