"""Checks of rows: which rows fail, and why. Each is one SQL condition, so that all of them are
counted in one pass; what the profile proves already is neither spelt out nor counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import duckdb

from treadle.kinds import is_identifier, is_text
from treadle.records import Check, ColumnProfile, Kind, Profile, Severity
from treadle.spec import ColumnRule, Validation
from treadle.sql import NUMERIC, as_number, as_read, as_text, quoted, single, text
from treadle.validation.schema import Known

Proof = Callable[[ColumnProfile], bool]
Spelt = Callable[[], str]


def _none(column: ColumnProfile) -> bool:
    return False


def _no_null(column: ColumnProfile) -> bool:
    return column.nulls == 0


def _within(low: float | None, high: float | None) -> Proof:
    """Prove that all numbers lie between two limits."""

    def proof(column: ColumnProfile) -> bool:
        if column.kind not in NUMERIC or column.minimum is None or column.maximum is None:
            return False
        return (low is None or column.minimum >= low) and (high is None or column.maximum <= high)

    return proof


def _among(values: Iterable[str]) -> Proof:
    """Prove that all categories are some of these."""
    known = frozenset(values)

    def proof(column: ColumnProfile) -> bool:
        complete = column.kind is Kind.CATEGORY and column.distinct <= len(column.top)
        return complete and all(share.value in known for share in column.top)

    return proof


@dataclass(frozen=True)
class RowCheck:
    """One check of rows. ``spelt`` spells out the condition under which a row fails, which may list
    thousands of values. ``unread`` says that a failing value can't be read: where the row stays,
    the value is taken for null. ``proof`` says of a column's profile whether no row can fail."""

    column: str
    check: Check
    words: str
    spelt: Spelt = field(compare=False)
    severity: Severity
    unread: bool = False
    proof: Proof = field(default=_none, compare=False)

    @property
    def condition(self) -> str:
        """The SQL condition under which a row fails; null counts as passed."""
        return self.spelt()


def row_checks(
    target: str,
    options: Validation,
    kinds: Mapping[str, Kind],
    inferred: Mapping[str, Kind],
    known: Known | None,
) -> list[RowCheck]:
    """Return every check of rows that isn't off. ``kinds`` says how columns are read, ``inferred``
    how their types alone would be."""
    checks = [*_target_checks(target, kinds[target])]
    for name, rule in options.columns.items():
        severity = options.severity(Check.RULES, name)
        for words, spelt, unread, proof in _stated(name, rule, kinds[name]):
            checks.append(RowCheck(name, Check.RULES, words, spelt, severity, unread, proof))
    for column in known.schema.columns if known else []:
        if column.name in kinds:
            stated = options.columns.get(column.name, ColumnRule()).kind is not None
            retyped = not stated and inferred[column.name] is not column.kind
            checks += _known_checks(column, options, retyped)
    checks += _time_checks(target, options, kinds)
    # What can't be read must be found even where nobody wants to hear of it.
    return [check for check in checks if check.severity is not Severity.OFF or check.unread]


def _target_checks(target: str, kind: Kind) -> Iterator[RowCheck]:
    unread = f"{quoted(target)} IS NOT NULL AND {as_read(target, kind)} IS NULL"
    for words, condition in [
        (f"{target} (the target) is null", f"{quoted(target)} IS NULL"),
        (f"{target} (the target) is not a finite {kind}", unread),
    ]:
        yield RowCheck(target, Check.RULES, words, _said(condition), Severity.HARD, proof=_no_null)


def _said(condition: str) -> Spelt:
    return lambda: condition


