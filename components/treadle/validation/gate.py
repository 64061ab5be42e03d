"""The gate before training: profile the snapshot, set bad rows aside, hold it against the
champion's table, stop where too much is wrong."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from treadle import drift
from treadle.errors import DataError, GateRefused, counted, nearest
from treadle.kinds import kinds_of
from treadle.ports import ObjectStore
from treadle.profile import Profiled, profile_and_count
from treadle.records import (
    Check,
    ColumnDrift,
    Finding,
    Kind,
    Profile,
    Severity,
    Snapshot,
)
from treadle.spec import Validation
from treadle.sql import connected
from treadle.validation import leaks, quarantine, rules, schema
from treadle.validation.rules import RowCheck
from treadle.validation.schema import Known


@dataclass(frozen=True)
class Validated:
    """What validation leaves: the rows to learn from, what was set aside (and where it lies), what
    was noticed, and how each column stands to the champion's table."""

    accepted: Snapshot
    profile: Profile
    findings: list[Finding]
    quarantined: dict[str, int]
    set_aside: str | None = None
    drifts: list[ColumnDrift] = field(default_factory=list)
    known: Known | None = None


def run(
    snapshot: Snapshot,
    target: str,
    options: Validation,
    known: Known | None,
    store: ObjectStore,
    aside: Path,
    excluded: Collection[str] = (),
) -> Validated:
    """Validate a snapshot; write the rows set aside, with their reasons, to ``aside``. ``excluded``
    are columns that the model doesn't see: what they give away is no leak.

    Raises DataError where the target can't be learned, GateRefused where too many rows were set
    aside or a hard check of a column failed.
    """
    path = store.local(snapshot.data_key)
    inferred, kinds = _kinds(path, target, options, known)
    checks = rules.row_checks(target, options, kinds, inferred, known)
    before = known.schema.columns if known else []
    looked = profile_and_count(path, kinds, before)
    accepted, failed, kept = _parted(
        snapshot, path, rules.unproven(checks, looked.profile), store, aside
    )
    hard = _hard(failed)
    _refuse_if_too_few(snapshot, accepted, hard, kept, options)
    good = store.local(accepted.data_key)
    if accepted is not snapshot:
        looked = profile_and_count(good, kinds, before)
    found = looked.profile
    _check_target(found, target)
    drifts = _compare(good, looked, known) if known else []
    findings = _soft(failed, snapshot, found, known) + schema.inspect(found, target, options)
    findings += _leaks(looked, target, options, excluded)
    findings += schema.enforce(found, known, drifts, options, inferred) if known else []
    _refuse_if_broken(findings)
    return Validated(accepted, found, findings, hard, kept, drifts, known)


def _parted(
    snapshot: Snapshot, path: Path, doubtful: list[RowCheck], store: ObjectStore, aside: Path
) -> tuple[Snapshot, dict[RowCheck, int], str | None]:
    """Part the good rows from the bad ones; return the good ones, how many rows fail which of the
    ``doubtful`` checks, and where the bad ones are kept, if there are any."""
    if not doubtful:
        quarantine.set_none_aside(path, aside)
        return snapshot, {}, None
    with connected() as connection:
        connection.read_parquet(str(path)).create_view("snapshot")
        failed = rules.count(connection, doubtful)
        hard = _hard(failed)
        if not hard:
            quarantine.set_none_aside(path, aside)
            return quarantine.accept(connection, snapshot, list(failed), store), failed, None
        quarantine.set_aside(connection, list(failed), aside)
        kept = quarantine.keep(aside, snapshot, store)
        try:
            accepted = quarantine.accept(connection, snapshot, list(failed), store)
        except DataError as error:
            why = f"{_reasons(hard)}{_place(kept)}"
            raise GateRefused(f"every row was quarantined, none is left: {why}") from error
    return accepted, failed, kept


def _hard(failed: dict[RowCheck, int]) -> dict[str, int]:
    """Return the hard checks' words and how many rows fail each, most rows first."""
    hard = {check.words: n for check, n in failed.items() if check.severity is Severity.HARD}
    return dict(sorted(hard.items(), key=lambda item: (-item[1], item[0])))


def check_named(snapshot: Snapshot, named: Mapping[str, Collection[str]]) -> None:
    """Raise DataError for a column that the spec names, by its key, and the snapshot doesn't have:
    before anything is trained that only a later step would find it out of."""
    names = [column.name for column in snapshot.columns]
    for key, columns in named.items():
        for name in columns:
            _check_column(key, name, names)


