"""The gate before training: profile the snapshot, set bad rows aside, stop where too much is
wrong."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from treadle import snapshots
from treadle.errors import DataError, GateRefused, nearest
from treadle.kinds import kinds_of
from treadle.ports import ObjectStore
from treadle.profile import as_number, connected, profile, single
from treadle.records import Finding, Kind, Profile, Snapshot
from treadle.spec import Validation
from treadle.validation import rules, schema

GIVES_AWAY = 0.999


@dataclass(frozen=True)
class Validated:
    """What validation leaves: the rows to learn from, what was set aside and what was noticed."""

    accepted: Snapshot
    profile: Profile
    findings: list[Finding]
    quarantined: dict[str, int]


def run(
    snapshot: Snapshot,
    target: str,
    options: Validation,
    reference: Profile | None,
    store: ObjectStore,
    quarantine: Path,
) -> Validated:
    """Validate a snapshot; write the rows set aside, with their reasons, to ``quarantine``.

    Raises DataError where the target can't be learned, GateRefused where too many rows were set
    aside or the champion's schema is broken.
    """
    path = store.local(snapshot.data_key)
    kinds = _kinds(path, target, options)
    with connected() as connection:
        connection.read_parquet(str(path)).create_view("snapshot")
        reasons = rules.reasons_sql(target, options.columns, kinds)
        quarantined = _set_aside(connection, reasons, quarantine)
        accepted = _accept(connection, snapshot, reasons, quarantined, store)
    _refuse_if_too_few(snapshot, accepted, quarantined, options)
    found = profile(store.local(accepted.data_key), kinds)
    _check_target(found, target)
    findings = schema.inspect(found, target) + _leaks(store.local(accepted.data_key), found, target)
    if reference is not None:
        findings += schema.enforce(found, reference)
    broken = [finding.words for finding in findings if finding.hard]
    if broken:
        raise GateRefused(
            f"the table doesn't fit the champion's schema: {'; '.join(broken)}. Mend the table, "
            "say how to read the column in validation.columns, or give the model a new name to "
            "start afresh"
        )
    return Validated(accepted, found, findings, quarantined)


def _kinds(path: Path, target: str, options: Validation) -> dict[str, Kind]:
    table = pq.read_schema(path)
    for name in [target, *options.columns]:
        if name not in table.names:
            known = ", ".join(table.names[:30])
            role = "the target" if name == target else "validation.columns"
            raise DataError(
                f"{role}: there is no column {name!r}{nearest(name, table.names)} "
                f"(columns: {known})"
            )
    return kinds_of(table, {name: rule.kind for name, rule in options.columns.items()})


def _set_aside(
    connection: duckdb.DuckDBPyConnection, reasons: str, quarantine: Path
) -> dict[str, int]:
    """Write the bad rows; return how many rows each reason concerns."""
    bad = connection.sql(
        f"SELECT *, array_to_string({reasons}, '; ') AS quarantined_because FROM snapshot "
        f"WHERE len({reasons}) > 0"
    )
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    bad.write_parquet(str(quarantine), compression="zstd")
    counted = connection.sql(
        f"SELECT reason, count(*) AS n FROM (SELECT unnest({reasons}) AS reason FROM snapshot) "
        "GROUP BY reason ORDER BY n DESC, reason"
    )
    return dict(counted.fetchall())


def _accept(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    reasons: str,
    quarantined: dict[str, int],
    store: ObjectStore,
) -> Snapshot:
    if not quarantined:
        return snapshot
    good = connection.sql(f"SELECT * FROM snapshot WHERE len({reasons}) = 0")
    try:
        return snapshots.publish(
            good.to_arrow_reader(65_536), f"good rows of snapshot {snapshot.digest}", store
        )
    except DataError as error:
        why = _reasons(quarantined)
        raise GateRefused(f"every row was quarantined, none is left: {why}") from error


def _refuse_if_too_few(
    snapshot: Snapshot, accepted: Snapshot, quarantined: dict[str, int], options: Validation
) -> None:
    bad = snapshot.rows - accepted.rows
    why = _reasons(quarantined)
    if bad / snapshot.rows > options.max_quarantined:
        raise GateRefused(
            f"{why}. So {bad:,} of {snapshot.rows:,} rows ({bad / snapshot.rows:.1%}) are "
            f"quarantined; mend them, or raise validation.max_quarantined "
            f"({options.max_quarantined:.1%})"
        )
    if accepted.rows < options.min_rows:
        raise GateRefused(
            f"{accepted.rows:,} good rows, fewer than the {options.min_rows:,} that "
            f"validation.min_rows asks for{': ' + why if why else ''}"
        )


def _reasons(quarantined: dict[str, int]) -> str:
    return "; ".join(f"{words} ({count:,} rows)" for words, count in quarantined.items())


def _check_target(found: Profile, target: str) -> None:
    column = found.column(target)
    assert column is not None  # _kinds has checked it
    if column.distinct <= 1:
        value = column.top[0].value if column.top else f"{column.minimum:g}"
        raise DataError(
            f"the target {target!r} is {value} in every row, there is nothing to learn: name "
            "another target, or bring rows with other values"
        )


def _leaks(path: Path, found: Profile, target: str) -> list[Finding]:
    """Name numbers that give the target away by correlating with it almost perfectly."""
    column = found.column(target)
    numbers = [
        c.name
        for c in found.columns
        if c.kind is Kind.NUMBER and c.name != target and c.distinct > 1
    ]
    if column is None or column.kind is not Kind.NUMBER or not numbers:
        return []
    answer = as_number(target, Kind.NUMBER)
    parts = ", ".join(f"corr({as_number(name, Kind.NUMBER)}, {answer})" for name in numbers)
    with connected() as connection:
        connection.read_parquet(str(path)).create_view("data")
        row = single(connection, f"SELECT {parts} FROM data")
    return [
        Finding(
            column=name,
            words=f"{name} gives the target away (correlation {value:.4f}): is it known at the "
            "time of prediction? If not, put it into preprocessing.exclude",
        )
        for name, value in zip(numbers, row, strict=True)
        if value is not None and abs(value) > GIVES_AWAY
    ]
