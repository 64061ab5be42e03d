"""Score a table with the champion, batch by batch in flat memory, by the code that serves it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from treadle import runtime, snapshots
from treadle.bundle import Bundle
from treadle.errors import DataError, check_output, output_fault
from treadle.ingestion import sources
from treadle.signature import arrays, encode_frame
from treadle.spec import Source
from treadle.writing import written_aside

BATCH_ROWS = 50_000


def score(name: str, table: str, out: Path | None) -> dict[str, Any]:
    """Write the table with its predictions to ``out`` (CSV on stdout for None). ``out`` appears
    whole or not at all. Raises DataError for rows that don't fit the model's signature."""
    if out is not None:
        check_output(out, (".parquet", ".csv"))
    version, bundle = runtime.serving_champion(name)
    rows = 0
    source = Source.model_validate(table)
    with sources.opened(source) as relation:
        missing = [f for f in bundle.signature.names if f not in relation.columns]
        if missing:
            raise DataError(
                f"{table} lacks columns that {name} reads: {_listed(missing)} (it has "
                f"{_listed(relation.columns)})"
            )
        reader = relation.to_arrow_reader(BATCH_ROWS)
        schema = _schema(reader.schema, bundle)
        _check_schema(schema, table, out)
        with _writer(out, schema) as writer:
            for batch in _batches(reader, table):
                writer.write_batch(_scored(batch, bundle, schema))
                rows += batch.num_rows
    return {"model": name, "version": version.version, "digest": version.digest, "rows": rows,
            "output": None if out is None else str(out)}  # fmt: skip


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _batches(reader: pa.RecordBatchReader, table: str) -> Iterator[pa.RecordBatch]:
    """Yield the batches; the reader's faults are told from the writer's here."""
    try:
        yield from reader
    except (pa.ArrowException, duckdb.Error) as error:
        raise snapshots.unreadable(error, table) from error


def _check_schema(schema: pa.Schema, table: str, out: Path | None) -> None:
    """Raise DataError where the output can't hold the table's columns beside the prediction's."""
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError(f"{table} has a column {twice[0]!r} already, which the prediction needs: "
                        "give it another name")  # fmt: skip
    nested = [f.name for f in schema if pa.types.is_nested(f.type)]
    if nested and (out is None or out.suffix == ".csv"):
        raise DataError(f"column {nested[0]!r} of {table} is a list or a structure, which CSV "
                        "can't hold: name a .parquet file with -o")  # fmt: skip


def _schema(schema: pa.Schema, bundle: Bundle) -> pa.Schema:
    if not bundle.signature.task.is_classification:
        return schema.append(pa.field("prediction", pa.float64()))
    schema = schema.append(pa.field("prediction", pa.string()))
    for label in bundle.signature.classes:
        schema = schema.append(pa.field(f"probability_{label}", pa.float64()))
    return schema


def _scored(batch: pa.RecordBatch, bundle: Bundle, schema: pa.Schema) -> pa.RecordBatch:
    output = bundle.model.output(arrays(encode_frame(batch.to_pandas(), bundle.signature)))
    columns = list(batch.columns)
    if bundle.signature.task.is_classification:
        labels = [bundle.signature.classes[code] for code in output.argmax(axis=1)]
        columns += [pa.array(labels), *(pa.array(c.astype("float64")) for c in output.T)]
    else:
        columns.append(pa.array(output.astype("float64")))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _writer(out: Path | None, schema: pa.Schema) -> Iterator[Any]:
    if out is None:
        with pacsv.CSVWriter(sys.stdout.buffer, schema) as writer:
            yield writer
        return
    kind = pq.ParquetWriter if out.suffix == ".parquet" else pacsv.CSVWriter
    try:
        with written_aside(out) as aside, kind(aside, schema) as writer:
            yield writer
    except OSError as error:
        raise output_fault(out, error) from error
