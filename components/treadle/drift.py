"""Drift of columns by effect size, and whether the rows are enough to believe it.

The effect says how far a column has moved and doesn't grow with the number of rows; the test says
only whether so many rows could have moved so far by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from treadle.edges import QUANTILES, between, cell_edges, coarser, fine_edges
from treadle.records import ColumnDrift, ColumnProfile, Kind, Profile
from treadle.sql import as_read, connected, single, text

FALSE_DISCOVERY_RATE = 0.01
# A category's commonest values are compared one by one, all others together.
VALUES_COMPARED = 50
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Counted:
    """A column's rows over the same cells, then and now, and what a picture shows of both."""

    was: Counts
    now: Counts
    shift: float | None
    shown: tuple[list[int], list[int]]


def distance(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon distance of two count vectors: the square root of the divergence
    in bits, 0 (equal) to 1 (disjoint). Lin 1991, "Divergence measures based on the Shannon
    entropy". 0 where either is empty."""
    return float(np.sqrt(_divergence(reference[None], current[None])[0]))


def shift(reference: ColumnProfile, current: Sequence[int]) -> float | None:
    """Return how far numbers have moved: the Wasserstein distance in units of the reference's
    spread (half of what lies between its 16 % and 84 % quantiles: one standard deviation of a
    normal distribution).

    ``current`` are counts over the reference's cells. Values beyond the reference's 1 % and 99 %
    quantiles count as those, so that one wild value doesn't decide. None where the reference has
    no spread or one of both has no value.
    """
    unit = spread(reference)
    if unit is None or not sum(current) or not sum(reference.cells):
        return None
    quantiles = reference.quantiles
    below = [np.cumsum(cells)[:-1] / sum(cells) for cells in (reference.cells, current)]
    apart = np.abs(below[0] - below[1])
    return float(np.trapezoid(apart, cell_edges(quantiles)) / unit)


def spread(column: ColumnProfile) -> float | None:
    """Return a number's spread: half of what lies between its 16 % and 84 % quantiles, or between
    its furthest ones. None where it has none."""
    quantiles = column.quantiles
    if len(quantiles) != len(QUANTILES):
        return None
    low, high = np.interp([0.1587, 0.8413], QUANTILES, quantiles)
    found = float((high - low) / 2 or (quantiles[-1] - quantiles[0]) / 2)
    return found if found > 0 else None


def chance(reference: Counts, current: Counts) -> float:
    """Return the p-value of a chi-squared test that both come from one distribution, with Yates'
    correction where there are two cells (as scipy.stats.chi2_contingency)."""
    table = np.array([reference, current], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    freedom = table.shape[1] - 1
    if freedom < 1 or not table.sum(axis=1).all():
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    apart = np.abs(table - expected)
    if freedom == 1:
        apart -= np.minimum(0.5, apart)
    return _beyond(float((apart**2 / expected).sum()), freedom)


def _beyond(chi_squared: float, freedom: int) -> float:
    """Return the chance of a larger chi-squared value (Abramowitz and Stegun 26.4.4 and 26.4.5).
    To import scipy for it takes longer than to profile a table."""
    half, odd = chi_squared / 2, freedom % 2
    if half == 0:
        return 1.0
    powers = (n + odd / 2 for n in range(freedom // 2))
    series = (math.exp(p * math.log(half) - half - math.lgamma(p + 1)) for p in powers)
    return min(math.fsum([math.erfc(math.sqrt(half)) if odd else 0.0, *series]), 1.0)


def believable(chances: Sequence[float]) -> list[bool]:
    """Say which p-values survive the Benjamini-Hochberg procedure (1995) at
    FALSE_DISCOVERY_RATE."""
    order = np.argsort(chances)
    limits = FALSE_DISCOVERY_RATE * (np.arange(len(chances)) + 1) / max(len(chances), 1)
    under = np.flatnonzero(np.asarray(chances)[order] <= limits)
    kept = set(order[: under[-1] + 1].tolist()) if len(under) else set[int]()
    return [i in kept for i in range(len(chances))]


def compare(
    connection: duckdb.DuckDBPyConnection, reference: Sequence[ColumnProfile], rows: int
) -> list[ColumnDrift]:
    """Compare the view ``data`` with the reference, column by column, the furthest first. Times
    are left out: later rows are later."""
    columns = [column for column in reference if column.kind is not Kind.TIME]
    return _furthest_first(_told(columns, _count(connection, columns, rows)))


def _furthest_first(drifts: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    return sorted(drifts, key=lambda drift: -drift.distance)


def compare_logged(
    logged: Sequence[tuple[ColumnProfile, pa.Array]],
) -> list[tuple[ColumnDrift, Counts]]:
    """Compare features as the prediction log holds them with the reference, each with its counts:
    of the reference's cells or commonest values, of all other values, of nulls."""
    columns = [column for column, _ in logged]
    counted = [_count_logged(values, column) for column, values in logged]
    drifts = _told(columns, counted)
    return [(told, pair.now) for told, pair in zip(drifts, counted, strict=True)]


def places_of(values: pa.Array, column: ColumnProfile) -> tuple[npt.NDArray[np.int64], int]:
    """Return where each value of a logged feature counts (in one of the reference's cells or
    commonest values, among all others, or as null), and how many such places there are."""
    if column.cells:
        edges = _as_logged(cell_edges(column.quantiles), values.type.to_pandas_dtype())
        numbers = values.to_numpy(zero_copy_only=False)
        found = np.searchsorted(edges, numbers, side="right").astype(np.int64)
        others = len(edges) + 1
    else:
        known = [share.value for share in column.top[:VALUES_COMPARED]]
        others = len(known)
        if column.kind is Kind.BOOLEAN:
            values = pc.if_else(pc.greater(values, 0), "true", "false")
        codes = pc.index_in(values, value_set=pa.array(known, pa.string()))
        found = codes.fill_null(others).to_numpy(zero_copy_only=False).astype(np.int64)
    found[np.asarray(values.is_null())] = others + 1
    return found, others + 2


def _count_logged(values: pa.Array, column: ColumnProfile) -> _Counted:
    rows, present = len(values), len(values) - values.null_count
    if column.cells:
        numbers = values.drop_null().to_numpy()
        edges = _as_logged(fine_edges(column), numbers.dtype)
        found = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)
        return _counted(column, rows, present, found.tolist())
    if column.kind is Kind.BOOLEAN:
        true = int((values.drop_null().to_numpy() > 0).sum())
        return _counted(column, rows, present, {"true": true, "false": present - true})
    shares = values.value_counts()
    held = dict(zip(shares.field(0).to_pylist(), shares.field(1).to_pylist(), strict=True))
    return _counted(column, rows, present, held)


def _as_logged(edges: Sequence[float], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return edges in the precision of the values: one that follows right after another, so that a
    value has a cell of its own, still does."""
    exact = np.asarray(edges)
    rounded = exact.astype(dtype)
    for place in np.flatnonzero(np.nextafter(exact[:-1], np.inf) == exact[1:]) + 1:
        if rounded[place] == rounded[place - 1]:
            rounded[place] = np.nextafter(rounded[place], np.inf, dtype=dtype)
    return rounded


def apart(one: Counts, other: Counts) -> npt.NDArray[np.float64]:
    """Return the Jensen-Shannon distances of two (pairs, cells) arrays of counts, row by row,
    without what chance alone gives: with k cells and n and m rows the divergence is
    (k - 1) / (8 ln 2) (1/n + 1/m) bits on average even where both come from one distribution
    (Grosse et al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence")."""
    n, m = one.sum(axis=1), other.sum(axis=1)
    chance = (((one + other) > 0).sum(axis=1) - 1) / (8 * np.log(2)) * (
        1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)
    )  # fmt: skip
    return np.asarray(np.sqrt(np.maximum(_divergence(one, other) - chance, 0.0)))


def _divergence(one: Counts, other: Counts) -> npt.NDArray[np.float64]:
    """Return the Jensen-Shannon divergences in bits of two (pairs, cells) arrays of counts, row by
    row; 0 where either is empty."""
    n, m = one.sum(axis=1, keepdims=True), other.sum(axis=1, keepdims=True)
    p, q = one / np.maximum(n, 1), other / np.maximum(m, 1)
    mean = (p + q) / 2
    empty = (n == 0) | (m == 0)
    bits = (_bits(p, mean) + _bits(q, mean)) / 2
    return np.where(empty[:, 0], 0.0, np.maximum(bits, 0.0))


def _bits(part: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> Any:
    ratio = np.divide(part, mean, out=np.ones_like(part), where=part > 0)
    return (part * np.log2(ratio)).sum(axis=1)


def compare_profiled(
    path: Path,
    reference: Sequence[ColumnProfile],
    found: Profile,
    counted: Mapping[str, list[int]],
) -> list[ColumnDrift]:
    """Compare a file with the reference by its profile and what was counted with it
    (``profile.profile_and_count``); its rows are read again only where a category has so many
    values that the profile doesn't hold those asked for."""
    columns = [column for column in reference if column.kind is not Kind.TIME]
    pairs = {column.name: _from_profile(column, found, counted) for column in columns}
    unknown = [column for column in columns if pairs[column.name] is None]
    if unknown:
        with connected() as connection:
            connection.read_parquet(str(path)).create_view("data")
            read = _count(connection, unknown, found.rows)
        pairs |= {column.name: pair for column, pair in zip(unknown, read, strict=True)}
    every = [pair for pair in pairs.values() if pair is not None]
    return _furthest_first(_told(columns, every))


def _from_profile(
    column: ColumnProfile, found: Profile, counted: Mapping[str, list[int]]
) -> _Counted | None:
    """Return a column's counts, None where the profile doesn't hold them."""
    now = found.column(column.name)
    if now is None:
        return None
    present = now.rows - now.nulls
    if column.cells:
        return _counted(column, now.rows, present, counted.get(column.name))
    held = {share.value: share.count for share in now.top}
    wanted = {share.value for share in column.top[:VALUES_COMPARED]}
    if now.distinct > len(held) and not wanted <= held.keys():
        return None
    return _counted(column, now.rows, present, held)


def _told(columns: Sequence[ColumnProfile], counted: Sequence[_Counted]) -> list[ColumnDrift]:
    chances = [chance(pair.was, pair.now) for pair in counted]
    return [
        ColumnDrift(
            column=column.name,
            distance=distance(pair.was, pair.now),
            shift=pair.shift,
            significant=sure,
            words=_words(column, pair),
            was=pair.shown[0],
            now=pair.shown[1],
        )
        for column, pair, sure in zip(columns, counted, believable(chances), strict=True)
    ]


def _count(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[ColumnProfile], rows: int
) -> list[_Counted]:
    """Count the view ``data`` in one pass over all columns, as the reference was counted."""
    if not columns:
        return []
    wanted = []
    for place, column in enumerate(columns):
        value = f"c{place}"
        wanted += [f"count({value})"]
        if column.cells:
            wanted += [between(value, fine_edges(column))]
        else:
            known = ", ".join(text(share.value) for share in column.top[:VALUES_COMPARED])
            kept = f"CASE WHEN {value} IN ({known}) THEN {value} END" if known else "NULL"
            wanted += [f"histogram({kept})"]
    read = ", ".join(f"{as_read(c.name, c.kind)} AS c{i}" for i, c in enumerate(columns))
    row = single(connection, f"SELECT {', '.join(wanted)} FROM (SELECT {read} FROM data)")
    return [
        _counted(column, rows, row[2 * place], row[2 * place + 1])
        for place, column in enumerate(columns)
    ]


def _counted(column: ColumnProfile, rows: int, present: int, found: Any) -> _Counted:
    """Line up what was counted: cells, then all other values, then nulls (what can't be read as
    the kind it is included)."""
    known = column.rows - column.nulls
    if column.cells:
        fine = fine_edges(column)
        found = found or [0] * (len(fine) + 1)
        cells = coarser(found, fine, cell_edges(column.quantiles))
        drawn = coarser(found, fine, column.edges[1:-1])
        was = np.array([*column.cells, 0, column.nulls])
        now = np.array([*cells, 0, rows - present])
        pictured = ([*column.counts, 0, column.nulls], [*drawn, 0, rows - present])
        return _Counted(was, now, shift(column, cells), pictured)
    values = [share.value for share in column.top[:VALUES_COMPARED]]
    before = [share.count for share in column.top[:VALUES_COMPARED]]
    after = [int((found or {}).get(value, 0)) for value in values]
    was = np.array([*before, known - sum(before), column.nulls])
    now = np.array([*after, present - sum(after), rows - present])
    return _Counted(was, now, None, (was.tolist(), now.tolist()))


def _words(column: ColumnProfile, counted: _Counted) -> str:
    """Say what moved most."""
    was, now = counted.was, counted.now
    p, q = was / max(was.sum(), 1), now / max(now.sum(), 1)
    cell = int(np.argmax(np.abs(p - q)))
    moved = f"{p[cell]:.1%} of rows before, {q[cell]:.1%} now"
    if cell == len(p) - 1:
        return f"null or no {column.kind}: {moved}"
    if column.cells:
        return f"{_range(cell_edges(column.quantiles), cell)}: {moved}"
    if cell == len(p) - 2:
        return f"any other value: {moved}"
    return f"{column.top[cell].value}: {moved}"


def _range(edges: Sequence[float], cell: int) -> str:
    if cell == 0:
        return f"below {edges[0]:.4g}"
    if cell == len(edges):
        alone = len(edges) > 1 and edges[-1] == np.nextafter(edges[-2], np.inf)
        return f"above {edges[-1]:.4g}" if alone else f"{edges[-1]:.4g} and above"
    low, high = edges[cell - 1], edges[cell]
    return f"{low:.4g}" if high == np.nextafter(low, np.inf) else f"{low:.4g} to {high:.4g}"
