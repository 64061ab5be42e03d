"""What the spec states of a table stands or is refused; files that are cut, mixed up or not what
they are called are refused in words, and no row is lost."""

import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from source_files import csv, taken, workbook

from treadle.errors import DataError


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., pa.Table]:
    """Takes a snapshot of a source and returns its rows."""

    def take(path: object, **table: Any) -> pa.Table:
        return taken(path, tmp_path, **table)[1]

    return take


# --- what is stated stands, or is refused -------------------------------------------------------


def as_csv(table: pa.Table, folder: Path) -> Path:
    pacsv.write_csv(table, folder / "t.csv")
    return folder / "t.csv"


def as_parquet(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def as_json(table: pa.Table, folder: Path) -> Path:
    return csv(folder, "".join(json.dumps(row) + "\n" for row in table.to_pylist()), "t.jsonl")


def as_sheet(table: pa.Table, folder: Path) -> Path:
    cells = [list(row.values()) for row in table.to_pylist()]
    return workbook(folder / "t.xlsx", [table.schema.names, *cells])


def as_database(table: pa.Table, folder: Path) -> Path:
    with duckdb.connect(str(folder / "t.duckdb")) as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE rows AS FROM given")
    return folder / "t.duckdb"


FORMATS = [as_csv, as_parquet, as_json, as_sheet, as_database]


@pytest.mark.parametrize("write", FORMATS)
def test_stated_types_stand_in_every_format(
    write: Callable[[pa.Table, Path], Path], tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    table = pa.table({"zip": [1234, 99], "n": ["7", None], "size": ["S", "L"],
                      "on": ["2024-02-29", "2024-03-01"], "x": [1, 2]})  # fmt: skip
    path = write(table, tmp_path)
    types = {"zip": "text", "n": "integer", "size": ["S", "M", "L"], "on": "date", "x": "number"}
    found = read(path, types=types)
    kinds = ["string", "int64", "string", "date32[day]", "double"]
    assert [str(field.type) for field in found.schema] == kinds
    assert found.to_pylist()[0] == {"zip": "1234", "n": 7, "size": "S", "on": date(2024, 2, 29),
                                    "x": 1.0}  # fmt: skip
    assert found.schema.field("size").metadata == {b"treadle.categories": b'["S", "M", "L"]'}
    with pytest.raises(DataError, match="row 2, column 'size': 'L' is not one of S, as source"):
        read(path, types={"size": ["S"]})
    with pytest.raises(DataError, match=r"row 1, column 'on': .* is not of type integer, as sou"):
        read(path, types={"on": "integer"})
    with pytest.raises(DataError, match="names 'sise', which is no column; did you mean 'size'"):
        read(path, types={"sise": "text"})


def test_a_stated_type_loses_nothing(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    at = [datetime(2024, 1, 1), datetime(2024, 1, 2, 3)]
    path = as_parquet(pa.table({"at": at, "share": [0.0, 0.5], "n": [0, 1]}), tmp_path)
    for name, kind in [("at", "date"), ("share", "integer"), ("share", "boolean")]:
        with pytest.raises(DataError, match=f"row 2, column '{name}': .* is not of type {kind}"):
            read(path, types={name: kind})
    assert read(path, types={"n": "boolean"})["n"].to_pylist() == [False, True]


def test_a_directory_named_by_a_code_keeps_its_zeros(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    folder = tmp_path / "shops" / "zip=01067"
    folder.mkdir(parents=True)
    csv(folder, "a\n1\n")
    assert read(tmp_path / "shops", types={"zip": "text"})["zip"].to_pylist() == ["01067"]
    assert read(tmp_path / "shops")["zip"].to_pylist() == [1067]


@pytest.mark.parametrize("write", FORMATS)
def test_what_says_nothing_of_a_format_is_refused(
    write: Callable[[pa.Table, Path], Path], tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    path = write(pa.table({"a": [1]}), tmp_path)
    stated = {"sheet": "x"} if write is not as_sheet else {"delimiter": ";"}
    with pytest.raises(DataError, match=rf"source.{next(iter(stated))} is for .*: leave it out"):
        read(path, **stated)


# --- files that are cut, mixed up or not what they are called -------------------------------------


def test_an_array_of_objects_is_a_table_too(tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    text = json.dumps([{"x": 2**63, "s": "a"}, {"x": 1}], indent=1)
    assert read(csv(tmp_path, text, "t.json")).to_pylist() == [
        {"x": Decimal(2**63), "s": "a"},
        {"x": Decimal(1), "s": None},
    ]
    folder = tmp_path / "both"
    folder.mkdir()
    csv(folder, text, "a.json"), csv(folder, '{"x": 1}\n', "b.jsonl")
    with pytest.raises(DataError, match=r"a.json is an array and .*b.jsonl has lines of objects"):
        read(folder)
    for broken in ('{\n"x": 1\n}\n', '[{"x": 1}, {"x"'):
        with pytest.raises(DataError, match="each line is one whole object, or the file one array"):
            read(csv(tmp_path, broken, "t.json"))


@pytest.mark.parametrize("rows", [30, 300, 60_000])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_row_with_a_field_too_few_is_named_wherever_it_stands(
    rows: int, mark: str, tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    text = f"a{mark}b\n" + f"1{mark}2\n" * rows + "1\n" + f"1{mark}2\n" * 5
    with pytest.raises(DataError, match=f"line {rows + 2} has 1 field where the first has 2"):
        read(csv(tmp_path, text))


def test_a_header_that_holds_marks_in_quotes_is_one_column(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    assert read(csv(tmp_path, '"a,b"\n1\n2\n'))["a,b"].to_pylist() == [1, 2]
    assert read(csv(tmp_path, "text\nhello, you\nbye\n"))["text"][0].as_py() == "hello, you"


@pytest.mark.parametrize("rows", [3, 100_000])
def test_a_quote_that_is_never_closed_swallows_no_rows(
    rows: int, tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    with pytest.raises(DataError, match=r"is opened before 'x' and never closed"):
        read(csv(tmp_path, 'a,b\n1,"x\n' + "2,y\n" * rows))
    closed = read(csv(tmp_path, 'a,b\n1,"x\n' + "2,y\n" * rows + '"\n'))
    assert closed.num_rows == 1


def test_a_header_without_rows_is_said_with_and_without_its_last_line_feed(
    tmp_path: Path, read: Callable[..., pa.Table]
) -> None:
    for text in ("a,b", "a,b\n", "a,b\r\n"):
        with pytest.raises(DataError, match="has 2 columns but no rows"):
            read(csv(tmp_path, text))


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_a_web_page_is_no_table(name: str, tmp_path: Path, read: Callable[..., pa.Table]) -> None:
    with pytest.raises(DataError, match="is a web page and no table"):
        read(csv(tmp_path, "\n<!DOCTYPE html><html>log in</html>\n", name))
