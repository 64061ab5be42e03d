"""The profile says what pandas says, and the same to the last bit however it is computed."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from treadle import profile as profiles
from treadle import scan, tally
from treadle.edges import BINS, QUANTILES, between, cell_edges, coarser
from treadle.kinds import infer_task, kinds_of
from treadle.profile import profile
from treadle.records import Gap, Kind, Profile, Task
from treadle.sampling import Sampling
from treadle.sql import connected, single

quick = settings(deadline=None, max_examples=60)
NORMAL = np.random.default_rng(0).normal(size=200)


@pytest.fixture
def profiled(parquet: Callable[[pa.Table], Path]) -> Callable[[pd.DataFrame], Profile]:
    def run(frame: pd.DataFrame) -> Profile:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return profile(parquet(table), kinds_of(table.schema, {}))

    return run


def test_numbers_are_profiled_as_pandas_sees_them(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    frame = load_breast_cancer(as_frame=True).frame
    frame = frame.mask(np.random.default_rng(0).uniform(size=frame.shape) < 0.1)
    found = profiled(frame)
    assert [column.name for column in found.columns] == list(frame.columns)
    for column in found.columns:
        known = frame[column.name]
        counted = (569, known.isna().sum(), known.nunique())
        assert (column.rows, column.nulls, column.distinct) == counted
        assert (column.minimum, column.maximum) == (known.min(), known.max())
        assert column.mean == pytest.approx(known.mean())
        assert sum(column.counts) == known.count()
        for level, quantile in zip(QUANTILES, column.quantiles, strict=True):
            below, up_to = (known < quantile).sum(), (known <= quantile).sum()
            assert below / known.count() - 0.01 <= level <= up_to / known.count() + 0.01


def test_a_histogram_counts_as_numpy_does_with_open_ends(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    (column,) = profiled(pd.DataFrame({"x": [*NORMAL, 1e6, -1e6]})).columns
    inner = np.array(column.edges[1:-1])
    known = np.bincount(np.digitize([*NORMAL, 1e6, -1e6], inner), minlength=BINS)
    assert column.counts == known.tolist()
    assert len(column.edges) == len(column.counts) + 1 == BINS + 1


def test_categories_booleans_and_times_are_profiled_as_pandas_sees_them(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "code": random.choice([*"abcé", None], 500),
            "open": random.choice([True, False], 500),
            "at": pd.date_range("1969-12-30", periods=500, freq="7h"),
        }
    )
    code, open_, at = profiled(frame).columns
    assert (code.nulls, code.distinct) == (frame["code"].isna().sum(), 4)
    assert {s.value: s.count for s in code.top} == frame["code"].value_counts().to_dict()
    assert {s.value: s.count for s in open_.top} == {
        str(value).lower(): count for value, count in frame["open"].value_counts().items()
    }
    assert (at.minimum, at.maximum) == (
        frame["at"].min().timestamp(),
        frame["at"].max().timestamp(),
    )
    assert [c.kind for c in (code, open_, at)] == [Kind.CATEGORY, Kind.BOOLEAN, Kind.TIME]


def test_the_same_rows_have_the_same_profile_to_the_last_bit(tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(0).lognormal(size=300_000)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=10_000)
    kinds = {"x": Kind.NUMBER}
    first, *others = (profile(tmp_path / "rows.parquet", kinds) for _ in range(4))
    assert all(other == first for other in others)


def test_values_that_are_not_finite_leave_the_numbers_alone(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    (column,) = profiled(pd.DataFrame({"x": [1.0, 3.0, float("inf"), float("-inf")]})).columns
    assert (column.minimum, column.maximum, column.mean) == (1, 3, 2)
    assert (column.nulls, column.distinct, sum(column.counts)) == (2, 2, 2)


def test_a_nan_is_a_null(parquet: Callable[[pa.Table], Path]) -> None:
    table = pa.table({"x": pa.array([1.0, float("nan"), None, 3.0])})
    (column,) = profile(parquet(table), kinds_of(table.schema, {})).columns
    assert (column.nulls, column.distinct) == (2, 2)


def test_the_widest_numbers_of_float32_are_profiled_and_wider_ones_are_nulls(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    widest, wider = 3.4028235e38, 2.0**128 - 2.0**103  # rounds to float32's widest, to infinity
    frame = pd.DataFrame({"x": [-1.5e308, -wider, -widest, 0.0, widest, wider, 1.5e308]})
    (column,) = profiled(frame).columns
    assert (column.minimum, column.maximum, column.nulls) == (-widest, widest, 4)
    assert sum(column.counts) == 3


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([0, 1, 1], Task.BINARY),
        ([0.0, 1.0, 2.0], Task.MULTICLASS),
        ([0.5, 1.5], Task.REGRESSION),
        (list(range(30)), Task.REGRESSION),
        (["a", "b", "c"], Task.MULTICLASS),
        ([True, False], Task.BINARY),
        ([0, 1], Task.BINARY),
        ([0] * 7 + [0.5] + [1] * 12, Task.REGRESSION),
    ],
)
def test_the_task_is_found_by_the_targets_values(
    profiled: Callable[[pd.DataFrame], Profile], values: list[object], task: Task
) -> None:
    (column,) = profiled(pd.DataFrame({"y": values * 100})).columns
    assert infer_task(column) is task


@pytest.mark.parametrize("few", [0, 50_000], ids=["between edges", "by value"])
def test_numbers_counted_by_value_and_by_sample_are_profiled_alike(
    few: int, parquet: Callable[[pa.Table], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "FEW", few)
    random = np.random.default_rng(3)
    values = np.concatenate([np.zeros(500), random.integers(-40, 900, 1500) / 4, [1e30]])
    table = pa.table({"x": values, "at": values[::-1]})
    found = profile(parquet(table), {"x": Kind.NUMBER, "at": Kind.NUMBER})
    for column in found.columns:
        assert column.distinct == len(np.unique(values))
        assert column.mean == pytest.approx(values.mean())
        assert not column.whole
        assert column.quantiles == [
            float(np.sort(values)[max(math.ceil(q * len(values)), 1) - 1]) for q in QUANTILES
        ]
        inner = cell_edges(column.quantiles)
        known = np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)
        assert column.cells == known.tolist()
        assert sum(column.counts) == sum(column.cells) == len(values)


def test_quantiles_of_a_large_table_are_of_a_sample_and_near(
    parquet: Callable[[pa.Table], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "SAMPLED_ROWS", 20_000)
    values = np.random.default_rng(0).lognormal(size=100_000)
    (column,) = profile(parquet(pa.table({"x": values})), {"x": Kind.NUMBER}).columns
    for level, quantile in zip(QUANTILES, column.quantiles, strict=True):
        assert (values <= quantile).mean() == pytest.approx(level, abs=0.015)
    assert column.mean == pytest.approx(values.mean(), rel=1e-12)
    assert sum(column.cells) == 100_000


def test_a_column_may_be_called_as_the_number_of_a_row(
    parquet: Callable[[pa.Table], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "SAMPLED_ROWS", 100)
    table = pa.table({"File_Row_Number": [7] * 5_000, "x": np.arange(5_000.0)})
    constant, x = profile(parquet(table), kinds_of(table.schema, {})).columns
    assert (constant.distinct, constant.quantiles[0], x.quantiles[10]) == (1, 7, 2499)


@pytest.fixture(scope="module")
def shared() -> Iterator[duckdb.DuckDBPyConnection]:
    with connected() as connection:
        yield connection


@quick
@given(
    values=st.lists(st.none() | st.floats(-1e30, 1e30) | st.integers(-3, 3).map(float), min_size=1),
    edges=st.lists(st.floats(-1e30, 1e30) | st.integers(-3, 3).map(float), max_size=8, unique=True),
)
def test_sql_counts_between_edges_as_numpy_does(
    values: list[float | None], edges: list[float], shared: duckdb.DuckDBPyConnection
) -> None:
    inner = sorted({edge + 0.0 for edge in edges})
    known = [value for value in values if value is not None]
    rows = ", ".join("(NULL)" if value is None else f"({value!r}::DOUBLE)" for value in values)
    (found,) = single(shared, f"SELECT {between('x', inner)} FROM (VALUES {rows}) data(x)")
    places = np.searchsorted(inner, known, side="right")
    wanted = np.bincount(places, minlength=len(inner) + 1).tolist() if known else None
    assert found == wanted
    if found:
        some = inner[::2]
        places = np.searchsorted(some, known, side="right")
        assert coarser(found, inner, some) == np.bincount(places, minlength=len(some) + 1).tolist()


def test_a_value_that_takes_up_several_quantiles_has_a_cell_of_its_own() -> None:
    assert cell_edges([0, 0, 1, 2]) == [0, math.nextafter(0, 1), 1, 2]
    assert cell_edges([7.0]) == [7, math.nextafter(7, 8)]


def test_lengths_and_words_of_texts_are_told(
    profiled: Callable[[pd.DataFrame], Profile],
) -> None:
    (column,) = profiled(pd.DataFrame({"x": ["größe", "a b c", None, ""]})).columns
    assert column.lengths is not None
    assert (column.lengths.shortest, column.lengths.longest) == (0, 5)
    assert column.lengths.mean == pytest.approx(10 / 3)
    assert column.lengths.mean_words == pytest.approx(5 / 3)


def test_the_days_without_a_row_are_found(profiled: Callable[[pd.DataFrame], Profile]) -> None:
    days = [date(2024, 2, 1) + timedelta(days=n) for n in range(60) if n not in (5, 30, 31, 32)]
    whole, holed = profiled(
        pd.DataFrame({"whole": pd.date_range("1969-12-01", periods=56), "holed": days})
    ).columns
    assert whole.gap is None
    start = pd.Timestamp("2024-03-02").timestamp()
    assert holed.gap == Gap(missing_days=4, longest_days=3, start=start)


def test_a_table_of_nulls_alone_is_profiled(parquet: Callable[[pa.Table], Path]) -> None:
    kinds = {kind.value: kind for kind in Kind}
    table = pa.table({name: pa.nulls(9, pa.string()) for name in kinds})
    for column in profile(parquet(table), kinds).columns:
        assert (column.rows, column.nulls, column.distinct) == (9, 9, 0)
        assert (column.minimum, column.quantiles, column.cells, column.top) == (None, [], [], [])


HOURS = st.integers(-40, 40).map(lambda hours: datetime(1970, 1, 1) + timedelta(hours=hours))
SMALL = {
    "whole": (pa.int64(), st.none() | st.integers(2**52, 2**52 + 90)),
    "wide": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "byte": (pa.int8(), st.none() | st.integers(-128, 127)),
    "unsigned": (pa.uint32(), st.none() | st.integers(2**31 - 5, 2**31 + 5)),
    "hour": (pa.timestamp("us", "UTC"), st.none() | HOURS.map(lambda at: at.replace(tzinfo=UTC))),
    "second": (pa.timestamp("us"), st.none() | st.datetimes(datetime(1960, 1, 1))),
    "nano": (pa.timestamp("ns"), st.none() | HOURS),
    "open": (pa.bool_(), st.none() | st.booleans()),
    "day": (pa.date32(), st.none() | st.dates(date(1969, 1, 1), date(1971, 1, 1))),
    "text": (pa.string(), st.none() | st.sampled_from(["", "a b", "größe", "日本", "'\"\\", "A"])),
}  # fmt: skip


@settings(deadline=None, max_examples=12)
@given(data=st.data(), rows=st.integers(1, 40), size=st.integers(1, 40))
def test_values_counted_as_they_are_decoded_are_those_that_sql_counts(
    data: st.DataObject, rows: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    columns = {
        name: pa.array(data.draw(st.lists(cells, min_size=rows, max_size=rows)), kind)
        for name, (kind, cells) in SMALL.items()
    }
    table = pa.table(columns)
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(table, path, row_group_size=size)
    kinds = kinds_of(table.schema, {})
    edges = profile(path, kinds).columns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "SAMPLED_ROWS", 7)
        decoded = profiles.profile_and_count(path, kinds, edges)
        patch.setattr(tally, "count", lambda *_: {})
        queried = profiles.profile_and_count(path, kinds, edges)
    assert decoded.profile == queried.profile
    assert decoded.counted == queried.counted
    for name, kind in kinds.items():
        ours, theirs = decoded.sample[name], queried.sample[name]
        assert np.array_equal(np.isnan(ours), np.isnan(theirs))
        if kind in (Kind.NUMBER, Kind.TIME):
            assert np.array_equal(ours, theirs, equal_nan=True)
        else:
            pairs = {*zip(ours[~np.isnan(ours)], theirs[~np.isnan(theirs)], strict=True)}
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_texts_that_turn_out_to_be_many_are_left_to_sql(
    parquet: Callable[[pa.Table], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "MOST_TEXTS", 150)
    texts = [f"t{i % 100}" for i in range(1_000)] + [f"u{i}" for i in range(1_000)]
    table = pa.table({"text": texts, "few": ["x", "y"] * 1_000})
    text, few = profile(parquet(table), kinds_of(table.schema, {})).columns
    assert (text.distinct, text.nulls, text.top[0].count) == (1_100, 0, 10)
    assert [share.count for share in few.top] == [1_000, 1_000]


def test_moments_between_the_steps_of_the_first_rows_are_left_to_sql(tmp_path: Path) -> None:
    hours = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(200)]
    table = pa.table({"at": [*hours, hours[-1] - timedelta(minutes=1)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=150)
    (at,) = profile(tmp_path / "rows.parquet", kinds_of(table.schema, {})).columns
    assert (at.distinct, at.nulls, sum(at.counts)) == (201, 0, 201)


@pytest.mark.parametrize("wanted", [1, 7, 1_000, 9_000])
def test_the_sampled_rows_are_spread_evenly_and_the_same_for_sql(
    wanted: int, shared: duckdb.DuckDBPyConnection
) -> None:
    sampling = Sampling(10_000, wanted)
    query = f"SELECT i FROM range(10_000) t(i) WHERE {sampling.where('i')} ORDER BY i"
    chosen = [i for (i,) in shared.sql(query).fetchall()]
    parts = [sampling.among(start, 2_500) + start for start in range(0, 10_000, 2_500)]
    assert np.concatenate(parts).tolist() == chosen
    assert len(chosen) == pytest.approx(10_000 / sampling.every, abs=2)
    assert not chosen or max(np.diff([0, *chosen, 10_000])) <= 3 * sampling.every
