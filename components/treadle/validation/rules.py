"""Rules for rows: which rows are quarantined, and why."""

from treadle.profile import as_number, quoted
from treadle.records import Kind
from treadle.spec import ColumnRule


def text(value: str) -> str:
    """Quote a text for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


def reasons_sql(target: str, rules: dict[str, ColumnRule], kinds: dict[str, Kind]) -> str:
    """Return the SQL of a list of reasons, empty for a good row."""
    checks = [_check(f"{quoted(target)} IS NULL", f"{target} (the target) is null")]
    if kinds[target] is Kind.NUMBER:
        number = as_number(target, Kind.NUMBER)
        checks.append(_check(f"NOT isfinite({number})", f"{target} (the target) is not finite"))
    for name, rule in rules.items():
        checks += _column_checks(name, rule, kinds[name])
    return f"list_filter([{', '.join(checks)}], lambda reason: reason IS NOT NULL)"


def _column_checks(name: str, rule: ColumnRule, kind: Kind) -> list[str]:
    checks = []
    if rule.required:
        checks.append(_check(f"{quoted(name)} IS NULL", f"{name} is null"))
    if rule.minimum is not None:
        below = f"{as_number(name, kind)} < {rule.minimum!r}"
        checks.append(_check(below, f"{name} is below {rule.minimum:g}"))
    if rule.maximum is not None:
        above = f"{as_number(name, kind)} > {rule.maximum!r}"
        checks.append(_check(above, f"{name} is above {rule.maximum:g}"))
    if rule.allowed is not None:
        allowed = ", ".join(text(value) for value in rule.allowed)
        unknown = f"{quoted(name)}::VARCHAR NOT IN ({allowed})"
        checks.append(_check(unknown, f"{name} is none of the allowed values"))
    return checks


def _check(condition: str, words: str) -> str:
    return f"CASE WHEN {condition} THEN {text(words)} END"
