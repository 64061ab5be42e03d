"""Findings about columns: what is odd in this table, and what changed since the champion's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from treadle import drift
from treadle.kinds import is_identifier
from treadle.records import Check, ColumnDrift, ColumnProfile, Finding, Kind, Profile, Severity
from treadle.spec import Validation

_ALMOST_ALL = 0.5
# Days without a row are told where nearly all other days have one.
_SELDOM_MISSING = 0.2


@dataclass(frozen=True)
class Known:
    """What the champion's table looked like, and which of its columns the champion reads."""

    schema: Profile
    features: frozenset[str]


def inspect(profile: Profile, target: str, options: Validation) -> list[Finding]:
    """Name what is odd within the table itself."""
    odd = ((column.name, _odd(column)) for column in profile.columns if column.name != target)
    return [
        found
        for name, words in odd
        if words and (found := _finding(options, Check.ODD, name, words))
    ]


def _finding(options: Validation, check: Check, column: str, words: str) -> Finding | None:
    severity = options.severity(check, column)
    if severity is Severity.OFF:
        return None
    return Finding(column=column, check=check, words=words, hard=severity is Severity.HARD)


def _odd(column: ColumnProfile) -> str | None:
    name = column.name
    if column.nulls == column.rows:
        return f"{name} is null in every row; it is not used"
    if column.distinct == 1:
        return f"{name} has one value only; it is not used"
    if is_identifier(column):
        return f"{name} is different in almost every row, like an identifier; it is not used"
    if column.null_share > _ALMOST_ALL:
        return f"{name} is null in {column.null_share:.1%} of rows"
    return _gap(column)


def _gap(column: ColumnProfile) -> str | None:
    gap = column.gap
    if gap is None or column.minimum is None or column.maximum is None or gap.longest_days < 2:
        return None
    days = (column.maximum - column.minimum) / 86_400 + 1
    if gap.missing_days > _SELDOM_MISSING * days:
        return None
    start = datetime.fromtimestamp(gap.start, UTC).date()
    return f"{column.name} has no row on {gap.longest_days} days in a row, from {start} on"


def enforce(
    profile: Profile,
    known: Known,
    drifts: Sequence[ColumnDrift],
    options: Validation,
    inferred: Mapping[str, Kind],
) -> list[Finding]:
    """Hold a table's columns against those of the champion's table; ``inferred`` says how their
    types alone would be read."""
    found = [
        *_places(profile, known, options),
        *_retyped(profile, known.schema, options, inferred),
        *_null_shares(profile, known.schema, options),
        *_drifted(drifts, options),
    ]
    return [finding for finding in found if finding is not None]


def _places(profile: Profile, known: Known, options: Validation) -> Iterator[Finding | None]:
    """Tell of columns that are missing, new, or somewhere else."""
    now = [column.name for column in profile.columns]
    before = [column.name for column in known.schema.columns]
    for column in known.schema.columns:
        name = column.name
        if name in now:
            continue
        if name in known.features:
            words = f"{name} is missing; the champion reads it as a {column.kind}"
            yield _finding(options, Check.MISSING, name, words)
        elif options.severity(Check.MISSING, name) is not Severity.OFF:
            words = f"{name} is missing; the champion doesn't use it"
            yield Finding(column=name, check=Check.MISSING, words=words)
    for name in now:
        if name not in before:
            yield _finding(options, Check.EXTRA, name, f"{name} is new in this table")
    kept = [name for name in before if name in now]
    order = [name for name in now if name in before]
    if kept != order:
        first = next(name for name, was in zip(order, kept, strict=True) if name != was)
        words = f"columns changed places, {first} first; they are read by name"
        yield _finding(options, Check.REORDERED, first, words)


def _retyped(
    profile: Profile, before: Profile, options: Validation, inferred: Mapping[str, Kind]
) -> Iterator[Finding]:
    """Tell of columns that are read as before though they are stored as something else."""
    for now in profile.columns:
        was, stored = before.column(now.name), inferred[now.name]
        if was is None or now.nulls == now.rows or was.nulls == was.rows:
            continue
        stated = now.name in options.columns and options.columns[now.name].kind is not None
        if stored is was.kind or stated:
            continue
        if options.severity(Check.RETYPED, now.name) is not Severity.OFF:
            words = f"{now.name} is stored as a {stored}; it is read as a {was.kind}, as before"
            yield Finding(column=now.name, check=Check.RETYPED, words=words)


def _null_shares(
    profile: Profile, before: Profile, options: Validation
) -> Iterator[Finding | None]:
    pairs = [(now, was) for now in profile.columns if (was := before.column(now.name))]
    chances = [
        drift.chance(*(np.array([c.nulls, c.rows - c.nulls]) for c in pair)) for pair in pairs
    ]
    for (now, was), sure in zip(pairs, drift.believable(chances), strict=True):
        if sure and abs(now.null_share - was.null_share) > options.null_share_by:
            words = f"{now.name} is null in {now.null_share:.1%} of rows, was {was.null_share:.1%}"
            yield _finding(options, Check.NULL_SHARE, now.name, words)


def _drifted(drifts: Sequence[ColumnDrift], options: Validation) -> Iterator[Finding | None]:
    for moved in drifts:
        if moved.significant and moved.distance >= options.drift_at:
            words = f"{moved.column} moved by {moved.distance:.2f}: {moved.words}"
            yield _finding(options, Check.DRIFT, moved.column, words)
