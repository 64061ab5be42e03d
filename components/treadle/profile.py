"""Profile a table with DuckDB: one pass over all columns for their range, a second for their values
or quantiles, a third, where a column has many values, for counts between those; and one over each
category for its commonest values.

The same rows give the same profile to the last bit, however many threads read them: sums are taken
over whole numbers and quantiles from rows chosen by position.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from treadle.encoding import FALSE_WORDS, TIME_TEXT, TRUE_WORDS
from treadle.records import ColumnProfile, Gap, Kind, Lengths, Profile, Share

# The largest number that float32, and so a model, rounds to one that is finite.
LARGEST = 3.4028235677973362e38
BINS = 20
TOP = 1_000
QUANTILES = (0.01, *(step / 20 for step in range(1, 20)), 0.99)
# Quantiles of a larger table are those of about so many rows: off by 0.2 % of rows at most times.
SAMPLED_ROWS = 100_000
# Numbers with no more values than this are counted value by value.
FEW = 4_000
EXACT_DISTINCT = 10_000
DAY_S = 86_400
Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
NUMERIC = (Kind.NUMBER, Kind.TIME)


def profile(path: Path, kinds: dict[str, Kind]) -> Profile:
    """Profile the Parquet file at ``path``; ``kinds`` says how each column is read.

    Values are profiled as a model reads them: what can't be read as the kind it is counts as null.
    Counts and nulls are exact; distinct counts are approximate (HyperLogLog) above EXACT_DISTINCT;
    quantiles are of about SAMPLED_ROWS rows where there are more. Times are profiled as epoch
    seconds.
    """
    return profile_and_count(path, kinds, ())[0]


def profile_and_count(
    path: Path, kinds: dict[str, Kind], reference: Sequence[ColumnProfile]
) -> tuple[Profile, dict[str, list[int]]]:
    """Profile a file, and count its numbers between the ``fine_edges`` of a reference's columns on
    the way."""
    rows = pq.read_metadata(path).num_rows
    inner = {c.name: fine_edges(c) for c in reference if c.cells and kinds.get(c.name) is c.kind}
    with connected() as connection:
        connection.read_parquet(str(path)).create_view("data")
        found = _first_pass(connection, kinds, rows)
        found, counted = _second_pass(connection, path, found, inner)
        found = _third_pass(connection, found, inner, counted)
        columns = [_by_value(connection, column) for column in found]
    return Profile(rows=rows, columns=columns), counted


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection of its own that reads times without a zone as UTC."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def quoted(name: str) -> str:
    """Quote a column's name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


