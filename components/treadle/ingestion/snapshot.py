"""Read a source once and keep it as a snapshot, the newest version of its dataset."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from treadle import datasets, snapshots
from treadle.errors import DataError
from treadle.ingestion import database, files, sources
from treadle.ingestion.rows import BATCH_ROWS, Rows, consumed
from treadle.ports import ObjectStore, Outside
from treadle.records import DatasetVersion, Snapshot, SourceFile
from treadle.snapshots import categories_of
from treadle.spec import Source, ValueType

_TYPES: Mapping[pa.DataType, ValueType] = {
    pa.string(): ValueType.TEXT, pa.int64(): ValueType.INTEGER, pa.float64(): ValueType.NUMBER,
    pa.bool_(): ValueType.BOOLEAN, pa.date32(): ValueType.DATE,
    pa.timestamp("us"): ValueType.TIME,
}  # fmt: skip


def take(source: Source, store: ObjectStore, outside: Outside | None = None) -> Snapshot:
    """Read the source once, streaming, and store it under the digest of its content.

    The same rows give the same digest, and nothing is stored twice. Raises DataError for a source
    that can't be read, has no rows, or has a column of a type that no model can use.
    """
    with sources.opened(source, outside) as rows:
        return _published(rows, source, store)


def ingest(source: Source, name: str, store: ObjectStore, outside: Outside | None) -> Snapshot:
    """Take a snapshot and register it as the newest version of the dataset ``name``.

    Where the source is the one of the version before with further files, only those are read, and
    appended as a snapshot of their own; where they don't fit it, all is read anew.
    """
    files = sources.files_behind(source, outside)
    reading = hashlib.sha256(source.model_dump_json(exclude={"dataset"}).encode()).hexdigest()[:32]
    former = next(reversed(datasets.versions(name, store)), None)
    new = _appended(source, former, files) if former and former.reading == reading else []
    taken = _append(source, former, new, store, outside) if former and new else None
    taken = taken or take(source, store, outside)
    version = DatasetVersion(
        dataset=name,
        digest=taken.digest,
        snapshots=taken.parts or [taken.digest],
        rows=taken.rows,
        created_at=datetime.now(UTC),
        reading=reading,
        files=files,
    )
    datasets.add(version, store)
    return taken


def _published(rows: Rows, source: Source, store: ObjectStore) -> Snapshot:
    _refuse_unusable(rows.schema)
    described = sources.described(source)
    return consumed(rows, lambda reader: snapshots.publish(reader, described, store, rows.notes))


def _appended(source: Source, former: DatasetVersion, files: Sequence[SourceFile]) -> list[str]:
    """Return the files that came since; none where it isn't that alone that has changed."""
    (table, *more) = source.tables.values()
    if source.sql or more or database.is_database(table.path):
        return []
    before = {file.path: file for file in former.files}
    now = {file.path: file for file in files}
    if any(now.get(path) != file for path, file in before.items()):
        return []
    return [path for path in now if path not in before]


def _append(
    source: Source,
    former: DatasetVersion,
    new: list[str],
    store: ObjectStore,
    outside: Outside | None,
) -> Snapshot | None:
    """Read the new files with the types of the others; None where they don't fit those."""
    parts = [snapshots.load(digest, store) for digest in former.snapshots]
    schema = snapshots.schema_of(store.local(parts[0].data_key))
    try:
        with sources.opened(_with_types(source, schema, new), outside, new) as rows:
            taken = _published(_cast(rows, schema), source, store)
    except DataError:
        # Reading all of it anew says what is wrong, or finds the types that fit every file.
        return None
    parts.append(taken)
    reader = pa.RecordBatchReader.from_batches(schema, _stored(parts, store))
    return snapshots.publish(
        reader, sources.described(source), store, taken.notes, [part.digest for part in parts]
    )


def _with_types(source: Source, schema: pa.Schema, new: Sequence[str]) -> Source:
    """State the types that are known for what a table of text doesn't state by itself."""
    ((name, table),) = source.tables.items()
    if files.has_own_types(table, new):
        return source
    known: dict[str, Any] = {
        field.name: _TYPES[field.type] for field in schema if field.type in _TYPES
    }
    types = {**known, **table.types}
    stated = table.model_copy(update={"types": types})
    return source.model_copy(update={"tables": {name: stated}})


def _cast(rows: Rows, schema: pa.Schema) -> Rows:
    """Return the rows with the stored types. Raises DataError where they have others."""
    names, _ = snapshots.repaired(rows.schema.names)
    own = {name: categories_of(field) for name, field in zip(names, rows.schema, strict=True)}
    if own != {field.name: categories_of(field) for field in schema}:
        raise DataError("the columns or their categories are others")

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows.batches():
            named = dict(zip(names, batch.columns, strict=True))
            columns = [_widened(named[field.name], field) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return Rows(schema, batches, rows.notes)


def _widened(column: pa.Array, field: pa.Field) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    wider = pa.types.is_null(kind) or kind == field.type
    wider |= pa.types.is_integer(kind) and (
        pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    )
    if not wider:
        raise DataError(f"column {field.name!r} is of type {kind}, not {field.type}")
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise DataError(f"column {field.name!r}: {error}") from error


def _stored(parts: Sequence[Snapshot], store: ObjectStore) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(store.local(part.data_key)) as file:
            yield from file.iter_batches(BATCH_ROWS)


def _refuse_unusable(schema: pa.Schema) -> None:
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_usable(kind) for is_usable in _USABLE):
            raise DataError(
                f"column {field.name!r} is of type {kind}, which no model here can use: leave it "
                "out with `sql`, or take it apart there"
            )


_USABLE = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating,
    pa.types.is_decimal128, pa.types.is_decimal32, pa.types.is_decimal64, pa.types.is_string,
    pa.types.is_large_string, pa.types.is_string_view, pa.types.is_date, pa.types.is_timestamp,
    pa.types.is_time,
)  # fmt: skip
