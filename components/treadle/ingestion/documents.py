"""JSON lines: one object a line, its keys the columns; or one array of such objects. DuckDB finds
the keys and their types in all of them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from treadle.errors import DataError
from treadle.ingestion import text as texts
from treadle.ingestion.readings import AWARE, Proof, Words
from treadle.ingestion.rows import BATCH_ROWS, Partitions, Rows
from treadle.spec import Table
from treadle.sql import connected, quoted

# A value of a type that DuckDB has none for: several in one column, or none at all.
_UNTYPED = ("JSON", '"NULL"')
_NUMBERS = ("DOUBLE", "HUGEINT", "UBIGINT")
_TEXTS = ("VARCHAR", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "UUID")
_COPY_BYTES = 1 << 20


def read(paths: Sequence[Path], table: Table, scratch: Path, partitions: Partitions) -> Rows:
    """Return the rows of the files, one after the other; a key that a line lacks is null.

    Raises DataError, while they are read as well, that names the line that is no JSON.
    """
    plain = [_plain(path, table, scratch) for path in paths]
    arrays = [_is_array(path) for path in plain]
    if any(arrays) and not all(arrays):
        one, other = paths[arrays.index(True)], paths[arrays.index(False)]
        raise DataError(f"{one} is an array and {other} has lines of objects: write all in one way")
    is_array = all(arrays)
    with connected() as connection:
        query = _query(connection, [str(path) for path in plain], paths, is_array)
        schema = connection.sql(query.format(files=_listed(plain))).limit(0).to_arrow_table().schema
    whole = partitions.extended(schema)

    def batches() -> Iterator[pa.RecordBatch]:
        with connected() as connection:
            for place, path in enumerate(plain):
                one = connection.sql(query.format(files=_listed([path])))
                try:
                    for batch in one.to_arrow_reader(BATCH_ROWS):
                        yield partitions.added(batch, place, whole)
                except (duckdb.Error, pa.ArrowException) as error:
                    raise _unreadable(paths, plain, error) from error

    return Rows(whole, batches)


def _plain(path: Path, table: Table, scratch: Path) -> Path:
    """Return the file as UTF-8, unpacked, under a name that is no pattern."""
    file = texts.found(path, table.encoding)
    copy = scratch / f"{len(list(scratch.iterdir()))}.jsonl"
    if texts.packing(path) is None and file.encoding == "utf-8":
        copy.symlink_to(path.absolute())
        return copy
    with file.opened() as stream, texts.faults_in_words(file), copy.open("wb") as out:
        while data := stream.read(_COPY_BYTES):
            out.write(data)
    return copy


def _is_array(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(_COPY_BYTES).lstrip().startswith("[")


def _query(
    connection: duckdb.DuckDBPyConnection,
    names: list[str],
    given: Sequence[Path],
    is_array: bool,
) -> str:
    """Return the query that reads ``{files}``. Types are DuckDB's where it has one; whole numbers
    beyond 64 bits stay exact; times are times where all of them name their zone, or none does."""
    listed = _listed([Path(name) for name in names])
    kind = "array" if is_array else "newline_delimited"
    options = f"format='{kind}', union_by_name=true"
    try:
        found = connection.sql(f"FROM read_json({listed}, {options}, sample_size=-1)")
        types = dict(zip(found.columns, map(str, found.types), strict=True))
    except duckdb.Error as error:
        raise _unreadable(given, [Path(name) for name in names], error) from error
    if not types or list(types) == ["json"]:
        raise DataError(f"{given[0]} can't be read: it holds no JSON objects: write a row as "
                        '{"column": value}')  # fmt: skip
    asked = [name for name, kind in types.items() if kind in (*_NUMBERS, *_TEXTS)]
    columns = {n: "VARCHAR" if n in asked or k in _UNTYPED else k for n, k in types.items()}
    spelled = ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items())
    spelled = spelled.replace("{", "{{").replace("}", "}}")
    source = f"read_json({{files}}, {options}, columns={{{{{spelled}}}}})"
    chosen = _types(
        connection, source.format(files=listed), {name: types[name] for name in asked}, given
    )
    cast = (
        f"CAST({quoted(name)} AS {chosen[name]}) AS {quoted(name)}"
        if name in chosen
        else quoted(name)
        for name in types
    )
    return f"SELECT {', '.join(cast).replace('{', '{{').replace('}', '}}')} FROM {source}"


def _types(
    connection: duckdb.DuckDBPyConnection, source: str, found: dict[str, str], given: Sequence[Path]
) -> dict[str, str]:
    """Settle numbers that are too large for 64 bits and texts that are times."""
    chosen = dict(found)
    for name in (name for name, kind in found.items() if kind in _NUMBERS):
        column = quoted(name)
        ((whole, fits),) = connection.sql(
            f"SELECT bool_and(regexp_full_match({column}, '-?[0-9]+')), "
            f"bool_and(TRY_CAST({column} AS DECIMAL(38, 0)) IS NOT NULL) FROM {source} "
            f"WHERE {column} IS NOT NULL"
        ).fetchall()
        if whole:
            chosen[name] = "DECIMAL(38, 0)" if fits else "VARCHAR"
    proofs = {n: Proof(Words(nulls=())) for n, kind in found.items() if kind in _TEXTS}
    chosen |= dict.fromkeys(proofs, "VARCHAR")
    if proofs:
        columns = ", ".join(quoted(name) for name in proofs)
        for batch in connection.sql(f"SELECT {columns} FROM {source}").to_arrow_reader(BATCH_ROWS):
            for name, proof in proofs.items():
                proof.add(batch.column(name))
        for name, proof in proofs.items():
            if proof.mixes_zones:
                raise DataError(
                    f"column {name!r} of {given[0]} mixes times with a zone and times without: "
                    "write all in one way"
                )
            kind = proof.reading().type
            if pa.types.is_date(kind):
                chosen[name] = "DATE"
            elif pa.types.is_timestamp(kind) and proof.reading().is_native:
                chosen[name] = "TIMESTAMPTZ" if proof.reading() in AWARE else "TIMESTAMP"
    return chosen


def _listed(files: Sequence[Path]) -> str:
    return "[" + ", ".join(_text(str(file)) for file in files) + "]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _unreadable(given: Sequence[Path], plain: Sequence[Path], error: Exception) -> DataError:
    words = " ".join(str(error).split())
    place = given[0]
    for own, name in zip(given, plain, strict=True):
        if str(name) in words:
            place, words = own, words.replace(str(name), own.name)
    line = re.search(r"[Ll]ine:? (\d+)", words)
    where = f", line {line[1]}" if line else ""
    words = words.removeprefix("Invalid Input Error: ").partition(" Try ")[0]
    return DataError(
        f"{place}{where} can't be read: {words[:300].rstrip('.')}: mend it there (each line is one "
        "whole object, or the file one array of them)"
    )
