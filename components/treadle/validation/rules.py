"""Rules for rows: which rows are quarantined, and why."""

from treadle.profile import as_number, as_read, as_text, quoted, text
from treadle.records import Kind
from treadle.spec import ColumnRule


def reasons_sql(target: str, rules: dict[str, ColumnRule], kinds: dict[str, Kind]) -> str:
    """Return the SQL of a list of reasons, empty for a good row."""
    kind = kinds[target]
    unread = f"{quoted(target)} IS NOT NULL AND {as_read(target, kind)} IS NULL"
    checks = [
        _check(f"{quoted(target)} IS NULL", f"{target} (the target) is null"),
        _check(unread, f"{target} (the target) is not a finite {kind}"),
    ]
    for name, rule in rules.items():
        checks += _column_checks(name, rule, kinds[name])
    return f"list_filter([{', '.join(checks)}], lambda reason: reason IS NOT NULL)"


def _column_checks(name: str, rule: ColumnRule, kind: Kind) -> list[str]:
    checks = []
    if rule.kind is not None:
        unread = f"{quoted(name)} IS NOT NULL AND {as_read(name, kind)} IS NULL"
        checks.append(_check(unread, f"{name} is not a {kind}"))
    if rule.required:
        checks.append(_check(f"{as_read(name, kind)} IS NULL", f"{name} is null"))
    if rule.minimum is not None:
        below = f"{as_number(name, kind)} < {rule.minimum!r}"
        checks.append(_check(below, f"{name} is below {rule.minimum:g}"))
    if rule.maximum is not None:
        above = f"{as_number(name, kind)} > {rule.maximum!r}"
        checks.append(_check(above, f"{name} is above {rule.maximum:g}"))
    if rule.allowed is not None:
        allowed = ", ".join(text(value) for value in rule.allowed)
        unknown = f"{as_text(name)} NOT IN ({allowed})"
        checks.append(_check(unknown, f"{name} is none of the allowed values"))
    return checks


def _check(condition: str, words: str) -> str:
    return f"CASE WHEN {condition} THEN {text(words)} END"
