"""What a model's history says of its champions."""

from collections.abc import Sequence

from treadle.records import Change, ChangeKind

FORWARD = (ChangeKind.PROMOTED, ChangeKind.APPROVED)


def retired(history: Sequence[Change]) -> set[int]:
    """Return the versions that were put away."""
    return {entry.retired for entry in history if entry.retired is not None}


def champions(history: Sequence[Change]) -> list[int]:
    """Return the champions that a rollback can go back through, the present one last: a rollback
    takes away what it leaves, and what is retired is left out."""
    stack: list[int] = []
    for entry in history:
        if entry.kind is ChangeKind.RETIRED:
            continue
        if entry.to_version is None:
            stack = stack[:-1]
            continue
        if entry.kind not in FORWARD and entry.to_version in stack:
            last = len(stack) - 1 - stack[::-1].index(entry.to_version)
            stack = stack[: last + 1]
        else:
            stack.append(entry.to_version)
    away = retired(history)
    return [version for version in stack if version not in away]


def predecessor(history: Sequence[Change]) -> int | None:
    """Return the champion before the present one, which a rollback would restore."""
    former = champions(history)[:-1]
    return former[-1] if former else None
