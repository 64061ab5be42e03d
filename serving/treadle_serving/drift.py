"""Counts what is null or was not seen in training, feature by feature, for Prometheus."""

from collections import Counter
from weakref import WeakKeyDictionary

import numpy as np

from treadle.encoding import NULL_CATEGORY, Column
from treadle.records import ColumnProfile, Kind
from treadle_serving.metrics import Metrics
from treadle_serving.models import Served

# By feature: the range of a number, or the categories, where the profile knows them all.
Known = dict[str, tuple[float, float] | frozenset[str]]


class DriftCounter:
    """Holds what training saw of the models that are loaded."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: WeakKeyDictionary[Served, Known] = WeakKeyDictionary()

    def count(self, served: Served, columns: dict[str, Column]) -> None:
        """Add rows that one version was asked."""
        known = self._known.get(served)
        if known is None:
            known = self._known[served] = known_of(served)
        counted = self._metrics.of(served.name)
        for name in served.version.signature.names:
            column = columns[name]
            null = column == NULL_CATEGORY if column.dtype == object else np.isnan(column)
            counted.nulls[name] += int(np.count_nonzero(null))
            seen = known.get(name)
            if isinstance(seen, tuple):
                outside = int(np.count_nonzero((column < seen[0]) | (column > seen[1])))
                counted.outside[name] += outside
            elif seen is not None:
                values = Counter(column.tolist())
                strange = sum(count for value, count in values.items() if value not in seen)
                counted.outside[name] += strange


def known_of(served: Served) -> Known:
    """Return what training saw. Times are left out: they are always later."""
    found: Known = {}
    profile = served.bundle.reference
    for feature in served.version.signature.features:
        column = profile.column(feature.name)
        # What a text is read as is not what its profile counts.
        as_text = feature.tokens is not None
        seen = None if column is None or as_text else _seen(column, feature.kind)
        if seen is not None:
            found[feature.name] = seen
    return found


def _seen(column: ColumnProfile, kind: Kind) -> tuple[float, float] | frozenset[str] | None:
    if kind is Kind.NUMBER and column.minimum is not None and column.maximum is not None:
        return float(np.float32(column.minimum)), float(np.float32(column.maximum))
    if kind is Kind.CATEGORY and len(column.top) == column.distinct:
        return frozenset([*(share.value for share in column.top), NULL_CATEGORY])
    return None
