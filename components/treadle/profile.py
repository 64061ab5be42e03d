"""Profile a table with DuckDB: one query over all columns, then one each for what needs edges."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from treadle.records import ColumnProfile, Kind, Profile, Share

BINS = 20
TOP = 50
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def profile(path: Path, kinds: dict[str, Kind]) -> Profile:
    """Profile the Parquet file at ``path``; ``kinds`` says how each column is read.

    Counts and nulls are exact; distinct counts are approximate (HyperLogLog) above 10,000;
    quantiles are approximate (t-digest). Times are profiled as epoch seconds.
    """
    with duckdb.connect() as connection:
        # One thread: sums and t-digests of several depend on how rows were dealt to them, and the
        # same rows must give the same profile.
        connection.execute("SET threads = 1")
        connection.read_parquet(str(path)).create_view("data")
        summary = _summary(connection, kinds)
        rows = pq.read_metadata(path).num_rows
        columns = [_column(connection, n, k, rows, summary) for n, k in kinds.items()]
    return Profile(rows=rows, columns=columns)


def quoted(name: str) -> str:
    """Quote a column's name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def as_number(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as a number: times become epoch seconds."""
    column = quoted(name)
    if kind is Kind.TIME:
        return f"epoch({column})"
    return f"TRY_CAST({column} AS DOUBLE)"


def single(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the one row of a query that has exactly one."""
    (row,) = connection.sql(query).fetchall()
    return row


Summary = dict[str, tuple[int, int, float | None, float | None, float | None, list[float]]]


def _summary(connection: duckdb.DuckDBPyConnection, kinds: dict[str, Kind]) -> Summary:
    """One pass: nulls, distinct and, for what is a number, range, mean and quantiles."""
    parts = []
    for name, kind in kinds.items():
        column = quoted(name)
        parts += [f"count({column})", f"approx_count_distinct({column})"]
        if kind in (Kind.NUMBER, Kind.TIME):
            number = f"CASE WHEN isfinite({as_number(name, kind)}) THEN {as_number(name, kind)} END"
            levels = list(_QUANTILES)
            parts += [
                f"min({number})",
                f"max({number})",
                f"avg({number})",
                f"approx_quantile({number}, {levels})",
            ]
        else:
            parts += ["NULL", "NULL", "NULL", "NULL"]
    row = single(connection, f"SELECT {', '.join(parts)} FROM data")
    return {
        name: (row[i], row[i + 1], row[i + 2], row[i + 3], row[i + 4], row[i + 5] or [])
        for name, i in zip(kinds, range(0, len(row), 6), strict=True)
    }


def _column(
    connection: duckdb.DuckDBPyConnection, name: str, kind: Kind, rows: int, summary: Summary
) -> ColumnProfile:
    present, distinct, low, high, mean, quantiles = summary[name]
    found = ColumnProfile(
        name=name,
        kind=kind,
        rows=rows,
        nulls=rows - present,
        distinct=_exact_distinct(connection, name) if distinct < 10_000 else distinct,
        minimum=low,
        maximum=high,
        mean=mean,
        quantiles=[float(q) for q in quantiles],
    )
    if low is not None and high is not None:
        edges = bin_edges(found)
        counts = histogram(connection, name, kind, edges)
        return found.model_copy(update={"edges": edges, "counts": counts})
    return found.model_copy(update={"top": shares(connection, name)})


def _exact_distinct(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    return int(single(connection, f"SELECT count(DISTINCT {quoted(name)}) FROM data")[0])


def bin_edges(column: ColumnProfile) -> list[float]:
    """Return the edges of BINS equal bins between the 1 % and the 99 % quantile; the first and
    the last bin also take what lies outside, so that one wild value doesn't flatten the rest."""
    assert column.minimum is not None and column.maximum is not None
    low, high = column.minimum, column.maximum
    if len(column.quantiles) == len(_QUANTILES) and column.quantiles[-1] > column.quantiles[0]:
        low, high = column.quantiles[0], column.quantiles[-1]
    if low == high:
        return [low, high]
    return [low + (high - low) * i / BINS for i in range(BINS + 1)]


def histogram(
    connection: duckdb.DuckDBPyConnection, name: str, kind: Kind, edges: list[float]
) -> list[int]:
    """Count the finite values of a column of the view ``data`` between ``edges``."""
    bins = max(len(edges) - 1, 1)
    number = as_number(name, kind)
    width = (edges[-1] - edges[0]) / bins
    place = f"floor(({number} - {edges[0]!r}) / {width!r})" if width else "0"
    query = (
        f"SELECT least(greatest({place}, 0), {bins - 1})::INTEGER AS bin, count(*) FROM data "
        f"WHERE isfinite({number}) GROUP BY bin"
    )
    found = dict(connection.sql(query).fetchall())
    return [int(found.get(i, 0)) for i in range(bins)]


def shares(connection: duckdb.DuckDBPyConnection, name: str) -> list[Share]:
    """Return the TOP commonest values of a column of the view ``data``."""
    column = quoted(name)
    query = (
        f"SELECT {column}::VARCHAR AS value, count(*) AS n FROM data WHERE {column} IS NOT NULL "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {TOP}"
    )
    return [Share(value=value, count=count) for value, count in connection.sql(query).fetchall()]
