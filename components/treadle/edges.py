"""Edges between which numbers are counted, for the eye and for comparison."""

import math
from collections import Counter
from collections.abc import Sequence

from treadle.records import ColumnProfile

BINS = 20
QUANTILES = (0.01, *(step / 20 for step in range(1, 20)), 0.99)


def bin_edges(low: float, high: float, quantiles: Sequence[float]) -> list[float]:
    """Return the edges of BINS equal bins between the 1 % and the 99 % quantile of numbers from
    ``low`` to ``high``; the first and the last bin also take what lies outside, so that one wild
    value doesn't flatten the rest."""
    if quantiles[-1] > quantiles[0]:
        low, high = quantiles[0], quantiles[-1]
    if low == high:
        return [low, high]
    return [low + (high - low) * i / BINS for i in range(BINS + 1)]


def cell_edges(quantiles: Sequence[float]) -> list[float]:
    """Return the inner edges of the cells that ``ColumnProfile.cells`` counts: the quantiles, so
    that each cell holds about as many rows, with a cell of its own for a value that takes up
    several. The first and the last cell are open."""
    edges: list[float] = []
    for value, times in sorted(Counter(quantiles).items()):
        edges.append(value)
        if times > 1 or len(quantiles) == 1:
            edges.append(math.nextafter(value, math.inf))
    return edges


def fine_edges(column: ColumnProfile) -> list[float]:
    """Return the inner edges of a column's cells and of its histogram's bins together."""
    return sorted({*column.edges[1:-1], *cell_edges(column.quantiles)})


def coarser(counts: Sequence[int], fine: Sequence[float], inner: Sequence[float]) -> list[int]:
    """Add up counts between the ``fine`` edges to counts between some of them."""
    kept = set(inner)
    added = [0]
    for place, count in enumerate(counts):
        if place and fine[place - 1] in kept:
            added.append(0)
        added[-1] += count
    return added


def between(value: str, inner: Sequence[float]) -> str:
    """Return the SQL of a list of counts: how many of an expression's values lie below the first
    of the ``inner`` edges, from each to below the next, and from the last on. NULL where the
    expression is never anything else."""
    # DuckDB's bins take in their upper edge; turned around, they take in the lower one.
    edges = ", ".join(f"{-edge!r}::DOUBLE" for edge in reversed(inner))
    whole = f"[{edges}, 'inf'::DOUBLE]" if inner else "['inf'::DOUBLE]"
    return f"list_reverse(map_values(histogram(-({value}), {whole})))"
