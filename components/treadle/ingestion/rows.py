"""Rows on their way from a source: a schema, and batches in flat memory."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from treadle.ingestion.readings import NOTHING, TEXT, Proof, Words, convert
from treadle.snapshots import CATEGORIES

BATCH_ROWS = 65_536
Result = TypeVar("Result")


class Unproven(Exception):
    """A value doesn't have the type that a sample proposed for its column."""


@dataclass
class Rows:
    """A table that is read from its beginning each time ``batches`` is called. ``notes`` say how it
    is written; they are complete when it has been read to its end.

    ``schema`` is a proposal where there is ``prove``: ``batches`` then raises Unproven for a value
    that doesn't fit, and after ``prove``, which looks at every value, no longer.
    """

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    notes: list[str] = field(default_factory=list)
    prove: Callable[[], pa.Schema] | None = None

    def reader(self) -> pa.RecordBatchReader:
        """Return a reader of the rows."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())


def consumed(rows: Rows, consume: Callable[[pa.RecordBatchReader], Result]) -> Result:
    """Return what ``consume`` makes of the rows. It is called again, with another schema, where the
    proposed types don't hold."""
    try:
        return consume(rows.reader())
    except Unproven:
        assert rows.prove is not None  # who raises it offers the way out
        rows.schema = rows.prove()
        return consume(rows.reader())


def aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the schema's columns; those it lacks are null."""
    columns = [
        batch.column(f.name).cast(f.type) if f.name in batch.schema.names
        else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def with_categories(name: str, categories: Sequence[str]) -> pa.Field:
    """Return the field of a column of text whose values have an order."""
    return pa.field(name, pa.string(), metadata={CATEGORIES: json.dumps(list(categories))})


@dataclass(frozen=True)
class Partitions:
    """What the directories of each file say: columns of one value a file. Their types are proven
    as those of any text are."""

    fields: list[pa.Field]
    values: list[list[pa.Scalar]]

    @classmethod
    def of(
        cls, said: Sequence[Mapping[str, str | None]], texts: Collection[str] = ()
    ) -> "Partitions":
        """Return the partitions of files of which these things are said; ``texts`` are names of
        columns that stay as they are written."""
        names = list(dict.fromkeys(name for each in said for name in each))
        columns = []
        for name in names:
            text = pa.array([each.get(name) for each in said], pa.string())
            proof = Proof(Words())
            proof.add(text)
            reading = TEXT if name in texts else proof.reading()
            plain = text if reading in (TEXT, NOTHING) else pc.utf8_trim_whitespace(text)
            columns.append(convert(plain, TEXT if reading == NOTHING else reading))
        fields = [pa.field(name, column.type) for name, column in zip(names, columns, strict=True)]
        return cls(fields, [[column[i] for column in columns] for i in range(len(said))])

    def extended(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with the partitions' columns, which replace those of their names."""
        names = {field.name for field in self.fields}
        return pa.schema([*(f for f in schema if f.name not in names), *self.fields])

    def added(self, batch: pa.RecordBatch, place: int, schema: pa.Schema) -> pa.RecordBatch:
        """Return a batch of the file at ``place`` with the columns of the extended ``schema``."""
        if not self.fields:
            return batch
        constants = {f.name: v for f, v in zip(self.fields, self.values[place], strict=True)}
        columns = [
            pa.repeat(constants[f.name], batch.num_rows) if f.name in constants
            else batch.column(f.name)
            for f in schema
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays(columns, schema=schema)
