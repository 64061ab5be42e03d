"""Tables as people have them: what is written is what is read, through every kind of source."""

import codecs
import gzip
import http.server
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from source_files import csv, taken, typed, workbook

from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, StoreError, TreadleError
from treadle.ingestion import snapshot, sources
from treadle.spec import Source

quick = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., pa.Table]:
    """Takes a snapshot of a source and returns its rows."""

    def take(path: object, **table: Any) -> pa.Table:
        return taken(path, tmp_path, **table)[1]

    return take


# --- what is written is what is read ------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
WHOLE = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda t: t.replace(microsecond=t.microsecond)
)
NOT_NUMBERS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=12
).filter(lambda text: not looks_like_another_type(text))
CELLS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): WHOLE,
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.string(): NOT_NUMBERS,
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): TIMES,
    pa.timestamp("us", "UTC"): TIMES.map(lambda t: t.replace(tzinfo=UTC)),
}


def looks_like_another_type(text: str) -> bool:
    """Text that a file without types can't tell from a number, a time, a boolean or no value."""
    stripped = text.strip()
    return (
        stripped.lower() in {"", "na", "null", "none", "nan", "inf", "infinity", "true", "false"}
        or any(c.isdigit() for c in stripped)
        or stripped in {"-", "--", "?", "\\N", "N/A", "n/a", "#N/A", "<NA>", "NaT"}
        or stripped.startswith("#")
    )


@st.composite
def tables(draw: st.DrawFn, kinds: list[pa.DataType] | None = None) -> pa.Table:
    types = draw(st.lists(st.sampled_from(kinds or list(CELLS)), min_size=1, max_size=5))
    rows = draw(st.integers(1, 12))
    names = draw(st.lists(NAMES, min_size=len(types), max_size=len(types),
                          unique_by=str.casefold))  # fmt: skip
    cells = [draw(st.lists(st.none() | CELLS[t], min_size=rows, max_size=rows)) for t in types]
    # A column without a value has no type in a file without types.
    assume(all(any(value is not None for value in column) for column in cells))
    arrays = [pa.array(values, t) for values, t in zip(cells, types, strict=True)]
    return pa.Table.from_arrays(arrays, names=[f"c{name}" for name in names])


def written(table: pa.Table) -> pa.Table:
    """Booleans and zoned times as text: Arrow writes 1 and 0, and a blank before the zone."""
    columns = []
    for column in table.columns:
        if pa.types.is_floating(column.type):
            column = pa.array(
                [None if v is None else repr(v) for v in column.to_pylist()], pa.string()
            )
        elif pa.types.is_timestamp(column.type):
            column = pa.array(
                [None if v is None else v.isoformat() for v in column.to_pylist()], pa.string()
            )
        elif not pa.types.is_string(column.type):
            column = column.cast(pa.string())
        columns.append(column)
    return pa.Table.from_arrays(columns, names=table.schema.names)


