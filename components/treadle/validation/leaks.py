"""Columns that give the target away by themselves: each is judged alone, on some thousand rows."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from treadle.records import Kind, Profile

GIVES_AWAY = 0.999
# Below this many changes of class, expected of a column that says nothing, none can be judged.
_FEWEST_CHANGES = 20
_ROWS_A_GROUP = 5
# Numbers that don't follow the target nearly in so many rows aren't looked at in all: of that many,
# chance moves a correlation of GIVES_AWAY by some 0.0001.
_GLANCE_ROWS, _NEAR = 1_000, 0.95
Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def find(
    sample: Mapping[str, Values], profile: Profile, target: str, judged: Iterable[str]
) -> dict[str, str]:
    """Return which of the ``judged`` columns give ``target`` away, and why that is said. ``sample``
    are some of their rows as numbers (``profile.Profiled``)."""
    answer = profile.column(target)
    assert answer is not None
    found = {}
    for name in judged:
        column = profile.column(name)
        if name == target or column is None or column.distinct <= 1:
            continue
        known = ~np.isnan(sample[name]) & ~np.isnan(sample[target])
        values, answers = sample[name][known], sample[target][known]
        is_number = _is_number(profile, name)
        if _is_number(profile, target) and not (answer.whole and answer.distinct <= 20):
            why = _of_numbers(values, answers, is_number)
        else:
            why = _of_classes(values, np.unique(answers, return_inverse=True)[1], is_number)
        if why:
            found[name] = why
    return found


def _is_number(profile: Profile, name: str) -> bool:
    column = profile.column(name)
    return column is not None and column.kind in (Kind.NUMBER, Kind.TIME)


def _of_numbers(values: Values, answers: Values, is_number: bool) -> str | None:
    """Judge a column beside a target of numbers: by rank correlation, or for a category by the
    share of the target's variance that lies between its groups (eta squared)."""
    if len(values) < 2 * _FEWEST_CHANGES:
        return None
    if is_number:
        glance = slice(None, None, max(len(values) // _GLANCE_ROWS, 1))
        if abs(_rank_correlation(values[glance], answers[glance])) < _NEAR:
            return None
        correlation = _rank_correlation(values, answers)
        return f"rank correlation {correlation:.4f}" if abs(correlation) > GIVES_AWAY else None
    groups = np.unique(values, return_inverse=True)[1]
    sizes = np.bincount(groups)
    if len(values) < _ROWS_A_GROUP * len(sizes):
        return None
    means = np.bincount(groups, answers) / sizes
    whole = float(np.var(answers))
    between = float(np.average((means - np.mean(answers)) ** 2, weights=sizes))
    share = between / whole if whole else 0.0
    return f"it explains {share:.2%} of the target's variance" if share > GIVES_AWAY else None


def _rank_correlation(values: Values, answers: Values) -> float:
    """Return the correlation of the ranks of distinct values; 0 where one of both has no spread."""
    ranks = [np.unique(column, return_inverse=True)[1] for column in (values, answers)]
    spread = [float(np.std(rank)) for rank in ranks]
    together = float(np.mean(ranks[0] * ranks[1]) - np.mean(ranks[0]) * np.mean(ranks[1]))
    return together / (spread[0] * spread[1]) if min(spread) else 0.0


def _of_classes(values: Values, classes: Codes, is_number: bool) -> str | None:
    """Judge a column beside classes. For a number: sorted by it, the class hardly ever changes. For
    a category: hardly a row is of another class than most of its group."""
    shares = np.bincount(classes) / max(len(classes), 1)
    if len(classes) == 0 or is_number:
        by_chance = len(classes) * (1 - float(np.sum(shares**2)))
        if by_chance < _FEWEST_CHANGES:
            return None
        changes = _changes(values, classes)
        limit = 2 * (len(shares) - 1) + (1 - GIVES_AWAY) * by_chance
        return "sorted by it, the classes lie apart" if changes <= limit else None
    groups = np.unique(values, return_inverse=True)[1]
    table = np.zeros((groups.max() + 1, len(shares)), dtype=np.int64)
    np.add.at(table, (groups, classes), 1)
    wrong, wrong_alone = len(classes) - table.max(axis=1).sum(), len(classes) * (1 - shares.max())
    if wrong_alone < _FEWEST_CHANGES or len(classes) < _ROWS_A_GROUP * len(table):
        return None
    if wrong > 10 * (1 - GIVES_AWAY) * wrong_alone:
        return None
    return f"its values tell {1 - wrong / len(classes):.2%} of classes"


def _changes(values: Values, classes: Codes) -> int:
    """Count how often the class changes along the sorted values. Where several classes share a
    value, the rows of all but its commonest class count twice, as rows in any order would."""
    order = np.lexsort((classes, values))
    classes, values = classes[order], values[order]
    places = np.unique(values, return_inverse=True)[1]
    table = np.bincount(places * (classes.max() + 1) + classes)
    table = np.pad(table, (0, -len(table) % (classes.max() + 1))).reshape(-1, classes.max() + 1)
    mixed = table.sum() - table.max(axis=1).sum()
    return int((np.diff(classes) != 0).sum() + 2 * mixed)
