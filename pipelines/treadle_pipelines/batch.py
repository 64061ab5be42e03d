"""Score a table with the champion, batch by batch in flat memory, by the code that serves it.

Rows that don't fit the model's signature are set aside, with their reasons, in a file beside the
output: ``scored.parquet`` has ``scored.rejects.parquet``.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from treadle import runtime, scoring
from treadle.bundle import Bundle
from treadle.encoding import Fault
from treadle.errors import DataError, check_output, output_fault
from treadle.ingestion import sources
from treadle.ingestion.rows import consumed
from treadle.signature import RowErrors, frame_of, ignored_columns, read_frame
from treadle.spec import Source
from treadle.writing import written_aside

# What a rejected row gets: its position in the table, from 0, and what is wrong with it.
ROW, REASON = "rejected_row", "rejected_because"


def score(name: str, table: str, out: Path | None) -> dict[str, Any]:
    """Write the table with its predictions to ``out`` (CSV on stdout for None), whole or not at
    all. Rows that don't fit go to a file beside it; with stdout they raise RowErrors. Raises
    DataError for a table that lacks columns."""
    if out is not None:
        check_output(out, (".parquet", ".csv"))
    version, bundle = runtime.serving_champion(name)
    source = Source.model_validate(table)
    with sources.opened(source, runtime.outside()) as rows:
        scoring.check_columns(bundle, rows.schema.names, table, name)
        output = consumed(rows, lambda reader: _scored(reader, bundle, table, out))
    return {
        "model": name,
        "version": version.version,
        "digest": version.digest,
        "rows": output.rows,
        "rejected": output.rejected,
        "output": None if out is None else str(out),
        "ignored": dict(output.ignored),
        "rejects": str(rejects_beside(out)) if out and output.rejected else None,
    }


def rejects_beside(out: Path) -> Path:
    """Return where the rejects of an output go."""
    return out.with_name(f"{out.stem}.rejects{out.suffix}")


def _scored(
    reader: pa.RecordBatchReader, bundle: Bundle, table: str, out: Path | None
) -> "_Output":
    """Score the rows; return what was written."""
    schema = scoring.with_predictions(reader.schema, bundle.signature, table)
    _check_nested(reader.schema, table, out)
    try:
        with _Output(out, schema) as output:
            for batch in reader:
                output.take(batch, bundle)
    except OSError as error:
        if out is None:
            raise
        raise output_fault(out, error) from error
    return output


def _check_nested(schema: pa.Schema, table: str, out: Path | None) -> None:
    """Raise DataError where the output can't hold the table's columns."""
    nested = [f.name for f in schema if pa.types.is_nested(f.type)]
    if nested and (out is None or out.suffix == ".csv"):
        raise DataError(f"column {nested[0]!r} of {table} is a list or a structure, which CSV "
                        "can't hold: name a .parquet file with -o")  # fmt: skip


@contextmanager
def _shown_at_the_end() -> Iterator[Any]:
    """Yield a file whose content goes to stdout when the block ends well."""
    with TemporaryFile() as kept:
        yield kept
        kept.seek(0)
        shutil.copyfileobj(kept, sys.stdout.buffer)


class _Output:
    """Where scored rows go, and beside it, once there are any, the rejects."""

    def __init__(self, out: Path | None, schema: pa.Schema) -> None:
        self._out, self._schema = out, schema
        self._files = ExitStack()
        self._rejects: Any = None
        self.rows = self.rejected = 0
        self.ignored: Counter[str] = Counter()

    def __enter__(self) -> "_Output":
        self._scored = self._writer(self._out, self._schema)
        return self

    def __exit__(self, *fault: Any) -> None:
        self._files.__exit__(*fault)
        if fault[0] is None and self._out is not None and not self.rejected:
            # Those of an earlier run would be taken for this one's.
            rejects_beside(self._out).unlink(missing_ok=True)

    def _writer(self, path: Path | None, schema: pa.Schema) -> Any:
        if path is None:
            # Aside first: rows that need other types are read again from the first one.
            kept = self._files.enter_context(_shown_at_the_end())
            return self._files.enter_context(pacsv.CSVWriter(kept, schema))
        kind = pq.ParquetWriter if path.suffix == ".parquet" else pacsv.CSVWriter
        aside = self._files.enter_context(written_aside(path))
        return self._files.enter_context(kind(aside, schema))

    def take(self, batch: pa.RecordBatch, bundle: Bundle) -> None:
        """Score a batch."""
        self.ignored.update(ignored_columns(batch, bundle.signature))
        columns, faults = read_frame(frame_of(batch), bundle.signature)
        if faults:
            good = self._reject(batch, faults)
            columns = {name: column[good] for name, column in columns.items()}
            batch = batch.take(pa.array(good))
        if batch.num_rows:
            predicted = scoring.prediction_columns(bundle.model.output(columns), bundle.signature)
            whole = pa.RecordBatch.from_arrays([*batch.columns, *predicted], schema=self._schema)
            self._scored.write_batch(whole)
        self.rows += batch.num_rows

    def _reject(self, batch: pa.RecordBatch, faults: list[Fault]) -> Any:
        """Set the rows at fault aside; return the positions of the others."""
        begin = self.rows + self.rejected
        if self._out is None:
            raise RowErrors([(begin + row, name, why) for row, name, why in sorted(faults)])
        reasons: dict[int, list[str]] = {}
        for row, name, why in sorted(faults):
            reasons.setdefault(row, []).append(f"{name}: {why}")
        rows = np.array(list(reasons))
        added = pa.schema([*batch.schema, pa.field(ROW, pa.int64()), pa.field(REASON, pa.string())])
        if self._rejects is None:
            self._rejects = self._writer(rejects_beside(self._out), added)
        words = pa.array(["; ".join(found) for found in reasons.values()])
        bad = batch.take(pa.array(rows))
        self._rejects.write_batch(
            pa.RecordBatch.from_arrays([*bad.columns, pa.array(rows + begin), words], schema=added)
        )
        self.rejected += len(rows)
        return np.setdiff1d(np.arange(batch.num_rows), rows)
