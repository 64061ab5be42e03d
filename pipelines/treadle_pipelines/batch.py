"""Score a table with the champion, batch by batch in flat memory, by the code that serves it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from treadle import runtime
from treadle.bundle import Bundle
from treadle.errors import DataError, SpecError
from treadle.ingestion import sources
from treadle.signature import arrays, encode_frame
from treadle.spec import Source

BATCH_ROWS = 50_000


def score(name: str, table: str, out: Path | None) -> dict[str, Any]:
    """Write the table with its predictions to ``out`` (CSV on stdout for None). ``out`` appears
    whole or not at all. Raises DataError for rows that don't fit the model's signature."""
    version, bundle = runtime.serving_champion(name)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise SpecError(f"-o {out} must end in .csv or .parquet")
    rows = 0
    source = Source.model_validate(table)
    with sources.opened(source) as relation:
        missing = [f for f in bundle.signature.names if f not in relation.columns]
        if missing:
            raise DataError(f"{table} lacks columns that {name} reads: {', '.join(missing)}")
        reader = relation.fetch_record_batch(BATCH_ROWS)
        schema = _schema(reader.schema, bundle)
        with _writer(out, schema) as writer:
            for batch in reader:
                writer.write_batch(_scored(batch, bundle, schema))
                rows += batch.num_rows
    return {"model": name, "version": version.version, "digest": version.digest, "rows": rows,
            "output": None if out is None else str(out)}  # fmt: skip


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
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        kind = pq.ParquetWriter if out.suffix == ".parquet" else pacsv.CSVWriter
        with kind(aside, schema) as writer:
            yield writer
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
