"""Why a row got its answer: what each of its values adds to the answer of a usual row.

The usual row has each feature at what is usual in training: the median of a number or a time, the
commonest category or boolean. The parts are baseline Shapley values (Sundararajan and Najmi 2020):
what a value adds, averaged over all orders in which the usual values can be replaced by the row's.
They add up to the difference between the two answers.

They are taken from the model that is served, whatever it is, by running it. With up to EXACT_UP_TO
features that aren't as usual, over all orders: exact. With more, over some orders, each there and
back, which is exact as long as no more than two features act together (Mitchell et al. 2022,
section 4.2); how far off it may be is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.bundle import Bundle
from treadle.encoding import Column, encode_values
from treadle.records import ColumnProfile, Feature, Kind
from treadle.signature import encode_rows

EXACT_UP_TO = 8
ORDERS = 12
# (runs, features): which features have the row's own value, in each run of the model.
Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """``parts`` by feature, largest first, add up to ``output`` less ``usual``: in the target's
    unit, or in probability of the class that was predicted. ``error`` is the largest standard error
    of a part, 0 where they are exact."""

    parts: dict[str, float]
    output: float
    usual: float
    error: float


def explain(bundle: Bundle, rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Return for each row, by feature, what its value adds to the prediction. Largest first."""
    usual = usual_row(bundle)
    return [
        explain_row(bundle, encode_rows([row], bundle.encoder), usual).parts for row in rows
    ]  # fmt: skip


def explain_row(
    bundle: Bundle, row: Mapping[str, Column], usual: Mapping[str, Column]
) -> Explanation:
    """Explain one encoded row, its columns of shape (1,), as those of the ``usual`` row."""
    differing = [name for name in row if not _same(row[name][0], usual[name][0])]
    whole = np.ones((1, len(differing)), dtype=bool)
    output = _run(bundle, row, usual, differing, np.concatenate([whole, ~whole]))
    place = int(output[0].argmax()) if output.ndim > 1 else None

    def value(mask: Mask) -> Values:
        given = _run(bundle, row, usual, differing, mask)
        return given if place is None else given[:, place]

    ours, theirs = output if place is None else output[:, place]
    few = len(differing) <= EXACT_UP_TO
    found, error = (_exact if few else _sampled)(value, len(differing))
    parts = dict.fromkeys(row, 0.0) | dict(zip(differing, found.tolist(), strict=True))
    ordered = dict(sorted(parts.items(), key=lambda part: -abs(part[1])))
    return Explanation(ordered, float(ours), float(theirs), error)


def _same(one: object, other: object) -> bool:
    return one == other or (one != one and other != other)


def _run(
    bundle: Bundle,
    row: Mapping[str, Column],
    usual: Mapping[str, Column],
    differing: Sequence[str],
    mask: Mask,
) -> Values:
    """Run the model on the row with usual values in place of those that ``mask`` leaves out."""
    columns: dict[str, Column] = {name: values.repeat(len(mask)) for name, values in row.items()}
    for position, name in enumerate(differing):
        columns[name][~mask[:, position]] = usual[name][0]
    return np.asarray(bundle.model.output(columns), dtype=np.float64)


def _exact(value: Any, features: int) -> tuple[Values, float]:
    """Average over every order, by way of every set of features."""
    if not features:
        return np.zeros(0), 0.0
    sets = np.arange(2**features)
    mask = (sets[:, None] >> np.arange(features)) & 1 == 1
    values, sizes = value(mask), mask.sum(axis=1)
    every = factorial(features)
    weights = np.array(
        [factorial(size) * factorial(features - size - 1) / every for size in range(features)]
    )
    parts = np.empty(features)
    for feature in range(features):
        without = sets[~mask[:, feature]]
        gained = values[without | 1 << feature] - values[without]
        parts[feature] = weights[sizes[without]] @ gained
    return parts, 0.0


def _sampled(value: Any, features: int) -> tuple[Values, float]:
    """Average over ORDERS orders, each there and back; the same ones for the same row."""
    random = np.random.default_rng(0)
    orders = [random.permutation(features) for _ in range(ORDERS)]
    both = [turn for order in orders for turn in (order, order[::-1])]
    steps = np.tri(features + 1, features, -1, dtype=bool)
    masks = np.empty((len(both), features + 1, features), dtype=bool)
    for position, order in enumerate(both):
        masks[position][:, order] = steps
    values = value(masks.reshape(-1, features)).reshape(len(both), features + 1)
    parts = np.empty((len(both), features))
    for position, order in enumerate(both):
        parts[position, order] = np.diff(values[position])
    pairs = parts.reshape(ORDERS, 2, features).mean(axis=1)
    error = pairs.std(axis=0, ddof=1).max() / np.sqrt(ORDERS)
    return pairs.mean(axis=0), float(error)


def usual_row(bundle: Bundle) -> dict[str, Column]:
    """Return the row of usual values, encoded, each column of shape (1,)."""
    profile = bundle.reference
    return {f.name: _usual_value(profile.column(f.name), f) for f in bundle.signature.features}


def _usual_value(column: ColumnProfile | None, feature: Feature) -> Column:
    value: object = None
    if column is not None and feature.kind in (Kind.CATEGORY, Kind.BOOLEAN):
        value = column.top[0].value if column.top else None
    elif column is not None and column.quantiles:
        median = column.quantiles[len(column.quantiles) // 2]
        if feature.kind is Kind.TIME:
            return np.array([median])
        value = median
    return encode_values([value], feature.name, feature.read_as, [])
