"""Open a source: find what its tables' paths name, read each in its format, join them by SQL."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from treadle import snapshots
from treadle.errors import DataError, TreadleError
from treadle.ingestion import (
    database,
    delimited,
    documents,
    files,
    parquet,
    spreadsheet,
    stated,
)
from treadle.ingestion.rows import BATCH_ROWS, Partitions, Rows, consumed
from treadle.ports import Outside
from treadle.records import SourceFile
from treadle.snapshots import categories_of
from treadle.spec import Format, Source, Table, ValueType
from treadle.sql import quoted

REMOTE = ("s3", "http", "https")


def described(source: Source) -> str:
    """Return where the rows come from, in words that hold no password."""
    return "; ".join(database.shown(table.path) for table in source.tables.values())


def files_behind(source: Source, outside: Outside | None = None) -> list[SourceFile]:
    """Return every file behind the source as it is now, without reading it. A database counts as
    changed each time. Raises DataError where a path names none."""
    found = []
    for table in source.tables.values():
        if database.is_database(table.path) and "://" in table.path:
            shown = database.shown(table.path)
            found.append(SourceFile(path=shown, size_bytes=0, stamp=str(time.time_ns())))
        elif urlsplit(table.path).scheme in REMOTE:
            found += _reach(table, outside).found(table.path)
        else:
            found += [files.seen(path) for path in files.named_by(table.path)]
    return found


def fingerprint(source: Source, outside: Outside | None = None) -> str:
    """Return words that change when a file behind the source does.

    The launcher passes it to the ingestion step, so that a step's cache notices a changed file.
    """
    return "\n".join(
        f"{file.path} {file.size_bytes} {file.stamp}" for file in files_behind(source, outside)
    )


@contextmanager
def opened(
    source: Source, outside: Outside | None = None, only: Sequence[str] | None = None
) -> Iterator[Rows]:
    """Yield the source's rows; ``only`` these files of a single table, where it is given.

    Raises DataError, while they are read as well, where a file can't be read or the query is wrong.
    """
    with TemporaryDirectory(prefix="treadle-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        tables = {
            name: stack.enter_context(_table(table, scratch / str(place), outside, only))
            for place, (name, table) in enumerate(source.tables.items())
        }
        rows = next(iter(tables.values())) if source.sql is None else None
        if rows is None:
            connection = stack.enter_context(duckdb.connect())
            rows = _joined(connection, source, tables, scratch)
        yield rows


@contextmanager
def _table(
    table: Table, scratch: Path, outside: Outside | None, only: Sequence[str] | None
) -> Iterator[Rows]:
    scratch.mkdir()
    if database.is_database(table.path):
        shown = database.shown(table.path)
        stated.refuse_unheard(table, shown, None)
        rows = database.read(table, scratch, outside.password if outside else None)
        yield stated.typed(rows, table, shown)
        return
    if urlsplit(table.path).scheme in REMOTE:
        reach = _reach(table, outside)
        found = [file for file in reach.found(table.path) if only is None or file.path in only]
        paths = [reach.fetched(file, scratch) for file in found]
        names = [Path(urlsplit(file.path).path) for file in found]
    else:
        paths = names = [
            path for path in files.named_by(table.path) if only is None or str(path) in only
        ]
    for path in paths:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has no header and no rows; write the table again")
    with files.unchanged(paths):
        yield _read(paths, names, table, scratch)


def _reach(table: Table, outside: Outside | None) -> "Outside":
    if outside is None:
        raise DataError(f"{database.shown(table.path)} is no file of this machine: fetch it first")
    return outside


def _read(paths: Sequence[Path], names: Sequence[Path], table: Table, scratch: Path) -> Rows:
    pairs = zip(paths, names, strict=True)
    formats = {files.format_of(path, name, table) for path, name in pairs}
    if len(formats) > 1:
        listed = " and ".join(sorted(formats))
        raise DataError(f"{table.path} names {listed} files: name those that make up the table")
    shown = database.shown(table.path)
    kind = formats.pop()
    stated.refuse_unheard(table, shown, kind)
    as_written = [n for n, t in table.types.items() if t is ValueType.TEXT or isinstance(t, list)]
    partitions = Partitions.of([files.partition(name) for name in names], as_written)
    if kind is Format.CSV:
        return delimited.read(paths, table, scratch, partitions)
    if kind is Format.JSON:
        rows = documents.read(paths, table, scratch, partitions)
    elif kind is Format.EXCEL:
        rows = spreadsheet.read(paths, table, partitions)
    else:
        rows = parquet.read(paths, partitions)
    return stated.typed(rows, table, shown)


def _joined(
    connection: duckdb.DuckDBPyConnection, source: Source, tables: Mapping[str, Rows], scratch: Path
) -> Rows:
    """Return the rows of the source's query over its tables."""
    connection.execute("SET preserve_insertion_order = true")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET temp_directory = '{scratch}'")
    notes: list[str] = []
    for place, (name, rows) in enumerate(tables.items()):
        path = scratch / f"{place}.parquet"
        try:
            schema = consumed(rows, partial(_spooled, path))
        except OSError as error:
            raise snapshots.scratch_fault(error, scratch) or error from error
        _create_view(connection, name, path, schema)
        notes += [f"{name}: {note}" for note in rows.notes] if len(tables) > 1 else rows.notes
    try:
        relation = connection.sql(source.sql or "")
        schema = database.relation_schema(relation)
    except duckdb.Error as error:
        raise _query_fault(error, scratch) from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in relation.to_arrow_reader(BATCH_ROWS):
                yield batch.cast(schema)
        except (duckdb.Error, pa.ArrowException) as error:
            raise _query_fault(error, scratch) from error

    return Rows(schema, batches, notes)


def _spooled(path: Path, reader: pa.RecordBatchReader) -> pa.Schema:
    """Keep a table's rows where a query can read them as often as it wants."""
    names, _ = snapshots.repaired(reader.schema.names)
    schema = pa.schema([f.with_name(name) for f, name in zip(reader.schema, names, strict=True)])
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in reader:
            writer.write_batch(batch.rename_columns(names))
    return schema


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, schema: pa.Schema
) -> None:
    """Make a table known to queries; categories that have an order are an ENUM there."""
    columns = []
    for field in schema:
        column = quoted(field.name)
        known = categories_of(field)
        if known:
            values = ", ".join("'" + value.replace("'", "''") + "'" for value in known)
            column = f"CAST({column} AS ENUM({values})) AS {column}"
        columns.append(column)
    connection.read_parquet(str(path)).project(", ".join(columns)).create_view(name)


def _query_fault(error: Exception, scratch: Path) -> TreadleError:
    words = f"the query in source.sql can't run, mend it there: {_reason(error)}"
    return snapshots.scratch_fault(error, scratch) or DataError(words)


def _reason(error: Exception, most: int = 3) -> str:
    """DuckDB's messages run long: the first lines hold the reason, after the kind of error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if set(line) != {"^"}]
    words = re.sub(r"^(?:[A-Z][\w-]+ )+Error: ", "", " ".join(lines[:most]))
    return words[:400].rstrip(".")
