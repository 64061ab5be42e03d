"""Why a row got its answer: what the answer would be with one feature at its usual value.

One feature at a time is replaced by what is usual in training (the median of a number or a time,
the commonest category or boolean), and the difference to the answer is the feature's part in it.
Differences needn't add up, where features act together. It takes one run of the model a row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.bundle import Bundle
from treadle.encoding import Column, encode_values
from treadle.records import ColumnProfile, Feature, Kind
from treadle.signature import encode_rows


def explain(bundle: Bundle, rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Return for each row, by feature, how much of the prediction is owed to its value: in the
    target's unit, or in probability of the class that was predicted. Largest first."""
    usual = _usual(bundle)
    return [_one(bundle, row, usual) for row in rows]


def _one(bundle: Bundle, row: dict[str, Any], usual: dict[str, Column]) -> dict[str, float]:
    columns = encode_rows([row], bundle.encoder)
    names = list(columns)
    count = len(names) + 1
    # The first row is the one asked about; in row i+1 feature i has its usual value.
    asked: dict[str, Column] = {n: column.repeat(count) for n, column in columns.items()}
    for position, name in enumerate(names):
        asked[name][position + 1] = usual[name][0]
    output = np.asarray(bundle.model.output(asked), dtype=np.float64)
    if output.ndim > 1:
        output = output[:, int(output[0].argmax())]
    parts = dict(zip(names, (output[0] - output[1:]).tolist(), strict=True))
    return dict(sorted(parts.items(), key=lambda part: -abs(part[1])))


def _usual(bundle: Bundle) -> dict[str, Column]:
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
