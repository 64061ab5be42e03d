"""Part rows by the values of a column: the commonest ones of a category, four parts of about the
same size of a number or a time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from treadle.analysis.examined import Examined
from treadle.encoding import NULL_CATEGORY, Column, category
from treadle.records import Kind

MOST_VALUES = 12
_PARTS = (0.25, 0.5, 0.75)
NO_VALUE = "no value"


@dataclass(frozen=True)
class Cells:
    """A column parted: each row's place among ``labels``, -1 for a value too rare to have one."""

    column: str
    codes: npt.NDArray[np.int64]
    labels: list[str]


def part(seen: Examined, name: str) -> Cells:
    """Part the rows by a column of the table, whether the model reads it or not."""
    feature = next((f for f in seen.signature.features if f.name == name), None)
    if feature is not None and feature.tokens is None:
        values = seen.columns[name]
        if feature.kind is Kind.CATEGORY:
            return _categories(name, values)
        return _numbers(name, values, feature.kind)
    series = seen.frame[name]
    if pd.api.types.is_datetime64_any_dtype(series):
        times = pd.to_datetime(series, utc=True).astype("datetime64[s, UTC]")
        seconds = times.astype("int64").to_numpy().astype(np.float64)
        return _numbers(name, np.where(times.isna(), np.nan, seconds), Kind.TIME)
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        return _numbers(name, series.to_numpy(dtype=np.float64, na_value=np.nan), Kind.NUMBER)
    return _categories(name, np.array([category(value) for value in series], dtype=object))


def _categories(name: str, values: Column) -> Cells:
    codes, uniques = pd.factorize(values)
    return _commonest(name, codes, [NO_VALUE if u == NULL_CATEGORY else str(u) for u in uniques])


def _commonest(name: str, codes: npt.NDArray[np.int64], labels: list[str]) -> Cells:
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    kept = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    places = np.full(len(labels) + 1, -1)
    places[kept] = np.arange(len(kept))
    return Cells(name, places[codes], [labels[place] for place in kept])


def _numbers(name: str, values: Column, kind: Kind) -> Cells:
    known = values[~np.isnan(values)]
    few = np.unique(known)
    if len(few) <= MOST_VALUES:
        codes = np.where(np.isnan(values), len(few), np.searchsorted(few, values))
        labels = [_value(place, kind) for place in few]
        return _commonest(name, codes, [*labels, NO_VALUE] if len(known) < len(values) else labels)
    edges = np.unique(np.quantile(known, _PARTS))
    codes = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
    said = [_value(edge, kind) for edge in edges]
    labels = [
        f"up to {said[0]}",
        *(f"over {low} to {high}" for low, high in pairwise(said)),
        f"over {said[-1]}",
    ]
    return _commonest(name, codes, [*labels, NO_VALUE] if len(known) < len(values) else labels)


def _value(place: float, kind: Kind) -> str:
    if kind is Kind.BOOLEAN:
        return "true" if place else "false"
    return words_of(place, kind)


def words_of(place: float, kind: Kind) -> str:
    """Write a number, or the epoch seconds of a time, for a person."""
    if kind is Kind.TIME:
        at = datetime.fromtimestamp(place, UTC)
        return f"{at:%Y-%m-%d %H:%M}" if at.hour or at.minute else f"{at:%Y-%m-%d}"
    return f"{place:.4g}" if abs(place) < 1e4 else f"{place:,.0f}"
