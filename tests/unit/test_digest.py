"""A snapshot's digest names its content: nothing else moves it, and everything in it does."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle import snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.digest import ContentDigest
from treadle.errors import DataError

quick = settings(deadline=None, max_examples=60)

CELLS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=6),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ms", "UTC"): st.integers(-(2**40), 2**40),
    pa.decimal128(6, 2): st.integers(-9999, 9999).map(lambda cents: Decimal(cents) / 100),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    types = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4))
    rows = draw(st.integers(1, 12))
    cells = [draw(st.lists(st.none() | CELLS[t], min_size=rows, max_size=rows)) for t in types]
    arrays = [pa.array(values, t) for values, t in zip(cells, types, strict=True)]
    return pa.table(arrays, names=[f"column {i}" for i in range(len(types))])


def digest(*parts: pa.Table) -> str:
    content = ContentDigest(parts[0].schema)
    for part in parts:
        for batch in part.to_batches():
            content.update(batch)
    return content.hexdigest()


@quick
@given(tables(), st.data())
def test_batch_boundaries_do_not_move_the_digest(table: pa.Table, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, table.num_rows), max_size=4)))
    bounds = zip([0, *cuts], [*cuts, table.num_rows], strict=True)
    copies = [pa.Table.from_pylist(table[a:b].to_pylist(), table.schema) for a, b in bounds]
    assert digest(*copies) == digest(table)


@quick
@given(tables(), st.integers(0, 3), st.integers(0, 3))
def test_an_array_that_is_a_slice_of_a_longer_one_has_its_own_digest(
    table: pa.Table, before: int, after: int
) -> None:
    rows = table.to_pylist()
    longer = pa.Table.from_pylist(rows[:1] * before + rows + rows[-1:] * after, table.schema)
    assert digest(longer.slice(before, table.num_rows)) == digest(table)


@given(st.lists(st.none() | st.text(max_size=6), min_size=1))
def test_large_strings_are_strings(values: list[str | None]) -> None:
    small, large = (pa.table({"a": pa.array(values, t)}) for t in (pa.string(), pa.large_string()))
    assert digest(small) == digest(large)


@quick
@given(tables(), st.data())
def test_any_other_cell_gives_another_digest(table: pa.Table, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, table.num_rows - 1))
    name = data.draw(st.sampled_from(table.column_names))
    rows = table.to_pylist()
    kind = table.schema.field(name).type
    other = pa.scalar(data.draw(st.none() | CELLS[kind]), kind).as_py()
    same = rows[row][name] == other or (other != other and rows[row][name] != rows[row][name])
    rows[row][name] = other
    changed = pa.Table.from_pylist(rows, table.schema)
    assert (digest(changed) == digest(table)) == same


PLAIN = pa.table({"a": [1, 2], "b": ["x", "yz"]})


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.rename_columns(["a", "B"]),
        PLAIN.select(["b", "a"]),
        PLAIN.set_column(0, "a", pa.array([1.0, 2.0])),
        PLAIN.set_column(0, "a", pa.array([1, 2], pa.int32())),
        PLAIN.set_column(1, "b", pa.array(["xy", "z"])),
        PLAIN.take([1, 0]),
        PLAIN.slice(0, 1),
        pa.concat_tables([PLAIN, PLAIN]),
        PLAIN.append_column("c", pa.nulls(2)),
        PLAIN.rename_columns(["b", "a"]),
    ],
    ids=[
        *["a name", "order of columns", "a type", "a width", "letters moved to the next cell"],
        *["order of rows", "a row less", "rows twice", "an empty column", "names exchanged"],
    ],
)
def test_anything_else_about_a_table_gives_another_digest(other: pa.Table) -> None:
    assert digest(other) != digest(PLAIN)


@pytest.mark.parametrize(
    ("kind", "zero"),
    [
        *[(pa.int64(), 0), (pa.float64(), 0.0), (pa.string(), ""), (pa.bool_(), False)],
        *[(pa.date32(), date(1970, 1, 1)), (pa.timestamp("us"), datetime(1970, 1, 1))],
        (pa.timestamp("s", "UTC"), datetime(1970, 1, 1, tzinfo=UTC)),
        (pa.float64(), float("nan")),
    ],
    ids=str,
)
def test_a_null_is_no_zero(kind: pa.DataType, zero: object) -> None:
    null, filled = (pa.table({"a": pa.array([value], kind)}) for value in (None, zero))
    assert digest(null) != digest(filled)


def test_minus_zero_is_zero_and_there_is_one_nan() -> None:
    zero, minus = (pa.table({"a": [1.5, value]}) for value in (0.0, -0.0))
    assert digest(zero) == digest(minus)
    odd = pa.Array.from_buffers(
        pa.float64(), 1, [None, pa.py_buffer((0xFFF8000000000001).to_bytes(8, "little"))]
    )
    assert digest(pa.table({"a": odd})) == digest(pa.table({"a": [float("nan")]}))


def test_a_digest_never_changes_between_releases() -> None:
    table = pa.table(
        {
            "größe": [1, None, 3],
            "name": ["a", None, ""],
            "x": [0.5, -0.0, None],
            "open": [True, None, False],
            "day": [date(2024, 2, 29), None, date(1900, 1, 1)],
            "at": pa.array([datetime(2024, 2, 29, 12), None, None], pa.timestamp("us", "UTC")),
        }
    )
    assert digest(table) == "ae4db8b451a1ad21e6729aab4d7653ad"


# Snapshots


def reader(table: pa.Table, rows: int = 1000) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=rows))


def stamps(store: DirectoryStore) -> dict[str, int]:
    keys = list(store.keys())
    return {key: store.local(key).stat().st_mtime_ns for key in keys}


def test_the_same_rows_have_one_digest_and_are_stored_once(store: DirectoryStore) -> None:
    table = pa.table({"a": list(range(100)), "b": ["x", None] * 50})
    first = snapshots.publish(reader(table), "one source", store)
    written = stamps(store)
    second = snapshots.publish(reader(table, rows=7), "another source", store)
    assert second.digest == first.digest == digest(table)
    assert stamps(store) == written
    assert len(written) == 2
    assert snapshots.load(first.digest, store) == first


def test_a_snapshot_holds_the_rows_and_says_so(store: DirectoryStore) -> None:
    letters = pa.array(["x", "y"]).dictionary_encode()
    table = pa.table({"a": pa.array([1, None], pa.int8()), "b": letters})
    snapshot = snapshots.publish(reader(table), "here", store)
    path = store.local(snapshot.data_key)
    assert snapshots.schema_of(path) == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert pq.read_table(path).to_pylist() == table.to_pylist()
    assert (snapshot.rows, snapshot.size_bytes) == (2, path.stat().st_size)
    assert [(c.name, c.type) for c in snapshot.columns] == [("a", "int64"), ("b", "string")]


def test_repeated_empty_and_padded_names_are_repaired_and_noted(store: DirectoryStore) -> None:
    table = pa.Table.from_arrays([pa.array([1])] * 5, names=["a", "a", "", " b ", "a_2"])
    snapshot = snapshots.publish(reader(table), "here", store)
    assert [c.name for c in snapshot.columns] == ["a", "a_2", "column_3", "b", "a_2_2"]
    assert snapshot.notes == [
        "column 2 'a' is called 'a_2' here",
        "column 3 '' is called 'column_3' here",
        "column 4 ' b ' is called 'b' here",
        "column 5 'a_2' is called 'a_2_2' here",
    ]


def test_names_that_differ_in_case_alone_are_repaired(store: DirectoryStore) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["size", "SIZE"])
    snapshot = snapshots.publish(reader(table), "here", store)
    assert [column.name for column in snapshot.columns] == ["size", "SIZE_2"]
    assert snapshot.notes == ["column 2 'SIZE' is called 'SIZE_2' here"]


def test_batches_without_rows_change_nothing(store: DirectoryStore) -> None:
    (full,) = PLAIN.to_batches()
    empty = full.slice(0, 0)
    streamed = pa.RecordBatchReader.from_batches(PLAIN.schema, [empty, full, empty])
    assert snapshots.publish(streamed, "here", store).digest == digest(PLAIN)


def test_a_table_without_rows_is_refused_and_leaves_nothing(store: DirectoryStore) -> None:
    with pytest.raises(DataError, match=r"^here has 2 columns but no rows: "):
        snapshots.publish(reader(PLAIN.slice(0, 0)), "here", store)
    assert list(store.keys()) == []


def test_rows_that_break_off_are_put_in_words_and_leave_nothing(store: DirectoryStore) -> None:
    def batches() -> Any:
        yield PLAIN.to_batches()[0]
        raise pa.ArrowInvalid("row 3 has\n3 columns")

    broken = pa.RecordBatchReader.from_batches(PLAIN.schema, batches())
    with pytest.raises(
        DataError, match=r"^here can't be read to the end: row 3 has 3 columns: mend"
    ):
        snapshots.publish(broken, "here", store)
    assert list(store.keys()) == []
