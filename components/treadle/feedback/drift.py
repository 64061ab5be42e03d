"""Drift of one column by effect size, and whether the sample is large enough to believe it."""

from collections.abc import Sequence

import duckdb
import numpy as np
import numpy.typing as npt

from treadle.profile import as_read, histogram, single
from treadle.records import ColumnDrift, ColumnProfile, Kind

FALSE_DISCOVERY_RATE = 0.01
Counts = npt.NDArray[np.int64]


def distance(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon distance of two count vectors: the square root of the divergence
    in bits, 0 (equal) to 1 (disjoint). Lin 1991, "Divergence measures based on the Shannon
    entropy". 0 where either is empty."""
    if not reference.sum() or not current.sum():
        return 0.0
    p, q = reference / reference.sum(), current / current.sum()
    mean = (p + q) / 2

    def bits(part: npt.NDArray[np.float64]) -> float:
        held = part > 0
        return float(np.sum(part[held] * np.log2(part[held] / mean[held])))

    return float(np.sqrt(max((bits(p) + bits(q)) / 2, 0.0)))


def chance(reference: Counts, current: Counts) -> float:
    """Return the p-value of a chi-squared test that both come from one distribution."""
    from scipy.stats import chi2_contingency

    table = np.array([reference, current])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    return float(chi2_contingency(table).pvalue)


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
    pairs = [_counts(connection, column, rows) for column in columns]
    chances = [chance(was, now) for was, now in pairs]
    found = [
        ColumnDrift(
            column=column.name,
            distance=distance(was, now),
            significant=sure,
            words=_words(column, was, now),
        )
        for column, (was, now), sure in zip(columns, pairs, believable(chances), strict=True)
    ]
    return sorted(found, key=lambda drift: -drift.distance)


def _counts(
    connection: duckdb.DuckDBPyConnection, column: ColumnProfile, rows: int
) -> tuple[Counts, Counts]:
    """Return counts over the same cells: bins or the commonest values, then all others, then
    nulls (what can't be read as the kind it is included)."""
    value = as_read(column.name, column.kind)
    present = int(single(connection, f"SELECT count({value}) FROM data")[0])
    if column.edges:
        was = column.counts
        now = histogram(connection, column.name, column.kind, column.edges)
    else:
        was = [share.count for share in column.top]
        now = _shares_now(connection, value, [share.value for share in column.top])
    known = column.rows - column.nulls
    before = np.array([*was, known - sum(was), column.nulls])
    return before, np.array([*now, present - sum(now), rows - present])


def _shares_now(
    connection: duckdb.DuckDBPyConnection, value: str, wanted: Sequence[str]
) -> list[int]:
    query = f"SELECT {value} AS value, count(*) FROM data WHERE value IS NOT NULL GROUP BY value"
    found = dict(connection.sql(query).fetchall())
    return [int(found.get(text, 0)) for text in wanted]


def _words(column: ColumnProfile, was: Counts, now: Counts) -> str:
    """Say what moved most."""
    p, q = was / max(was.sum(), 1), now / max(now.sum(), 1)
    cell = int(np.argmax(np.abs(p - q)))
    moved = f"{p[cell]:.1%} of rows before, {q[cell]:.1%} now"
    if cell == len(p) - 1:
        return f"null or no {column.kind}: {moved}"
    if cell == len(p) - 2:
        return f"any other value: {moved}"
    if column.edges:
        return f"{column.edges[cell]:.4g} to {column.edges[cell + 1]:.4g}: {moved}"
    return f"{column.top[cell].value}: {moved}"
