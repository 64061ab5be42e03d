"""Snapshots: immutable datasets in the object store, named by the digest of their content."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from treadle.digest import ContentDigest
from treadle.errors import DataError
from treadle.ports import ObjectStore
from treadle.records import Column, Snapshot


def publish(reader: pa.RecordBatchReader, source: str, store: ObjectStore) -> Snapshot:
    """Store the batches of ``reader`` as a snapshot; ``source`` says where they came from."""
    schema, notes = _storable(reader.schema)
    digest = ContentDigest(schema)
    rows = 0
    with TemporaryDirectory(prefix="treadle-") as scratch:
        path = Path(scratch) / "data.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in _cast(reader, schema):
                rows += batch.num_rows
                digest.update(batch)
                writer.write_batch(batch)
        if rows == 0:
            raise DataError(f"{source} has {len(schema)} columns but no rows")
        snapshot = Snapshot(
            digest=digest.hexdigest(),
            rows=rows,
            columns=[Column(name=f.name, type=str(f.type)) for f in schema],
            size_bytes=path.stat().st_size,
            source=source,
            notes=notes,
        )
        # The manifest comes last: a snapshot whose manifest is there is whole.
        if not store.exists(_manifest_key(snapshot.digest)):
            store.put_file(snapshot.data_key, path)
            store.put_bytes(_manifest_key(snapshot.digest), snapshot.model_dump_json().encode())
    return snapshot


def load(digest: str, store: ObjectStore) -> Snapshot:
    """Return the manifest of a stored snapshot. Raises StoreError where there is none."""
    return Snapshot.model_validate_json(store.get_bytes(_manifest_key(digest)))


def _manifest_key(digest: str) -> str:
    return f"snapshots/{digest}/manifest.json"


def _storable(schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Map types onto those a snapshot keeps; say what was renamed."""
    fields, notes, taken = [], [], set[str]()
    for position, field in enumerate(schema):
        name = _unique(field.name.strip() or f"column_{position + 1}", taken)
        if name != field.name:
            notes.append(f"column {position + 1} {field.name!r} is called {name!r} here")
        taken.add(name)
        fields.append(pa.field(name, _stored_type(field.type)))
    return pa.schema(fields), notes


def _unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = next(n for n in range(2, len(taken) + 3) if f"{name}_{n}" not in taken)
    return f"{name}_{number}"


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= 18:
        return pa.int64()
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return kind


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        for batch in reader:
            columns = [c.cast(f.type) for c, f in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowInvalid, duckdb.Error) as error:
        # Arrow wraps what DuckDB meets while streaming: a row that doesn't fit, a bad byte.
        reason = " ".join(str(error).split())[:500]
        raise DataError(f"the rows can't be read to their end: {reason}") from error


def schema_of(path: Path) -> pa.Schema:
    """Return the schema of a snapshot's Parquet file."""
    return pq.read_schema(path)
