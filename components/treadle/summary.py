"""What there is to say of a column's values, once each is counted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.edges import QUANTILES, bin_edges, cell_edges
from treadle.kinds import is_identifier, is_text
from treadle.records import ColumnProfile, Gap, Kind, Lengths, Share
from treadle.sql import NUMERIC

# All of a category's values are kept where they are no more than TOP; of others, and of texts and
# identifiers, whose values are seldom seen again, the COMMONEST.
TOP = 10_000
COMMONEST = 1_000
DAY_S = 86_400
# So many rows of a sample are handed on.
THINNED_ROWS = 20_000
Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """A column's profile, how many of its numbers lie between the edges that were asked for, and
    some of its rows as numbers (a category's are told apart by theirs; null: NaN)."""

    column: ColumnProfile
    counted: list[int] | None
    sample: Values


def thinned(sample: Values) -> Values:
    """Return THINNED_ROWS rows of a sample, or all of fewer."""
    return sample[:: max(-(-len(sample) // THINNED_ROWS), 1)]


def by_value(
    name: str,
    kind: Kind,
    rows: int,
    found: Mapping[Any, int],
    edges: Sequence[float] | None,
    sample: Values,
) -> Seen:
    """Return what is seen of a column by each of its values and how many rows hold it."""
    nulls = rows - sum(found.values())
    column = ColumnProfile(name=name, kind=kind, rows=rows, nulls=nulls, distinct=len(found))
    if not found:
        return Seen(column, None, thinned(sample))
    if kind not in NUMERIC:
        lengths = _lengths(found) if kind is Kind.CATEGORY else None
        column = column.model_copy(update={"lengths": lengths})
        # The commonest first, those that are as common by their names.
        top = sorted(sorted(found), key=found.__getitem__, reverse=True)
        is_kept = len(top) <= TOP and not is_text(column) and not is_identifier(column)
        shares = [Share(value=v, count=found[v]) for v in (top if is_kept else top[:COMMONEST])]
        return Seen(column.model_copy(update={"top": shares}), None, thinned(sample))
    values = np.array(list(found), dtype=np.float64)
    counts = np.array(list(found.values()), dtype=np.int64)
    counted = None if edges is None else _counts(values, counts, edges)
    return Seen(column.model_copy(update=_numbers(kind, values, counts)), counted, thinned(sample))


def _numbers(kind: Kind, values: Values, counts: Counts) -> dict[str, object]:
    """Return what there is to say of numbers, each with how many rows hold it."""
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    up_to = np.cumsum(counts)
    ranks = np.ceil(np.array(QUANTILES) * up_to[-1]).astype(int)
    quantiles = values[np.searchsorted(up_to, np.maximum(ranks, 1))].tolist()
    low, high = float(values[0]), float(values[-1])
    edges = bin_edges(low, high, quantiles)
    return {
        "minimum": low,
        "maximum": high,
        "mean": math.fsum((values * counts).tolist()) / int(up_to[-1]),
        "whole": bool((values == np.floor(values)).all()),
        "quantiles": quantiles,
        "edges": edges,
        "counts": _counts(values, counts, edges[1:-1]),
        "cells": _counts(values, counts, cell_edges(quantiles)),
        "gap": gap(np.unique(np.floor(values / DAY_S))) if kind is Kind.TIME else None,
    }


def _counts(values: Values, counts: Counts, inner: Sequence[float]) -> list[int]:
    """Count values, each with how often it is there, between edges."""
    places = np.searchsorted(inner, values, side="right")
    return [int(n) for n in np.bincount(places, counts, len(inner) + 1)]


def quantiles_of(ordered: Values) -> list[float]:
    """Return the QUANTILES of values in order."""
    ranks = np.ceil(np.array(QUANTILES) * len(ordered)).astype(int)
    return [float(value) for value in ordered[np.maximum(ranks, 1) - 1]]


def _lengths(found: Mapping[str, int]) -> Lengths:
    counts = np.array(list(found.values()))
    lengths = np.array([len(value) for value in found])
    spaces = np.array([value.count(" ") for value in found])
    rows = int(counts.sum())
    return Lengths(
        shortest=int(lengths.min()),
        longest=int(lengths.max()),
        mean=int(lengths @ counts) / rows,
        mean_words=int(spaces @ counts) / rows + 1,
    )


def gap(days: Values) -> Gap | None:
    """Find the days between the first and the last that have no row; None where all have."""
    missing = np.diff(days) - 1
    if not missing.any():
        return None
    widest = int(np.argmax(missing))
    return Gap(
        missing_days=int(missing.sum()),
        longest_days=int(missing[widest]),
        start=float((days[widest] + 1) * DAY_S),
    )