def _check_column(role: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        columns = ", ".join(names[:30])
        raise DataError(
            f"{role}: there is no column {name!r}{nearest(name, names)} (columns: {columns})"
        )


def _kinds(
    path: Path, target: str, options: Validation, known: Known | None
) -> tuple[dict[str, Kind], dict[str, Kind]]:
    """Return how each column's type would be read, and how it is: as the spec states, else as the
    champion reads it, else by its type."""
    table = pq.read_schema(path)
    wanted = {target: "the target"}
    wanted |= dict.fromkeys(options.columns, "validation.columns")
    wanted |= {r.known_at: "known_at" for r in options.columns.values() if r.known_at}
    if options.prediction_time:
        wanted[options.prediction_time] = "validation.prediction_time"
    for name, role in wanted.items():
        _check_column(role, name, table.names)
    stated = {name: rule.kind for name, rule in options.columns.items()}
    before = {c.name: c.kind for c in known.schema.columns if c.nulls < c.rows} if known else {}
    inferred = kinds_of(table, {})
    return inferred, {
        name: stated.get(name) or before.get(name, kind) for name, kind in inferred.items()
    }


def _refuse_if_too_few(
    snapshot: Snapshot,
    accepted: Snapshot,
    quarantined: dict[str, int],
    kept: str | None,
    options: Validation,
) -> None:
    bad = snapshot.rows - accepted.rows
    why = _reasons(quarantined)
    if bad / snapshot.rows > options.max_quarantined:
        raise GateRefused(
            f"{why}. So {bad:,} of {snapshot.rows:,} rows ({bad / snapshot.rows:.1%}) are "
            f"quarantined{_place(kept)}; mend them, or raise validation.max_quarantined "
            f"({options.max_quarantined:.1%})"
        )
    if accepted.rows < options.min_rows:
        raise GateRefused(
            f"{counted(accepted.rows, 'good row')}, fewer than the {options.min_rows:,} that "
            f"validation.min_rows asks for{': ' + why if why else ''}"
        )


def _reasons(quarantined: dict[str, int], most: int = 8) -> str:
    shown = [f"{words} ({counted(count, 'row')})" for words, count in [*quarantined.items()][:most]]
    more = len(quarantined) - len(shown)
    return "; ".join(shown + ([f"and {counted(more, 'more reason')}"] if more else []))


def _place(kept: str | None) -> str:
    return f" (see {kept})" if kept else ""


def _refuse_if_broken(findings: list[Finding]) -> None:
    broken = [finding for finding in findings if finding.hard]
    if not broken:
        return
    checks = ", ".join(dict.fromkeys(f"validation.checks.{f.check}" for f in broken))
    before = any(f.check in _AGAINST_CHAMPION for f in broken)
    afresh = ", or give the model a new name to start afresh" if before else ""
    raise GateRefused(
        f"{'; '.join(f.words for f in broken)}. Mend the table, or make it soft ({checks}, or for "
        f"one column){afresh}"
    )


_AGAINST_CHAMPION = {Check.MISSING, Check.EXTRA, Check.REORDERED, Check.NULL_SHARE, Check.DRIFT}


def _check_target(found: Profile, target: str) -> None:
    column = found.column(target)
    assert column is not None  # _kinds has checked it
    if column.distinct <= 1:
        value = column.top[0].value if column.top else f"{column.minimum:g}"
        raise DataError(
            f"the target {target!r} is {value} in every row, there is nothing to learn: name "
            "another target, or bring rows with other values"
        )


def _compare(path: Path, looked: Profiled, known: Known) -> list[ColumnDrift]:
    """Compare the good rows with the champion's table, column by column."""
    now = {column.name: column.kind for column in looked.profile.columns}
    shared = [c for c in known.schema.columns if now.get(c.name) is c.kind]
    return drift.compare_profiled(path, shared, looked.profile, looked.counted)


def _soft(
    failed: dict[RowCheck, int], snapshot: Snapshot, found: Profile, known: Known | None
) -> list[Finding]:
    """Put into words what soft checks of rows came to."""
    findings = []
    for check, rows in failed.items():
        if check.severity is not Severity.SOFT:
            continue
        words = f"{check.words}: {counted(rows, 'row')} ({_share(rows, snapshot.rows)})"
        if check.check is Check.NEW_CATEGORY and known:
            words += f", as {', '.join(_new_values(check.column, found, known.schema))}"
        if check.unread:
            words += "; taken for null"
        findings.append(Finding(column=check.column, check=check.check, words=words))
    return findings


def _share(rows: int, of: int) -> str:
    return f"{rows / of:.1%}" if rows / of >= 0.001 else "less than 0.1%"


def _new_values(name: str, found: Profile, before: Profile) -> list[str]:
    now, was = found.column(name), before.column(name)
    seen = {share.value for share in was.top} if was else set()
    return [share.value[:40] for share in now.top if share.value not in seen][:3] if now else []


def _leaks(
    looked: Profiled, target: str, options: Validation, excluded: Collection[str]
) -> list[Finding]:
    severities = {c.name: options.severity(Check.LEAK, c.name) for c in looked.profile.columns}
    judged = [
        name
        for name, severity in severities.items()
        if severity is not Severity.OFF and name not in excluded
    ]
    return [
        Finding(
            column=name,
            check=Check.LEAK,
            words=f"{name} gives the target away ({why}): is it known at the time of prediction? "
            "If not, put it into preprocessing.exclude",
            hard=severities[name] is Severity.HARD,
        )
        for name, why in leaks.find(looked.sample, looked.profile, target, judged).items()
    ]