def _stated(name: str, rule: ColumnRule, kind: Kind) -> Iterator[tuple[str, Spelt, bool, Proof]]:
    """Yield the words, the condition and the proof of each rule that the spec states for a column,
    and whether it is about what can't be read."""
    if rule.kind is not None:
        yield f"{name} is not a {kind}", _said(_unread(name, kind)), True, _no_null
    if rule.required:
        yield f"{name} is null", _said(f"{as_read(name, kind)} IS NULL"), False, _no_null
    if rule.minimum is not None:
        below = _said(f"{as_number(name, kind)} < {rule.minimum!r}")
        yield f"{name} is below {rule.minimum:g}", below, False, _within(rule.minimum, None)
    if rule.maximum is not None:
        above = _said(f"{as_number(name, kind)} > {rule.maximum!r}")
        yield f"{name} is above {rule.maximum:g}", above, False, _within(None, rule.maximum)
    if rule.allowed is not None:
        unknown = partial(_not_among, as_text(name), rule.allowed)
        yield f"{name} is none of the allowed values", unknown, False, _among(rule.allowed)


def _not_among(value: str, known: Iterable[str]) -> str:
    listed = ", ".join(text(each) for each in known)
    return f"{value} NOT IN ({listed})" if listed else f"{value} NOTNULL"


def _unread(name: str, kind: Kind) -> str:
    return f"{quoted(name)} IS NOT NULL AND {as_read(name, kind)} IS NULL"


def _known_checks(column: ColumnProfile, options: Validation, retyped: bool) -> Iterator[RowCheck]:
    """Yield what the champion's table says of a column's values. Times are left out: later rows
    are later."""
    name, kind = column.name, column.kind
    if retyped:
        severity = options.severity(Check.RETYPED, name)
        words = f"{name} is not a {kind}, as it was before"
        unread = _said(_unread(name, kind))
        yield RowCheck(name, Check.RETYPED, words, unread, severity, unread=True)
    if kind is Kind.NUMBER and column.minimum is not None and column.maximum is not None:
        value = as_number(name, kind)
        severity = options.severity(Check.OUT_OF_RANGE, name)
        words = f"{name} lies outside {column.minimum:g} to {column.maximum:g}, all seen before"
        outside = f"({value} < {column.minimum!r} OR {value} > {column.maximum!r})"
        proof = _within(column.minimum, column.maximum)
        yield RowCheck(name, Check.OUT_OF_RANGE, words, _said(outside), severity, proof=proof)
    few = column.top and column.distinct <= len(column.top)
    if few and not is_identifier(column) and not is_text(column):
        seen = [share.value for share in column.top]
        severity = options.severity(Check.NEW_CATEGORY, name)
        words = f"{name} is a value never seen before"
        unseen = partial(_not_among, as_read(name, kind), seen)
        yield RowCheck(name, Check.NEW_CATEGORY, words, unseen, severity, proof=_among(seen))


def _time_checks(target: str, options: Validation, kinds: Mapping[str, Kind]) -> Iterator[RowCheck]:
    """Yield what must not be later than the prediction time: a column of times itself, or the time
    that the spec names as when a column's value became known."""
    predicted = options.prediction_time
    if predicted is None:
        return
    known_at = {name: rule.known_at for name, rule in options.columns.items() if rule.known_at}
    times = {
        name: name for name, kind in kinds.items() if kind is Kind.TIME and name != target
    } | known_at
    at = as_number(predicted, Kind.TIME)
    for name, since in times.items():
        if name == predicted:
            continue
        clock = "" if since == name else f" (known at {since})"
        words = f"{name}{clock} is later than {predicted}, the time of prediction"
        later = _said(f"{as_number(since, Kind.TIME)} > {at}")
        severity = options.severity(Check.AFTER_PREDICTION, name)
        yield RowCheck(name, Check.AFTER_PREDICTION, words, later, severity)


def unproven(checks: Iterable[RowCheck], found: Profile) -> list[RowCheck]:
    """Return the checks that a row may fail, for all that the profile says."""
    columns = {column.name: column for column in found.columns}
    return [check for check in checks if not check.proof(columns[check.column])]


def count(connection: duckdb.DuckDBPyConnection, checks: Sequence[RowCheck]) -> dict[RowCheck, int]:
    """Return the checks that rows of the view ``snapshot`` fail, and how many do, in one pass."""
    wanted = ", ".join(f"count(*) FILTER ({check.condition})" for check in checks)
    counts = single(connection, f"SELECT {wanted} FROM snapshot")
    return {check: int(n) for check, n in zip(checks, counts, strict=True) if n}
