"""Snapshots: immutable datasets in the object store, named by the digest of their content."""

import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from treadle.digest import ContentDigest
from treadle.errors import DataError, StoreError, TreadleError, counted, from_os_error
from treadle.ports import ObjectStore
from treadle.records import Column, Snapshot


def publish(
    reader: pa.RecordBatchReader,
    source: str,
    store: ObjectStore,
    notes: Sequence[str] = (),
    parts: Sequence[str] = (),
) -> Snapshot:
    """Store the batches of ``reader`` as a snapshot; ``source`` says where they came from,
    ``notes`` (complete when all is read) what was found out about it, ``parts`` of which snapshots
    it consists.

    Raises DataError where they break off or there is no row, EnvironmentFault where the temporary
    directory, which holds them first, is full.
    """
    schema, repairs = _storable(reader.schema)
    digest = ContentDigest(schema)
    rows, infinite = 0, dict[str, int]()
    with TemporaryDirectory(prefix="treadle-") as scratch:
        path = Path(scratch) / "data.parquet"
        try:
            # While one batch is read, the one before is written and its digest is taken.
            with _writer(path, schema) as writer, ThreadPoolExecutor(2) as beside:
                under_way: list[Future[None]] = []
                for batch in _cast(reader, schema, source):
                    _find_infinite(batch, rows, infinite)
                    rows += batch.num_rows
                    _finish(under_way)
                    under_way = [
                        beside.submit(work, batch) for work in (digest.update, writer.write_batch)
                    ]
                _finish(under_way)
        except OSError as error:
            if known := scratch_fault(error, path.parent):
                raise known from error
            raise
        if rows == 0:
            raise DataError(
                f"{source} has {counted(len(schema), 'column')} but no rows: there is nothing to "
                "learn"
            )
        snapshot = Snapshot(
            digest=digest.hexdigest(),
            rows=rows,
            columns=[
                Column(name=f.name, type=str(f.type), categories=categories_of(f)) for f in schema
            ],
            size_bytes=path.stat().st_size,
            source=source,
            notes=[*notes, *repairs, *([] if parts else _infinite_notes(infinite))],
            parts=list(parts),
        )
        # The manifest comes last: a snapshot whose manifest is there is whole.
        if not store.exists(_manifest_key(snapshot.digest)):
            store.put_file(snapshot.data_key, path)
            store.put_bytes(_manifest_key(snapshot.digest), snapshot.model_dump_json().encode())
    return snapshot


def _find_infinite(batch: pa.RecordBatch, begin: int, found: dict[str, int]) -> None:
    """Remember in which row a column has its first infinite number."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_floating(field.type) and field.name not in found:
            place = pc.index(pc.is_inf(column), True).as_py()
            if place >= 0:
                found[field.name] = begin + place + 1


def _infinite_notes(found: dict[str, int]) -> list[str]:
    """Say where numbers are that no model can take: written so, or too large (1e400)."""
    return [
        f"column {name!r} has infinite numbers, or such as are too large, from row {row:,} on: to "
        "a model they are null"
        for name, row in found.items()
    ]


def _finish(under_way: Iterable[Future[None]]) -> None:
    for work in under_way:
        work.result()


def load(digest: str, store: ObjectStore) -> Snapshot:
    """Return the manifest of a stored snapshot. Raises StoreError where there is none, or a broken
    one."""
    content = store.get_bytes(_manifest_key(digest))
    try:
        return Snapshot.model_validate_json(content)
    except ValidationError as error:
        place = store.uri(_manifest_key(digest))
        raise StoreError(
            f"{place} is no snapshot's manifest: remove snapshots/{digest}, then run it again"
        ) from error


def scratch_fault(error: Exception, scratch: Path) -> TreadleError | None:
    """Put a full temporary directory into words; None for any other fault. Arrow and DuckDB tell
    of it only in their message."""
    code = getattr(error, "errno", None)
    if code is None and "No space left on device" in str(error):
        code = errno.ENOSPC
    words = OSError(code or 0, "", str(scratch.parent))
    return from_os_error(words, "name another temporary directory with TMPDIR")


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer; fractions have too many values for dictionaries to pay."""
    repeated = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_integer(f.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated)


def _manifest_key(digest: str) -> str:
    return f"snapshots/{digest}/manifest.json"


CATEGORIES = b"treadle.categories"


def categories_of(field: pa.Field) -> list[str] | None:
    """Return the categories of a stored column in their order; None where they have none."""
    found = (field.metadata or {}).get(CATEGORIES)
    return None if found is None else list(json.loads(found))


def _storable(schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Map names and types onto those a snapshot keeps; say what was renamed."""
    names, notes = repaired(schema.names)
    fields = [
        pa.field(name, _stored_type(field.type), metadata=_kept(field))
        for name, field in zip(names, schema, strict=True)
    ]
    return pa.schema(fields), notes


def _kept(field: pa.Field) -> dict[bytes, bytes] | None:
    found = (field.metadata or {}).get(CATEGORIES)
    return None if found is None else {CATEGORIES: found}


def repaired(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names of which none is empty, padded or there twice, and words for each that had to
    change. DuckDB's names ignore case: ``A`` takes ``a``."""
    kept, notes, taken = list[str](), list[str](), set[str]()
    for position, given in enumerate(names):
        name = _unique(given.strip() or f"column_{position + 1}", taken)
        if name != given:
            notes.append(f"column {position + 1} {given!r} is called {name!r} here")
        taken.add(name.casefold())
        kept.append(name)
    return kept, notes


def _unique(name: str, taken: set[str]) -> str:
    """Return ``name``, numbered if it is taken."""
    if name.casefold() not in taken:
        return name
    numbers = range(2, len(taken) + 3)
    return next(f"{name}_{n}" for n in numbers if f"{name}_{n}".casefold() not in taken)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= 18:
        return pa.int64()
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return kind


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema, source: str) -> Iterator[pa.RecordBatch]:
    try:
        for batch in reader:
            columns = [c.cast(f.type) for c, f in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowException, duckdb.Error) as error:
        # Arrow wraps what DuckDB meets while streaming: a row that doesn't fit, a bad byte.
        raise unreadable(error, source) from error


def unreadable(error: Exception, source: str) -> TreadleError:
    """Put into words why the rows of ``source`` can't be read to their end."""
    full = scratch_fault(error, Path(gettempdir()) / "x")
    reason = " ".join(str(error).split())[:400]
    return full or DataError(
        f"{source} can't be read to the end: {reason}: mend it there, then run it again"
    )


def schema_of(path: Path) -> pa.Schema:
    """Return the schema of a snapshot's Parquet file."""
    return pq.read_schema(path)
