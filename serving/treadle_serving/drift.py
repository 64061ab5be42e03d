"""Counts what is null or was not seen in training, feature by feature, for Prometheus."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from treadle.bundle import Bundle
from treadle.encoding import NULL_CATEGORY
from treadle.records import ColumnProfile, Kind
from treadle_serving.spool import Columns, Version

Counts = dict[str, Counter[str]]  # by model, then feature


class DriftCounter:
    """Adds up rows of any versions."""

    def __init__(self) -> None:
        self.nulls: Counts = defaultdict(Counter)
        self.outside: Counts = defaultdict(Counter)

    def count(self, version: Version, columns: Columns) -> None:
        """Add rows that one version was asked."""
        nulls, outside = self.nulls[version.name], self.outside[version.name]
        for name in version.signature.names:
            column = columns[name]
            null = column == NULL_CATEGORY if column.dtype == object else np.isnan(column)
            nulls[name] += int(np.count_nonzero(null))
            seen = version.seen.get(name)
            if seen is None:
                continue
            if column.dtype == object:
                values = Counter(column.tolist())
                known = {*seen, NULL_CATEGORY}
                outside[name] += sum(n for value, n in values.items() if value not in known)
            else:
                outside[name] += int(np.count_nonzero((column < seen[0]) | (column > seen[1])))


def seen_in_training(bundle: Bundle) -> dict[str, Any]:
    """Return a feature's least and largest number, or its categories, where the profile knows them
    all. Times are left out: they are always later."""
    found: dict[str, Any] = {}
    profile = bundle.reference
    for feature in bundle.signature.features:
        column = profile.column(feature.name)
        # What a text is read as is not what its profile counts.
        as_text = feature.tokens is not None
        seen = None if column is None or as_text else _seen(column, feature.kind)
        if seen is not None:
            found[feature.name] = seen
    return found


def _seen(column: ColumnProfile, kind: Kind) -> list[Any] | None:
    if kind is Kind.NUMBER and column.minimum is not None and column.maximum is not None:
        return [float(np.float32(column.minimum)), float(np.float32(column.maximum))]
    if kind is Kind.CATEGORY and len(column.top) == column.distinct:
        return [share.value for share in column.top]
    return None
