"""Bad rows to a Parquet file of their own, with their reasons; the good ones on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from treadle import snapshots
from treadle.ports import ObjectStore
from treadle.records import Severity, Snapshot
from treadle.sql import quoted, text
from treadle.validation.rules import RowCheck

REASONS = "quarantined_because"


def set_none_aside(snapshot: Path, path: Path) -> None:
    """Write to ``path`` what is set aside where no row is: the snapshot's columns, and no row."""
    schema = snapshots.schema_of(snapshot)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = schema.append(pa.field(_reasons_name(schema.names), pa.string()))
    pq.write_table(whole.empty_table(), path)


def set_aside(
    connection: duckdb.DuckDBPyConnection, failed: Sequence[RowCheck], path: Path
) -> None:
    """Write the rows of the view ``snapshot`` that fail a hard check to ``path``, with a column
    that says why."""
    hard = [check for check in failed if check.severity is Severity.HARD]
    reasons = ", ".join(
        f"CASE WHEN {check.condition} THEN {text(check.words)} END" for check in hard
    )
    because = f"array_to_string([{reasons}], '; ')"
    path.parent.mkdir(parents=True, exist_ok=True)
    name = quoted(_reasons_name(connection.table("snapshot").columns))
    connection.sql(f"SELECT *, {because} AS {name} FROM snapshot WHERE {_bad(hard)}").write_parquet(
        str(path), compression="zstd"
    )


def _reasons_name(columns: Sequence[str]) -> str:
    """Return a name that none of the columns has: mended rows may come back with their reasons."""
    names, _ = snapshots.repaired([*columns, REASONS])
    return names[-1]


def accept(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    failed: Sequence[RowCheck],
    store: ObjectStore,
) -> Snapshot:
    """Return the good rows as a snapshot: the one there is, where all of it is good. A value that
    can't be read in a row that stays becomes null. Raises DataError where no row is left."""
    hard = [check for check in failed if check.severity is Severity.HARD]
    unread = [check for check in failed if check.unread and check not in hard]
    if not hard and not unread:
        return snapshot
    emptied = ", ".join(
        f"CASE WHEN {check.condition} THEN NULL ELSE {quoted(check.column)} END "
        f"AS {quoted(check.column)}"
        for check in unread
    )
    replaced = f" REPLACE ({emptied})" if unread else ""
    good = connection.sql(f"SELECT *{replaced} FROM snapshot WHERE NOT ({_bad(hard)})")
    return snapshots.publish(
        good.to_arrow_reader(65_536), f"good rows of snapshot {snapshot.digest}", store
    )


def _bad(hard: Sequence[RowCheck]) -> str:
    """Return the condition of a bad row; null counts as good."""
    return " OR ".join(f"coalesce({check.condition}, false)" for check in hard) or "false"


def keep(path: Path, snapshot: Snapshot, store: ObjectStore) -> str:
    """Put the rows set aside where they outlive the run, whatever becomes of it; return the
    address."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    key = f"quarantine/{snapshot.digest}/{digest}.parquet"
    if not store.exists(key):
        store.put_file(key, path)
    return store.uri(key)
