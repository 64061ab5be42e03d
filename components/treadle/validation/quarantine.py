"""Bad rows to a Parquet file of their own, with their reasons; the good ones on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from treadle import snapshots
from treadle.ports import ObjectStore
from treadle.records import Severity, Snapshot
from treadle.sql import quoted, text
from treadle.validation.rules import RowCheck

REASONS = "quarantined_because"


def set_aside(
    connection: duckdb.DuckDBPyConnection, failed: Sequence[RowCheck], path: Path
) -> None:
    """Write the rows of the view ``snapshot`` that fail a hard check to ``path``, with a column
    that says why: an empty table where there are none."""
    hard = [check for check in failed if check.severity is Severity.HARD]
    reasons = ", ".join(
        f"CASE WHEN {check.condition} THEN {text(check.words)} END" for check in hard
    )
    because = f"array_to_string([{reasons}], '; ')" if hard else "''"
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.sql(
        f"SELECT *, {because} AS {REASONS} FROM snapshot WHERE {_bad(hard)}"
    ).write_parquet(str(path), compression="zstd")


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
