"""Read a source once and keep it as a snapshot."""

import duckdb
import pyarrow as pa

from treadle import snapshots
from treadle.errors import DataError
from treadle.ingestion import sources
from treadle.ports import ObjectStore
from treadle.records import Snapshot
from treadle.spec import Source

BATCH_ROWS = 65_536
_UNUSABLE = ("STRUCT", "[]", "MAP", "BLOB", "UNION", "INTERVAL")


def take(source: Source, store: ObjectStore) -> Snapshot:
    """Read the source once, streaming, and store it under the digest of its content.

    The same rows give the same digest, and nothing is stored twice. Raises DataError for a source
    that can't be read, has no rows, or has a column of a type that no model can use.
    """
    described = "; ".join(table.path for table in source.tables.values())
    with sources.opened(source) as relation:
        return snapshots.publish(_batches(relation), described, store)


def _batches(relation: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    _refuse_unusable(relation)
    return relation.to_arrow_reader(BATCH_ROWS)


def _refuse_unusable(relation: duckdb.DuckDBPyRelation) -> None:
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if any(word in str(kind) for word in _UNUSABLE):
            raise DataError(
                f"column {name!r} is of type {kind}, which no model here can use: leave it out "
                "with `sql`, or take it apart there"
            )
