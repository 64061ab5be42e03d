"""Parquet files: read by Arrow, which keeps zones, and the order of categories."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from treadle.errors import DataError
from treadle.ingestion.rows import BATCH_ROWS, Partitions, Rows, aligned, with_categories


def read(paths: Sequence[Path], partitions: Partitions) -> Rows:
    """Return the rows of the files, one after the other; columns go by name.

    Raises DataError for a file that is no Parquet, for a time with a zone in one file and without
    in another, and for types that don't go together.
    """
    schemas = {path: _schema(path) for path in paths}
    schema = _together(schemas)
    notes = [
        f"{path} has no column {name!r}: null there"
        for path, own in schemas.items()
        for name in schema.names
        if name not in own.names
    ]

    def batches() -> Iterator[pa.RecordBatch]:
        for place, path in enumerate(paths):
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(BATCH_ROWS):
                        yield partitions.added(aligned(batch, schema), place, whole)
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(path, error) from error

    whole = partitions.extended(schema)
    return Rows(whole, batches, notes)


def _schema(path: Path) -> pa.Schema:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            return pa.schema([_field(file, field) for field in found])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _field(file: pq.ParquetFile, field: pa.Field) -> pa.Field:
    """Return the column's field, its categories with it where they have an order."""
    if not (pa.types.is_dictionary(field.type) and field.type.ordered):
        return pa.field(field.name, field.type)
    text = pa.types.is_string(field.type.value_type) or pa.types.is_large_string(
        field.type.value_type
    )
    batch = next(file.iter_batches(1, columns=[field.name]), None) if text else None
    if batch is None:
        return pa.field(field.name, field.type.value_type)
    return with_categories(field.name, batch.column(0).dictionary.to_pylist())


def _together(schemas: dict[Path, pa.Schema]) -> pa.Schema:
    whole: dict[str, pa.Field] = {}
    for path, schema in schemas.items():
        twice = [name for name in schema.names if schema.names.count(name) > 1]
        if twice and len(schemas) > 1:
            raise DataError(f"{path} has two columns named {twice[0]!r}: give one another name")
        if len(schemas) == 1:
            return schema
        for field in schema:
            known = whole.setdefault(field.name, field)
            whole[field.name] = _common(known, field, path)
    return pa.schema(list(whole.values()))


def _common(known: pa.Field, field: pa.Field, path: Path) -> pa.Field:
    times = [pa.types.is_timestamp(part.type) for part in (known, field)]
    if all(times) and (known.type.tz is None) != (field.type.tz is None):
        raise DataError(
            f"column {field.name!r} is a time with a zone in one file and without in another "
            f"({path}): write all in one way"
        )
    if known.type == field.type:
        return known if known.metadata == field.metadata else pa.field(field.name, field.type)
    try:
        both = [pa.schema([pa.field(part.name, part.type)]) for part in (known, field)]
        return pa.unify_schemas(both, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise DataError(
            f"column {field.name!r} is of type {field.type} in {path} and of type {known.type} in "
            "the files before: write all in one way"
        ) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    words = " ".join(str(error).split())[:300]
    if "magic bytes" in words or "0 bytes" in words or "smaller than the minimum" in words:
        return DataError(
            f"{path} can't be read: it is no Parquet file: write it again, or name it "
            "for what it is"
        )
    return DataError(f"{path} can't be read: {words}: write it again")