@quick
@given(tables(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_csv_gives_back_every_cell(table: pa.Table, delimiter: str, line: str) -> None:
    import csv as writers
    import tempfile

    out = io.StringIO(newline="")
    writer = writers.writer(
        out, delimiter=delimiter, lineterminator=line, quoting=writers.QUOTE_MINIMAL
    )
    writer.writerow(table.schema.names)
    for row in written(table).to_pylist():
        writer.writerow(["" if value is None else value for value in row.values()])
    with tempfile.TemporaryDirectory() as folder:
        path = csv(Path(folder), out.getvalue())
        stated = {"delimiter": delimiter, "header": True}
        _, found = taken(path, Path(folder), **stated)
    assert_equal(found, table)


def assert_equal(found: pa.Table, table: pa.Table) -> None:
    assert found.schema.names == table.schema.names
    for name in table.schema.names:
        was, now = table[name].to_pylist(), found[name].to_pylist()
        if pa.types.is_floating(table.schema.field(name).type):
            assert [None if v is None else float(v) for v in now] == was, name
        elif pa.types.is_temporal(table.schema.field(name).type):
            assert [_moment(v) for v in now] == [_moment(v) for v in was], name
        else:
            assert now == was, name


def _moment(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value


@quick
@given(tables())
def test_parquet_gives_back_every_cell_whatever_its_row_groups(table: pa.Table) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        digests = set()
        for rows in (1, 3, 1000):
            pq.write_table(table, path, row_group_size=rows)
            taken_, found = taken(path, Path(folder))
            digests.add(taken_.digest)
            assert found.to_pylist() == table.to_pylist()
            assert typed(found) == typed(table)
    assert len(digests) == 1


@quick
@given(tables([pa.int64(), pa.float64(), pa.string(), pa.bool_()]))
def test_json_lines_give_back_every_cell(table: pa.Table) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        _, found = taken(csv(Path(folder), lines, "table.jsonl"), Path(folder))
    assert_equal(found, table)


@settings(quick, max_examples=8)
@given(tables([pa.int64(), pa.float64(), pa.string()]))
def test_databases_give_back_every_cell(table: pa.Table) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with duckdb.connect(f"{folder}/table.duckdb") as connection:
            connection.register("given", table)
            connection.execute("CREATE TABLE rows AS FROM given")
        _, found = taken(f"{folder}/table.duckdb", Path(folder), query="rows")
        assert_equal(found, table)
        columns = ", ".join(
            f'"{name.replace(chr(34), chr(34) * 2)}"' for name in table.schema.names
        )
        with sqlite3.connect(f"{folder}/table.sqlite") as lite:
            lite.execute(f"CREATE TABLE rows ({columns})")
            places = ", ".join("?" * table.num_columns)
            rows = [tuple(row.values()) for row in table.to_pylist()]
            lite.executemany(f"INSERT INTO rows VALUES ({places})", rows)
        lite.close()
        _, found = taken(f"sqlite:///{folder}/table.sqlite", Path(folder), query="rows")
        assert_equal(found, table)


def test_excel_gives_back_every_cell(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    path = workbook(
        tmp_path / "table.xlsx",
        [["größe", "x", "größe", "", "ok", "tag"], [1, 0.5, "a", None, True, date(2024, 2, 29)],
         [None, 2.25, "", 7, False, date(2024, 3, 1)], [3, None, "ü", 8, True, None]],
    )  # fmt: skip
    found = read(path)
    assert found.to_pylist() == [
        {"größe": 1, "x": 0.5, "größe_2": "a", "column_4": None, "ok": True,
         "tag": date(2024, 2, 29)},
        {"größe": None, "x": 2.25, "größe_2": None, "column_4": 7, "ok": False,
         "tag": date(2024, 3, 1)},
        {"größe": 3, "x": None, "größe_2": "ü", "column_4": 8, "ok": True, "tag": None},
    ]  # fmt: skip
    with pytest.raises(DataError, match="no sheet 'Sheet2'; did you mean 'Sheet1'"):
        read(path, sheet="Sheet2")
    with pytest.raises(DataError, match=r"broken.xlsx can't be read: it is no workbook"):
        read(csv(tmp_path, "a,b\n1,2\n", "broken.xlsx"))


SHEET_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1,
                     max_size=12).filter(lambda text: not text.startswith("#"))  # fmt: skip
SHEET_CELLS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**53), 2**53),
    pa.float64(): st.floats(-1e308, 1e308, allow_subnormal=False),
    pa.string(): SHEET_TEXT,
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(date(1901, 1, 1), date(2200, 1, 1)),
}


@quick
@given(st.data(), st.integers(0, 6), st.lists(st.sampled_from([*SHEET_CELLS]), min_size=1,
                                              max_size=5))  # fmt: skip
def test_a_sheet_gives_back_every_cell(
    data: st.DataObject, rows: int, types: list[pa.DataType]
) -> None:
    import tempfile

    # The first and the last row hold a value in each column: an empty edge is no part of a sheet.
    ends = [data.draw(st.lists(SHEET_CELLS[kind], min_size=2, max_size=2)) for kind in types]
    columns = [
        [
            first,
            *data.draw(st.lists(st.none() | SHEET_CELLS[kind], max_size=rows, min_size=rows)),
            last,
        ]
        for kind, (first, last) in zip(types, ends, strict=True)
    ]
    names = data.draw(st.lists(SHEET_TEXT, min_size=len(types), max_size=len(types),
                               unique_by=str.casefold))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = workbook(Path(folder) / "t.xlsx", [names, *map(list, zip(*columns, strict=True))])
        _, found = taken(path, Path(folder))
    assert found.schema.names == names
    for name, column in zip(names, columns, strict=True):
        assert found[name].to_pylist() == column


