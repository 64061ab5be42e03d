"""Findings about columns: what is odd in this table, and what changed since the champion's."""

from treadle.kinds import is_identifier
from treadle.records import ColumnProfile, Finding, Profile

NULL_SHARE_MOVED = 0.05
_ALMOST_ALL = 0.5


def inspect(profile: Profile, target: str) -> list[Finding]:
    """Name what is odd within the table itself."""
    findings = []
    for column in profile.columns:
        if column.name == target:
            continue
        if words := _odd(column):
            findings.append(Finding(column=column.name, words=words))
    return findings


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
    return None


def enforce(profile: Profile, reference: Profile) -> list[Finding]:
    """Hold a table against the champion's: hard where the champion could not read it."""
    findings: list[Finding] = []
    for known in reference.columns:
        now = profile.column(known.name)
        if now is None:
            words = f"{known.name} is missing; the champion reads it as a {known.kind}"
            findings.append(Finding(column=known.name, words=words, hard=True))
        elif now.kind is not known.kind and now.nulls < now.rows:
            words = f"{known.name} is a {now.kind}; it was a {known.kind}"
            findings.append(Finding(column=known.name, words=words, hard=True))
        else:
            findings += _changed(now, known)
    names = {column.name for column in reference.columns}
    extra = [column.name for column in profile.columns if column.name not in names]
    findings += [Finding(column=name, words=f"{name} is new in this table") for name in extra]
    return findings


def _is_wider(now: ColumnProfile, was: ColumnProfile) -> bool:
    if now.minimum is None or now.maximum is None or was.minimum is None or was.maximum is None:
        return False
    return now.minimum < was.minimum or now.maximum > was.maximum


def _changed(now: ColumnProfile, was: ColumnProfile) -> list[Finding]:
    findings = []
    if abs(now.null_share - was.null_share) > NULL_SHARE_MOVED:
        words = f"{now.name} is null in {now.null_share:.1%} of rows, was {was.null_share:.1%}"
        findings.append(Finding(column=now.name, words=words))
    if _is_wider(now, was):
        words = (
            f"{now.name} runs from {now.minimum:g} to {now.maximum:g}, "
            f"was {was.minimum:g} to {was.maximum:g}"
        )
        findings.append(Finding(column=now.name, words=words))
    unseen = {s.value for s in now.top} - {s.value for s in was.top}
    if unseen and was.distinct <= len(was.top):
        some = ", ".join(sorted(unseen)[:5])
        words = f"{now.name} has {len(unseen)} values never seen before: {some}"
        findings.append(Finding(column=now.name, words=words))
    return findings
