"""Profile a table with DuckDB: one query over all columns, then one each for what needs edges."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from treadle.encoding import FALSE_WORDS, TRUE_WORDS
from treadle.records import ColumnProfile, Kind, Profile, Share

# The largest number that float32, and so a model, rounds to one that is finite.
LARGEST = 3.4028235677973362e38
BINS = 20
TOP = 50
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def profile(path: Path, kinds: dict[str, Kind]) -> Profile:
    """Profile the Parquet file at ``path``; ``kinds`` says how each column is read.

    Values are profiled as a model reads them: what can't be read as the kind it is counts as null.
    Counts and nulls are exact; distinct counts are approximate (HyperLogLog) above 10,000;
    quantiles are approximate (t-digest). Times are profiled as epoch seconds.
    """
    with connected() as connection:
        # One thread: sums and t-digests of several depend on how rows were dealt to them, and the
        # same rows must give the same profile.
        connection.execute("SET threads = 1")
        connection.read_parquet(str(path)).create_view("data")
        summary = _summary(connection, kinds)
        rows = pq.read_metadata(path).num_rows
        columns = [_column(connection, n, k, rows, summary) for n, k in kinds.items()]
    return Profile(rows=rows, columns=columns)


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection of its own that reads times without a zone as UTC."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def quoted(name: str) -> str:
    """Quote a column's name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def as_number(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as a number, as ``signature`` does: times become epoch
    seconds; what is no number, not finite or beyond float32 becomes null."""
    column = quoted(name)
    if kind is Kind.TIME:
        return f"epoch(TRY_CAST({column} AS TIMESTAMPTZ))"
    number = f"TRY_CAST({column} AS DOUBLE)"
    # Parquet's ranges leave NaN out, and DuckDB decides comparisons by them: isfinite is asked.
    return f"CASE WHEN isfinite({number}) AND abs({number}) <= {LARGEST!r} THEN {number} END"


def as_text(name: str) -> str:
    """Return the SQL that reads a column as a category, as ``signature.category`` does (3.0: 3)."""
    column = quoted(name)
    text, number = f"CAST({column} AS VARCHAR)", f"TRY_CAST({column} AS DOUBLE)"
    whole = f"CAST(TRY_CAST({number} AS HUGEINT) AS VARCHAR)"
    double = f"CASE WHEN {number} = trunc({number}) THEN coalesce({whole}, {text}) ELSE {text} END"
    return (
        f"CASE WHEN typeof({column}) IN ('DOUBLE', 'FLOAT') "
        f"THEN CASE WHEN isfinite({number}) THEN {double} END "
        f"WHEN typeof({column}) LIKE 'DECIMAL%' THEN regexp_replace({text}, '\\.0+$', '') "
        f"ELSE {text} END"
    )


def as_boolean(name: str) -> str:
    """Return the SQL that reads a column as a boolean, as ``true`` or ``false``."""
    text = f"lower(trim({as_text(name)}))"

    def among(words: Iterable[str]) -> str:
        return f"{text} IN ({', '.join(repr(word) for word in sorted(words))})"

    return f"CASE WHEN {among(TRUE_WORDS)} THEN 'true' WHEN {among(FALSE_WORDS)} THEN 'false' END"


def as_read(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as its kind; null where it can't be."""
    match kind:
        case Kind.NUMBER | Kind.TIME:
            return as_number(name, kind)
        case Kind.BOOLEAN:
            return as_boolean(name)
        case Kind.CATEGORY:
            return as_text(name)


def single(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the one row of a query that has exactly one."""
    (row,) = connection.sql(query).fetchall()
    return row


Summary = dict[str, tuple[int, int, float | None, float | None, float | None, bool, list[float]]]


def _summary(connection: duckdb.DuckDBPyConnection, kinds: dict[str, Kind]) -> Summary:
    """One pass: nulls, distinct and, for what is a number, range, mean and quantiles."""
    parts = []
    for name, kind in kinds.items():
        value = as_read(name, kind)
        parts += [f"count({value})", f"approx_count_distinct({value})"]
        if kind in (Kind.NUMBER, Kind.TIME):
            parts += [f"{aggregate}({value})" for aggregate in ("min", "max", "avg")]
            parts += [f"bool_and({value} = floor({value}))"]
            parts += [f"approx_quantile({value}, {list(QUANTILES)})"]
        else:
            parts += ["NULL"] * 5
    row = single(connection, f"SELECT {', '.join(parts)} FROM data")
    return {
        name: (*row[i : i + 5], bool(row[i + 5]), row[i + 6] or [])
        for name, i in zip(kinds, range(0, len(row), 7), strict=True)
    }


def _column(
    connection: duckdb.DuckDBPyConnection, name: str, kind: Kind, rows: int, summary: Summary
) -> ColumnProfile:
    present, distinct, low, high, mean, whole, quantiles = summary[name]
    exact = f"SELECT count(DISTINCT {as_read(name, kind)}) FROM data"
    found = ColumnProfile(
        name=name,
        kind=kind,
        rows=rows,
        nulls=rows - present,
        distinct=int(single(connection, exact)[0]) if distinct < 10_000 else distinct,
        minimum=low,
        maximum=high,
        mean=mean,
        whole=whole,
        quantiles=[float(q) for q in quantiles],
    )
    if low is not None and high is not None:
        edges = bin_edges(found)
        counts = histogram(connection, name, kind, edges)
        return found.model_copy(update={"edges": edges, "counts": counts})
    return found.model_copy(update={"top": shares(connection, as_read(name, kind))})


def bin_edges(column: ColumnProfile) -> list[float]:
    """Return the edges of BINS equal bins between the 1 % and the 99 % quantile; the first and
    the last bin also take what lies outside, so that one wild value doesn't flatten the rest."""
    assert column.minimum is not None and column.maximum is not None
    low, high = column.minimum, column.maximum
    if len(column.quantiles) == len(QUANTILES) and column.quantiles[-1] > column.quantiles[0]:
        low, high = column.quantiles[0], column.quantiles[-1]
    if low == high:
        return [low, high]
    return [low + (high - low) * i / BINS for i in range(BINS + 1)]


def histogram(
    connection: duckdb.DuckDBPyConnection, name: str, kind: Kind, edges: list[float]
) -> list[int]:
    """Count the finite values of a column of the view ``data`` between ``edges``."""
    bins = len(edges) - 1
    number = as_number(name, kind)
    width = (edges[-1] - edges[0]) / bins
    place = f"floor(({number} - {edges[0]!r}) / {width!r})" if width else "0"
    # A column with one value has one bin, which holds that value and no other.
    wanted = f"{number} IS NOT NULL" if width else f"{number} = {edges[0]!r}"
    query = (
        f"SELECT least(greatest({place}, 0), {bins - 1})::INTEGER AS bin, count(*) FROM data "
        f"WHERE {wanted} GROUP BY bin"
    )
    found = dict(connection.sql(query).fetchall())
    return [int(found.get(i, 0)) for i in range(bins)]


def shares(connection: duckdb.DuckDBPyConnection, value: str) -> list[Share]:
    """Return the TOP commonest values of an expression over the view ``data``."""
    query = (
        f"SELECT {value} AS value, count(*) AS n FROM data WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {TOP}"
    )
    return [Share(value=value, count=count) for value, count in connection.sql(query).fetchall()]