def test_sheets_go_together_by_name_and_by_type(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    workbook(folder / "1.xlsx", [["a", "b", 2024], [1, "x", 1e300], [2, "y", 2]])
    workbook(folder / "2.xlsx", [["b", "a"], [3, 2.5]])
    found = read(folder)
    assert typed(found) == {"a": "double", "b": "string", "2024": "double"}
    assert found["b"].to_pylist() == ["x", "y", "3"]
    assert found["2024"].to_pylist() == [1e300, 2.0, None]
    one = folder / "1.xlsx"
    assert read(one, names=["q"]).schema.names == ["q", "b", "2024"]
    with pytest.raises(DataError, match=r"source.names has 4 names, but .*1.xlsx has 3 columns"):
        read(one, names=["a", "b", "c", "d"])


# --- dialects -----------------------------------------------------------------------------------


def test_a_bom_stays_out_of_the_first_name(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    found = read(csv(tmp_path, codecs.BOM_UTF8 + "größe;b\n1,5;x\n2,5;y\n".encode()))
    assert found.to_pylist() == [{"größe": 1.5, "b": "x"}, {"größe": 2.5, "b": "y"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_encodings_are_found_and_reported(encoding: str, tmp_path: Path) -> None:
    path = csv(tmp_path, "name,größe\nJosé,3\nZoë,4\n".encode(encoding))
    found, table = taken(path, tmp_path)
    assert table.to_pylist() == [{"name": "José", "größe": 3}, {"name": "Zoë", "größe": 4}]
    said = [note for note in found.notes if "encoding" in note]
    assert bool(said) == (encoding != "utf-8-sig")


def test_an_encoding_is_found_however_late_it_shows(tmp_path: Path) -> None:
    text = "name,n\n" + "Jose,3\n" * 60_000 + "José,4\n"
    found, table = taken(csv(tmp_path, text.encode("cp1252")), tmp_path)
    assert table["name"][-1].as_py() == "José"
    assert found.notes == ["its encoding is cp1252, taken because it is not UTF-8"]


def test_a_stated_encoding_stands(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    path = csv(tmp_path, "имя,n\nОльга,3\n".encode("cp1251"))
    assert read(path, encoding="cp1251").to_pylist() == [{"имя": "Ольга", "n": 3}]
    with pytest.raises(DataError, match="'utf-42', which Python doesn't know"):
        read(path, encoding="utf-42")


CASES: dict[str, tuple[list[str], list[Any], str | None]] = {
    "decimal commas": (["1,5", "2"], [1.5, 2.0], "decimal mark ','"),
    "thousands and decimal commas": (["1.234,5", "7"], [1234.5, 7.0], "thousands '.'"),
    "thousands": (["1,234,567", "7"], [1234567, 7], "thousands ','"),
    "blanks as thousands": (["1 234,5", "7,0"], [1234.5, 7.0], "thousands ' '"),
    "day first": (["31.12.2023", "1.2.2024"], [date(2023, 12, 31), date(2024, 2, 1)], "%d.%m.%Y"),
    "month first": (["12/31/2023", "2/1/2024"], [date(2023, 12, 31), date(2024, 2, 1)], "%m/%d/%Y"),
    "day first with slashes": (
        ["31/12/2023", "1/2/2024"], [date(2023, 12, 31), date(2024, 2, 1)], "%d/%m/%Y"),
    "mixed dates": (
        ["2023-12-31", "01.02.2024"], [datetime(2023, 12, 31), datetime(2024, 2, 1)],
        "ISO 8601 and as %d.%m.%Y"),
    "either way": (["01/02/2024", "03/04/2024"], [date(2024, 1, 2), date(2024, 3, 4)], "day first"),
    "contradictory": (["31/12/2023", "12/31/2023"], ["31/12/2023", "12/31/2023"], None),
    "no such day": (["2023-02-30", "2023-01-01"], ["2023-02-30", "2023-01-01"], None),
    "a sign for no value": (["-", "5"], [None, 5], "'-' is no value"),
    "a dash among texts": (["-", "x"], ["-", "x"], None),
    "gaps": (["", "9223372036854775807"], [None, 2**63 - 1], None),
    "beyond 64 bits": (["18446744073709551617", "2"], [Decimal(2**64 + 1), Decimal(2)], None),
    "beyond 128 bits": (["1" + "0" * 40, "x"], ["1" + "0" * 40, "x"], None),
    "leading zeros": (["007", "12"], [7, 12], "leading zeros"),
    "underscores": (["1_000", "2_000"], ["1_000", "2_000"], None),
    "booleans": (["true", "FALSE"], [True, False], None),
    "booleans in words": (["yes", "no"], ["yes", "no"], None),
    "zones": (
        ["2024-01-01T12:00:00+02:00", "2024-01-01 10:00:00Z"],
        [datetime(2024, 1, 1, 10, tzinfo=UTC)] * 2, None),
    "nanoseconds": (["2024-01-01 10:00:00.123456789"] * 2,
                    [pd.Timestamp("2024-01-01 10:00:00.123456789")] * 2, None),
    "names of days": (["Mo", "Di"], ["Mo", "Di"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_how_people_write_values_is_found_and_reported(case: str, tmp_path: Path) -> None:
    cells, wanted, said = CASES[case]
    text = "a;b\n" + "".join(f"{cell};x\n" for cell in cells)
    found, table = taken(csv(tmp_path, text), tmp_path)
    assert table["a"].to_pylist() == wanted
    notes = [note for note in found.notes if "delimiter" not in note]
    assert notes == [] if said is None else any(said in note for note in notes), notes


@pytest.mark.parametrize("case", CASES)
def test_what_shows_late_is_read_as_if_it_had_come_first(case: str, tmp_path: Path) -> None:
    cells, wanted, _ = CASES[case]
    filler = 60_000
    text = "a;b\n" + ";xxx\n" * filler + "".join(f"{cell};x\n" for cell in cells)
    _, table = taken(csv(tmp_path, text), tmp_path)
    assert table["a"].slice(filler).to_pylist() == wanted
    assert table["a"].null_count == filler + wanted.count(None)


def test_a_fraction_far_down_is_not_rounded(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    found = read(csv(tmp_path, "a,b\n" + "1,2\n" * 100_000 + "1.6,2\n"))
    assert found["a"][-1].as_py() == 1.6
    assert typed(found) == {"a": "double", "b": "int64"}


@pytest.mark.parametrize("rows", [3, 100_000])
def test_the_value_that_makes_a_text_of_numbers_is_named(rows: int, tmp_path: Path) -> None:
    lines = "".join(f"{i},A{i}\n" for i in range(rows))
    snapshot, table = taken(csv(tmp_path, f"id,code\n{lines}Total,\n"), tmp_path)
    assert typed(table) == {"id": "string", "code": "string"}
    assert snapshot.notes == [
        "column 'id' is text: 'Total' is no number (if it means no value, say so with source.nulls)"
    ]
    assert (
        typed(taken(csv(tmp_path, f"id,code\n{lines}Total,\n"), tmp_path, nulls=["Total", ""])[1])[
            "id"
        ]
        == "int64"
    )


@pytest.mark.parametrize(("most", "odd"), [("2.5", "2,5"), ("2,5", "2.5")])
def test_numbers_with_two_kinds_of_decimal_mark_are_a_text_and_said_to_be(
    most: str, odd: str, tmp_path: Path
) -> None:
    lines = "".join(f"{i};1{i}{most}\n" for i in range(9))
    snapshot, table = taken(csv(tmp_path, f"id;n\n{lines}10;{odd}\n"), tmp_path)
    assert typed(table)["n"] == "string"
    assert any(note.startswith(f"column 'n' is text: '{odd}' is no n") for note in snapshot.notes)


def test_what_a_file_tells_spreadsheets_is_heard(tmp_path: Path) -> None:
    for mark, line in ((";", "sep=;"), ("\t", "SEP=\t"), ("|", '"sep=|"')):
        text = f"{line}\r\nid{mark}note\r\n1{mark}a, b\r\n2{mark}c\r\n"
        snapshot, table = taken(csv(tmp_path, text), tmp_path)
        assert table.to_pylist() == [{"id": 1, "note": "a, b"}, {"id": 2, "note": "c"}]
        assert "left out before the table: 1 line" in snapshot.notes
    with pytest.raises(DataError, match="line 3 has 1 field where the first has 2"):
        taken(csv(tmp_path, "sep=;\nid;n\n1\n2;3\n"), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "id,x\n1,2.5\n2,1e400\n3,-inf\n"),
        ("t.csv", "id;x\n1;2,5\n2;" + "9" * 400 + "\n3;1\n"),
        ("t.jsonl", '{"id": 1, "x": 2.5}\n{"id": 2, "x": 1e400}\n{"id": 3, "x": -Infinity}\n'),
        ("t.json", '[{"id": 1, "x": 2.5}, {"id": 2, "x": 1e400}]'),
    ],
)
def test_numbers_too_large_to_be_held_are_reported_with_their_place(
    name: str, text: str, tmp_path: Path
) -> None:
    snapshot, _ = taken(csv(tmp_path, text, name), tmp_path)
    words = "column 'x' has infinite numbers, or such as are too large, from row 2 on"
    assert [note for note in snapshot.notes if note.startswith(words)] == [
        f"{words}: to a model they are null"
    ]


def test_infinite_numbers_of_a_typed_file_are_reported_wherever_they_stand(tmp_path: Path) -> None:
    values = [1.0] * 100_000 + [float("inf"), float("nan")]
    pq.write_table(pa.table({"x": values, "y": range(len(values))}), tmp_path / "t.parquet")
    snapshot, _ = taken(tmp_path / "t.parquet", tmp_path)
    assert len(snapshot.notes) == 1 and "from row 100,001 on" in snapshot.notes[0]


def test_whole_numbers_of_more_digits_than_any_type_has_are_not_changed(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    largest, more = "9" * 38, "9" * 39
    exact = read(csv(tmp_path, f"id,x\n1,{largest}\n2,-{largest}\n"))["x"].to_pylist()
    assert exact == [Decimal(largest), Decimal(f"-{largest}")]
    assert read(csv(tmp_path, f"id,x\n1,{more}\n2,3\n"))["x"].to_pylist() == [1e39, 3.0]
    with pytest.raises(DataError, match=r"row 1, column 'x': .* is not of type integer"):
        read(csv(tmp_path, f"id,x\n1,{more}\n2,3\n"), types={"x": "integer"})


def test_one_decimal_comma_speaks_for_the_whole_table(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    found = read(csv(tmp_path, "a;b\n1,5;1.234\n2,25;5.678\n"))
    assert found.to_pylist() == [{"a": 1.5, "b": 1234}, {"a": 2.25, "b": 5678}]


def test_what_the_spec_states_stands(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    path = csv(tmp_path, "zip;day;size;n\n01234;01/02/2024;S;-\n56789;03/04/2024;L;1.234\n")
    found = read(path, types={"zip": "text", "size": ["S", "M", "L"]}, dates=["%d/%m/%Y"],
                 decimal=",", nulls=["-"])  # fmt: skip
    assert found.to_pylist() == [
        {"zip": "01234", "day": date(2024, 2, 1), "size": "S", "n": None},
        {"zip": "56789", "day": date(2024, 4, 3), "size": "L", "n": 1234},
    ]
    with pytest.raises(DataError, match=r"table.csv, row 2, column 'size': 'L' is not one of S, M"):
        read(path, types={"size": ["S", "M"]})
    with pytest.raises(DataError, match=r"row 1, column 'size': 'S' is not of type integer"):
        read(path, types={"size": "integer"})
    with pytest.raises(DataError, match="'sise', which is no column; did you mean 'size'"):
        read(path, types={"sise": "text"})


def test_headers_comments_and_quotes(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    found = read(csv(tmp_path, '"a\nb","say ""hi"""\n"x, y","line\none"\nz,\n'))
    assert found.to_pylist() == [
        {"a\nb": "x, y", 'say "hi"': "line\none"},
        {"a\nb": "z", 'say "hi"': None},
    ]
    found = read(csv(tmp_path, "1,2.5\n3,4.5\n"), header=False, names=["a"])
    assert found.to_pylist() == [{"a": 1, "column1": 2.5}, {"a": 3, "column1": 4.5}]
    with pytest.raises(DataError, match=r"3 names, but .* has 2 columns"):
        read(csv(tmp_path, "1,2\n"), header=False, names=["a", "b", "c"])


def test_a_column_of_one_with_gaps_keeps_its_rows(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    assert read(csv(tmp_path, "a\n1\n\n3\n"))["a"].to_pylist() == [1, None, 3]


def test_names_are_repaired_and_reported(tmp_path: Path) -> None:
    found, table = taken(csv(tmp_path, "a,a,,Ü,ü\n1,2,3,4,5\n"), tmp_path)
    assert table.schema.names == ["a", "a_2", "column_3", "Ü", "ü_2"]
    assert found.notes == [
        "column 2 'a' is called 'a_2' here",
        "column 3 '' is called 'column_3' here",
        "column 5 'ü' is called 'ü_2' here",
    ]


# --- types --------------------------------------------------------------------------------------


def test_categories_keep_their_order(tmp_path: Path) -> None:
    sizes = pd.Categorical(["M", "S", None], categories=["S", "M", "L"], ordered=True)
    path = tmp_path / "t.parquet"
    pd.DataFrame({"size": sizes, "n": [1, 2, 3]}).to_parquet(path)
    found, table = taken(path, tmp_path)
    assert found.columns[0].categories == ["S", "M", "L"]
    assert table["size"].to_pylist() == ["M", "S", None]
    plain, _ = taken(csv(tmp_path, "size,n\nM,1\nS,2\n,3\n"), tmp_path)
    stated, _ = taken(csv(tmp_path, "size,n\nM,1\nS,2\n,3\n"), tmp_path,
                      types={"size": ["S", "M", "L"]})  # fmt: skip
    assert stated.digest == found.digest != plain.digest
    joined = {"tables": {"t": {"path": str(path)}}, "sql": "SELECT * FROM t ORDER BY size"}
    store = DirectoryStore(tmp_path / "objects")
    queried = snapshot.take(Source.model_validate(joined), store)
    assert queried.columns[0].categories == ["S", "M", "L"]
    assert pq.read_table(store.local(queried.data_key))["size"].to_pylist() == ["S", "M", None]


def test_zones_are_kept_and_never_mixed(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    berlin = pa.timestamp("us", "Europe/Berlin")
    at = pa.table({"at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)], berlin)})
    pq.write_table(at, tmp_path / "1.parquet")
    assert typed(read(tmp_path / "1.parquet")) == {"at": "timestamp[us, tz=Europe/Berlin]"}
    pq.write_table(pa.table({"at": [datetime(2024, 1, 1)]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="'at' is a time with a zone in one file and without"):
        read(tmp_path / "*.parquet")
    mixed = "at,n\n2024-01-01 10:00:00,1\n2024-01-01 10:00:00Z,2\n"
    with pytest.raises(DataError, match=r"column 'at' of .*table.csv mixes times with a zone"):
        read(csv(tmp_path, mixed))
    assert typed(read(csv(tmp_path, mixed), types={"at": "text"}))["at"] == "string"
    with pytest.raises(DataError, match=r"column 'at' of .*t.jsonl mixes times with a zone"):
        read(
            csv(
                tmp_path,
                '{"at": "2024-01-01 10:00:00"}\n{"at": "2024-01-01 10:00:00Z"}\n',
                "t.jsonl",
            )
        )


def test_json_numbers_stay_exact_and_texts_stay_texts(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    lines = '{"big": 18446744073709551617, "id": "007", "mixed": 1, "at": "2024-01-01T10:00:00Z"}\n'
    lines += '{"big": 2, "id": "008", "mixed": "x", "at": null, "später": true}\n'
    found = read(csv(tmp_path, lines, "t.jsonl"))
    assert found.to_pylist() == [
        {"big": Decimal(2**64 + 1), "id": "007", "mixed": "1",
         "at": datetime(2024, 1, 1, 10, tzinfo=UTC), "später": None},
        {"big": Decimal(2), "id": "008", "mixed": "x", "at": None, "später": True},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int64()), pa.struct([("x", pa.int64())]), pa.binary(), pa.duration("s"),
     pa.map_(pa.string(), pa.int64())],
    ids=str,
)  # fmt: skip
def test_a_column_of_a_type_that_no_model_reads_is_named(
    kind: pa.DataType, tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1], "basket": pa.array([None], kind)}), path)
    with pytest.raises(DataError, match=r"column 'basket' is of type .*leave it out with `sql`"):
        read(path)


# --- many files ---------------------------------------------------------------------------------


def test_directories_and_hive_partitions_are_columns(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    for kind in ("csv", "parquet"):
        root = tmp_path / kind
        for city, year in (("Köln", 2023), ("Ulm", 2024)):
            folder = root / f"stadt={city.replace('ö', '%C3%B6')}" / f"year={year}"
            folder.mkdir(parents=True)
            table = pa.table({"a": [year * 2, None]})
            if kind == "csv":
                pacsv.write_csv(table, folder / "part.csv")
            else:
                pq.write_table(table, folder / "part.parquet")
        (root / "_SUCCESS").touch()
        assert read(root).to_pylist() == [
            {"a": 4046, "stadt": "Köln", "year": 2023},
            {"a": None, "stadt": "Köln", "year": 2023},
            {"a": 4048, "stadt": "Ulm", "year": 2024},
            {"a": None, "stadt": "Ulm", "year": 2024},
        ]


def test_files_go_together_by_name_and_by_type(tmp_path: Path) -> None:
    csv(tmp_path, "a,b\n1,x\n", "1.csv")
    csv(tmp_path, "b;a;c\ny;2,5;7\n", "2.csv")
    found, table = taken(tmp_path / "*.csv", tmp_path)
    assert table.to_pylist() == [{"a": 1.0, "b": "x", "c": None}, {"a": 2.5, "b": "y", "c": 7}]
    assert any("1.csv has no column 'c'" in note for note in found.notes)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".csv.zip", ".jsonl.gz"])
def test_packed_files_are_read(ending: str, tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    text = b'{"a": 1}\n{"a": 2}\n' if "json" in ending else b"a\n1\n2\n"
    path = packed(tmp_path / f"table{ending}", text)
    assert read(path)["a"].to_pylist() == [1, 2]


def packed(path: Path, text: bytes) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.stem, text)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    else:
        path.write_bytes(pa.compress(text, "zstd", asbytes=True))
    return path


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".csv.zip", ".jsonl.gz"])
@pytest.mark.parametrize("kept", [0.2, 0.95, 0.9999])
def test_a_packed_file_that_is_cut_short_is_refused(
    ending: str, kept: float, tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    form = '{{"a": {}}}\n' if "json" in ending else "{},x\n"
    rows = "".join(form.format(i * 7919 % 10007) for i in range(50_000))
    path = packed(tmp_path / f"cut{ending}", rows.encode())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(
        DataError, match=rf"cut{ending}.*: (fetch or pack it again|mend it)"
    ) as told:
        read(path)
    assert not list((tmp_path / "objects").glob("snapshots/*"))
    print(told.value)


def test_row_one_million_with_a_field_too_many_is_named(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    path = csv(tmp_path, "a,b\n" + "1,x\n" * 999_999 + "1,x,surplus\n" + "1,x\n")
    with pytest.raises(DataError, match=r"table.csv, line 1000001 has 3 fields .* has 2"):
        read(path)
    assert not list((tmp_path / "objects").glob("snapshots/*"))


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n" + "1,x\n" * 100)
    store = DirectoryStore(tmp_path / "objects")
    with pytest.raises(DataError, match=r"table.csv changed while it was read"):  # noqa: SIM117
        with sources.opened(Source.model_validate(str(path))) as rows:
            for _ in rows.batches():
                path.write_text("a,b\n2,y\n", encoding="utf-8")
    assert list(store.keys()) == []


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=400), st.sampled_from(["t.csv", "t.parquet", "t.jsonl", "t.csv.gz"]))
def test_random_bytes_are_a_table_or_refused_in_words(data: bytes, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = csv(Path(folder), data, name)
        try:
            found, table = taken(path, Path(folder))
        except TreadleError as error:
            assert str(error)
        else:
            assert table.num_rows == found.rows


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_parquet_with_damaged_bytes_is_a_table_or_refused_in_words(
    place: int, data: bytes
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        pq.write_table(pa.table({"a": list(range(50)), "b": ["x"] * 50}), path)
        whole = bytearray(path.read_bytes())
        place %= len(whole)
        whole[place : place + len(data)] = data
        path.write_bytes(whole)
        try:
            taken(path, Path(folder))
        except TreadleError as error:
            assert str(error)


def test_a_database_says_why_it_refuses(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    with sqlite3.connect(tmp_path / "t.sqlite") as lite:
        lite.execute("CREATE TABLE flights (delay REAL)")
    lite.close()
    address = f"sqlite:///{tmp_path}/t.sqlite"
    with pytest.raises(DataError, match=r"no table 'flihgts'; did you mean 'flights'"):
        read(address, query="flihgts")
    with pytest.raises(
        DataError, match=r"refused the query 'SELECT dely FROM flights': no such col"
    ):
        read(address, query="SELECT dely FROM flights")
    with pytest.raises(DataError, match="has 1 column but no rows"):
        read(address, query="flights")
    with pytest.raises(DataError, match=r"nosuch://me@host/db is no database that can be asked"):
        read("nosuch://me:secret@host/db", query="SELECT 1 AS a")


def test_typed_columns_of_a_database_keep_their_types(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    with sqlite3.connect(tmp_path / "t.sqlite") as lite:
        lite.execute("CREATE TABLE t (day DATE, ok BOOLEAN, n NUMERIC(10, 2))")
        lite.execute("INSERT INTO t VALUES ('2024-02-29', 1, 2.5), (NULL, 0, NULL)")
    lite.close()
    assert read(f"sqlite:///{tmp_path}/t.sqlite").to_pylist() == [
        {"day": date(2024, 2, 29), "ok": True, "n": Decimal("2.50")},
        {"day": None, "ok": False, "n": None},
    ]


# --- addresses ----------------------------------------------------------------------------------


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/denied"):
            self.send_error(403)
        elif self.path.startswith("/t.csv"):
            body = "größe,b\n1,x\n".encode()
            self.send_response(200)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(body) + 10 * ("cut" in self.path)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - as the server calls it

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_table_behind_an_address_is_read(
    pages: str, tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    found, table = taken(f"{pages}/t.csv?signature=secret", tmp_path)
    assert table.to_pylist() == [{"größe": 1, "b": "x"}]
    assert found.source == f"{pages}/t.csv"
    with pytest.raises(DataError, match=r"/no.csv can't be fetched: there is no such file"):
        read(f"{pages}/no.csv")
    with pytest.raises(DataError, match=r"/denied.csv can't be fetched: it denies access"):
        read(f"{pages}/denied.csv")
    with pytest.raises(StoreError, match=r"t.csv can't be fetched"):
        read(f"{pages}/t.csv?cut")
    with pytest.raises(StoreError, match=r"127.0.0.1:1/t.csv can't be fetched"):
        read("http://127.0.0.1:1/t.csv")


def test_a_title_above_the_table_is_left_out_and_rows_never_are(tmp_path: Path) -> None:
    body = "a,b\n" + "1,x\n2,y\n" * 5
    found, table = taken(csv(tmp_path, "Sales of 2023\n\n" + body), tmp_path)
    assert (table.schema.names, table.num_rows) == (["a", "b"], 10)
    assert found.notes == ["left out before the table: 2 lines"]
    with pytest.raises(DataError, match=r"line 2 has 3 fields where the first has 2"):
        taken(csv(tmp_path, "a,b\n1,x,surplus\n"), tmp_path)