def as_number(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as a number, as ``signature`` does: times become epoch
    seconds; what is no number, not finite or beyond float32 becomes null."""
    column = quoted(name)
    if kind is Kind.TIME:
        text = f"CAST({column} AS VARCHAR)"
        plain = f"typeof({column}) <> 'VARCHAR' OR regexp_full_match({text}, '{TIME_TEXT}')"
        return f"epoch(TRY_CAST(CASE WHEN {plain} THEN {column} END AS TIMESTAMPTZ))"
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
        f"WHEN typeof({column}) LIKE 'DECIMAL%' "
        f"THEN regexp_replace(regexp_replace({text}, '(\\.[0-9]*?)0+$', '\\1'), '\\.$', '') "
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


def _first_pass(
    connection: duckdb.DuckDBPyConnection, kinds: dict[str, Kind], rows: int
) -> list[ColumnProfile]:
    """Nulls, distinct values, the range of numbers and the length of texts."""
    wanted: list[str] = []
    for place, kind in enumerate(kinds.values()):
        value = f"c{place}"
        wanted += [f"count({value})", f"approx_count_distinct({value})"]
        if kind in NUMERIC:
            wanted += [f"min({value})", f"max({value})", "NULL", "NULL"]
        else:
            wanted += [f"{aggregate}(length({value}))" for aggregate in ("min", "max", "avg")]
            spaces = f"length({value}) - length(replace({value}, ' ', ''))"
            wanted += [f"avg({spaces})" if kind is Kind.CATEGORY else "NULL"]
    row = single(connection, f"SELECT {', '.join(wanted)} FROM ({_read(kinds)} FROM data)")
    return [
        _summary(name, kind, rows, row[6 * place : 6 * place + 6])
        for place, (name, kind) in enumerate(kinds.items())
    ]


def _read(kinds: dict[str, Kind], also: str = "") -> str:
    """Return the SQL that reads columns as their kinds and calls them c0, c1, …"""
    read = (f"{as_read(name, kind)} AS c{i}" for i, (name, kind) in enumerate(kinds.items()))
    return f"SELECT {also}{', '.join(read)}"


def _summary(name: str, kind: Kind, rows: int, found: tuple[Any, ...]) -> ColumnProfile:
    present, distinct, *more = found
    column = ColumnProfile(name=name, kind=kind, rows=rows, nulls=rows - present, distinct=distinct)
    if not present:
        return column
    if kind in NUMERIC:
        return column.model_copy(update={"minimum": more[0], "maximum": more[1]})
    if kind is Kind.CATEGORY:
        shortest, longest, mean, spaces = more
        lengths = Lengths(shortest=shortest, longest=longest, mean=mean, mean_words=spaces + 1)
        return column.model_copy(update={"lengths": lengths})
    return column


def _second_pass(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: list[ColumnProfile],
    inner: Mapping[str, list[float]],
) -> tuple[list[ColumnProfile], dict[str, list[int]]]:
    """The values themselves where they are few, counted between the ``inner`` edges too; else
    distinct counts, sums and quantiles."""
    kinds = {column.name: column.kind for column in columns}
    # A column of that name would hide DuckDB's own number of a row.
    taken = any(name.casefold() == "file_row_number" for name in kinds)
    every = 1 if taken or not columns else max(columns[0].rows // SAMPLED_ROWS, 1)
    chosen = "" if every == 1 else f" FILTER (hash(file_row_number) % {every} = 0)"
    wanted: list[str] = []
    for place, column in enumerate(columns):
        value = f"c{place}"
        exact = f"count(DISTINCT {value})" if column.distinct < EXACT_DISTINCT else "NULL"
        if column.minimum is None:
            wanted += ["NULL", exact, "NULL", "NULL", "NULL"]
        elif column.distinct <= FEW:
            wanted += [f"histogram({value})", "NULL", "NULL", "NULL", "NULL"]
        else:
            wanted += ["NULL", exact, f"sum(({value} * {2.0 ** _exponent(column)!r})::BIGINT)"]
            wanted += [f"bool_and({value} = floor({value}))"]
            wanted += [f"quantile_disc({value}, {list(QUANTILES)}){chosen}"]
    read = _read(kinds, "" if every == 1 else "file_row_number, ")
    source = f"({read} FROM read_parquet({text(str(path))}))"
    row = single(connection, f"SELECT {', '.join(wanted)} FROM {source}")
    told, counted = [], {}
    for place, column in enumerate(columns):
        values, *sampled = row[5 * place : 5 * place + 5]
        told.append(_by_values(column, values) if values else _by_sample(column, *sampled))
        if values and column.name in inner:
            counted[column.name] = _counts(*_arrays(values), inner[column.name])
    return told, counted


def _arrays(found: Mapping[float, int]) -> tuple[Values, Counts]:
    values = np.array(list(found), dtype=np.float64)
    return values, np.array(list(found.values()), dtype=np.int64)


def _counts(values: Values, counts: Counts, inner: Sequence[float]) -> list[int]:
    """Count values, each with how often it is there, between edges."""
    places = np.searchsorted(inner, values, side="right")
    return [int(n) for n in np.bincount(places, counts, len(inner) + 1)]


def _by_values(column: ColumnProfile, found: Mapping[float, int]) -> ColumnProfile:
    """Complete the profile of numbers from each of their values and how many rows hold it."""
    values, counts = _arrays(found)
    up_to = np.cumsum(counts)
    ranks = np.ceil(np.array(QUANTILES) * up_to[-1]).astype(int)
    quantiles = values[np.searchsorted(up_to, np.maximum(ranks, 1))].tolist()
    told = column.model_copy(
        update={
            "distinct": len(values),
            "mean": math.fsum((values * counts).tolist()) / int(up_to[-1]),
            "whole": bool((values == np.floor(values)).all()),
            "quantiles": quantiles,
        }
    )
    edges = bin_edges(told)
    drawn = _counts(values, counts, edges[1:-1])
    cells = _counts(values, counts, cell_edges(quantiles))
    update = {"edges": edges, "counts": drawn, "cells": cells}
    return told.model_copy(update=update)


def _by_sample(
    column: ColumnProfile,
    distinct: int | None,
    total: int | None,
    whole: bool | None,
    quantiles: list[float] | None,
) -> ColumnProfile:
    told: dict[str, object] = {}
    if distinct is not None:
        told["distinct"] = distinct
    if total is not None and column.minimum is not None:
        mean = math.ldexp(int(total) / (column.rows - column.nulls), -_exponent(column))
        told |= {"mean": mean, "whole": whole, "quantiles": quantiles or [column.minimum]}
    return column.model_copy(update=told)


def _exponent(column: ColumnProfile) -> int:
    """Return the power of two by which a column's values become whole numbers below 2**53: sums of
    those don't depend on their order."""
    assert column.minimum is not None and column.maximum is not None
    return min(53 - math.frexp(max(abs(column.minimum), abs(column.maximum)))[1], 1000)


def _third_pass(
    connection: duckdb.DuckDBPyConnection,
    columns: list[ColumnProfile],
    wanted: Mapping[str, list[float]],
    counted: dict[str, list[int]],
) -> list[ColumnProfile]:
    """Counts between edges of the numbers whose values are many; those between ``wanted`` edges go
    to ``counted``."""
    many = {c.name: c for c in columns if c.quantiles and not c.counts}
    if not many:
        return columns
    edges = {name: bin_edges(column) for name, column in many.items()}
    inner = [
        sorted({*edges[name][1:-1], *cell_edges(column.quantiles), *wanted.get(name, [])})
        for name, column in many.items()
    ]
    asked = ", ".join(between(f"c{place}", whole) for place, whole in enumerate(inner))
    read = _read({name: column.kind for name, column in many.items()})
    row = single(connection, f"SELECT {asked} FROM ({read} FROM data)")
    for (name, column), whole, found in zip(many.items(), inner, row, strict=True):
        counts = coarser(found, whole, edges[name][1:-1])
        cells = coarser(found, whole, cell_edges(column.quantiles))
        update = {"edges": edges[name], "counts": counts, "cells": cells}
        many[name] = column.model_copy(update=update)
        if name in wanted:
            counted[name] = coarser(found, whole, wanted[name])
    return [many.get(column.name, column) for column in columns]


def coarser(counts: Sequence[int], fine: Sequence[float], inner: Sequence[float]) -> list[int]:
    """Add up counts between the ``fine`` edges to counts between some of them."""
    kept = set(inner)
    added = [0]
    for place, count in enumerate(counts):
        if place and fine[place - 1] in kept:
            added.append(0)
        added[-1] += count
    return added


def _by_value(connection: duckdb.DuckDBPyConnection, column: ColumnProfile) -> ColumnProfile:
    """Add the commonest values of a category and the gaps between a time's days."""
    if column.kind not in NUMERIC:
        counted = shares(connection, as_read(column.name, column.kind))
        return column.model_copy(update={"top": counted})
    if column.kind is Kind.TIME and column.minimum is not None:
        return column.model_copy(update={"gap": _gap(connection, column.name)})
    return column


def _gap(connection: duckdb.DuckDBPyConnection, name: str) -> Gap | None:
    """Find the days between the first and the last that have no row; None where all have."""
    query = (
        f"SELECT DISTINCT floor({as_number(name, Kind.TIME)} / {DAY_S}) AS day FROM data "
        "WHERE day IS NOT NULL ORDER BY day"
    )
    days = np.array([day for (day,) in connection.sql(query).fetchall()])
    missing = np.diff(days) - 1
    if not missing.any():
        return None
    widest = int(np.argmax(missing))
    return Gap(
        missing_days=int(missing.sum()),
        longest_days=int(missing[widest]),
        start=float((days[widest] + 1) * DAY_S),
    )


def bin_edges(column: ColumnProfile) -> list[float]:
    """Return the edges of BINS equal bins between the 1 % and the 99 % quantile; the first and
    the last bin also take what lies outside, so that one wild value doesn't flatten the rest."""
    assert column.minimum is not None and column.maximum is not None
    low, high = column.minimum, column.maximum
    if column.quantiles[-1] > column.quantiles[0]:
        low, high = column.quantiles[0], column.quantiles[-1]
    if low == high:
        return [low, high]
    return [low + (high - low) * i / BINS for i in range(BINS + 1)]


def cell_edges(quantiles: Sequence[float]) -> list[float]:
    """Return the inner edges of the cells that ``ColumnProfile.cells`` counts: the quantiles, so
    that each cell holds about as many rows, with a cell of its own for a value that takes up
    several. The first and the last cell are open."""
    edges: list[float] = []
    for value in sorted(set(quantiles)):
        edges.append(value)
        if quantiles.count(value) > 1 or len(quantiles) == 1:
            edges.append(math.nextafter(value, math.inf))
    return edges


def fine_edges(column: ColumnProfile) -> list[float]:
    """Return the inner edges of a column's cells and of its histogram's bins together."""
    return sorted({*column.edges[1:-1], *cell_edges(column.quantiles)})


def between(value: str, inner: Sequence[float]) -> str:
    """Return the SQL of a list of counts: how many of an expression's values lie below the first
    of the ``inner`` edges, from each to below the next, and from the last on. NULL where the
    expression is never anything else."""
    # DuckDB's bins take in their upper edge; turned around, they take in the lower one.
    edges = ", ".join(f"{-edge!r}::DOUBLE" for edge in reversed(inner))
    whole = f"[{edges}, 'inf'::DOUBLE]" if inner else "['inf'::DOUBLE]"
    return f"list_reverse(map_values(histogram(-({value}), {whole})))"


def shares(connection: duckdb.DuckDBPyConnection, value: str, most: int = TOP) -> list[Share]:
    """Return the ``most`` commonest values of an expression over the view ``data``."""
    query = (
        f"SELECT {value} AS value, count(*) AS n FROM data WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {most}"
    )
    return [Share(value=value, count=count) for value, count in connection.sql(query).fetchall()]
