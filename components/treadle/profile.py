"""Profile a table with DuckDB: a look at some of its rows tells of each column whether it has few
values; then one pass over all rows counts these value by value, and all others between edges.

The same rows give the same profile to the last bit, however many threads read them: sums are taken
over whole numbers and quantiles from rows chosen by position.
"""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from treadle.edges import QUANTILES, between, bin_edges, cell_edges, coarser, fine_edges
from treadle.records import ColumnProfile, Gap, Kind, Lengths, Profile, Share
from treadle.sql import NUMERIC, as_number, as_read, connected, quoted, single, text

TOP = 1_000
# Of columns with many values, quantiles are those of about so many rows: off by 0.2 % of rows at
# most times.
SAMPLED_ROWS = 50_000
# So many of these tell whether a column has few values, and are handed on.
THINNED_ROWS = 20_000
# A column is counted value by value where no more values than this are to be expected.
FEW = 50_000
EXACT_DISTINCT = 10_000
DAY_S = 86_400
_COLUMNS_AT_ONCE = 32
Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profiled:
    """A profile and what else was seen on the way: how many of its numbers lie between the
    ``fine_edges`` of a reference's columns, and THINNED_ROWS of the rows, or all of fewer, as
    numbers (a category's are told apart by theirs; null: NaN)."""

    profile: Profile
    counted: dict[str, list[int]]
    sample: dict[str, Values]


def profile(path: Path, kinds: Mapping[str, Kind]) -> Profile:
    """Profile the Parquet file at ``path``; ``kinds`` says how each column is read.

    Values are profiled as a model reads them: what can't be read as the kind it is counts as null.
    Counts and nulls are exact; distinct counts are approximate (HyperLogLog) above EXACT_DISTINCT
    where values are many; so are quantiles then. Times are profiled as epoch seconds.
    """
    return profile_and_count(path, kinds, ()).profile


def profile_and_count(
    path: Path, kinds: Mapping[str, Kind], reference: Sequence[ColumnProfile]
) -> Profiled:
    """Profile a file, and count its numbers between the edges of a reference's columns too."""
    rows = pq.read_metadata(path).num_rows
    wanted = {c.name: fine_edges(c) for c in reference if c.cells and kinds.get(c.name) is c.kind}
    parts = max(min(os.cpu_count() or 1, len(kinds)), -(-len(kinds) // _COLUMNS_AT_ONCE))
    # Columns are taken in turn: neighbours are often alike, and would make one part the longest.
    shares = [dict(list(kinds.items())[part::parts]) for part in range(parts)]
    with connected() as connection, ThreadPoolExecutor(os.cpu_count()) as pool:
        connection.read_parquet(str(path)).create_view("data")
        looks = [_Look(connection.cursor(), path, rows, some, wanted) for some in shares]
        found = {c.name: c for c in chain.from_iterable(pool.map(_Look.columns, looks))}
    counted = {name: counts for look in looks for name, counts in look.counted.items()}
    thinned = {name: values for look in looks for name, values in look.thinned.items()}
    columns = [found[name] for name in kinds]
    return Profiled(Profile(rows=rows, columns=columns), counted, thinned)


class _Look:
    """A look at some columns of a file."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        path: Path,
        rows: int,
        kinds: Mapping[str, Kind],
        wanted: Mapping[str, list[float]],
    ) -> None:
        connection.execute("SET TimeZone = 'UTC'")
        self._connection = connection
        self._path = path
        self._rows = rows
        self._kinds = kinds
        self._wanted = wanted
        self._every = max(rows // SAMPLED_ROWS, 1)
        self.counted: dict[str, list[int]] = {}
        self.thinned: dict[str, Values] = {}

    def columns(self) -> list[ColumnProfile]:
        """Return the columns' profiles, in no order."""
        with self._connection:
            sample = self._sampled()
            step = -(-self._rows // (self._every * THINNED_ROWS)) or 1
            self.thinned = {name: values[::step] for name, values in sample.items()}
            few = [name for name in self._kinds if self._is_few(self.thinned[name], step)]
            many = [name for name in self._kinds if name not in few]
            numbers = [name for name in many if self._kinds[name] in NUMERIC]
            others = [name for name in many if name not in numbers]
            found = [*self._few(few), *self._numbers(numbers, sample), *self._others(others)]
            return self._counted_exactly(found, many)

    def _sampled(self) -> dict[str, Values]:
        """Return about SAMPLED_ROWS rows, the same each time."""
        parts = []
        for place, (name, kind) in enumerate(self._kinds.items()):
            value = as_read(name, kind)
            if kind not in NUMERIC:
                value = f"CASE WHEN {value} IS NOT NULL THEN (hash({value}) >> 11)::DOUBLE END"
            parts.append(f"{value} AS c{place}")
        found = self._connection.sql(f"SELECT {', '.join(parts)} {self._chosen()}").fetchnumpy()
        return {
            name: np.ma.filled(found[f"c{place}"].astype(np.float64), np.nan)
            for place, name in enumerate(self._kinds)
        }

    def _chosen(self) -> str:
        if self._every == 1:
            return "FROM data"
        # A column of that name hides DuckDB's own number of a row.
        names = self._connection.table("data").columns
        is_hidden = any(name.casefold() == "file_row_number" for name in names)
        number = "row_number() OVER ()" if is_hidden else "file_row_number"
        # With a number of our own: a generated table may hold the hash of its row's number.
        chosen = f"hash({number}, 1786) % {self._every} = 0"
        if is_hidden:
            return f"FROM data QUALIFY {chosen}"
        return f"FROM read_parquet({text(str(self._path))}) WHERE {chosen}"

    def _is_few(self, thinned: Values, step: int) -> bool:
        """Say whether a column has few values: those seen, and for each that was seen once as many
        as there may be in all the rows that weren't looked at."""
        counts = np.unique(thinned[~np.isnan(thinned)], return_counts=True)[1]
        once = int((counts == 1).sum())
        return len(counts) + once * (self._every * step - 1) <= FEW

    def _ask(self, names: Sequence[str], wanted: Sequence[str]) -> tuple[Any, ...]:
        """Ask for aggregates over the columns, which are called c0, c1, …"""
        read = (f"{as_read(name, self._kinds[name])} AS c{i}" for i, name in enumerate(names))
        source = f"(SELECT {', '.join(read)} FROM data)"
        return single(self._connection, f"SELECT {', '.join(wanted)} FROM {source}")

    def _few(self, names: Sequence[str]) -> list[ColumnProfile]:
        if not names:
            return []
        row = self._ask(names, [f"histogram(c{place})" for place in range(len(names))])
        return [self._by_value(name, found or {}) for name, found in zip(names, row, strict=True)]

    def _by_value(self, name: str, found: Mapping[Any, int]) -> ColumnProfile:
        """Return the profile of a column by each of its values and how many rows hold it."""
        kind = self._kinds[name]
        nulls, distinct = self._rows - sum(found.values()), len(found)
        column = ColumnProfile(
            name=name, kind=kind, rows=self._rows, nulls=nulls, distinct=distinct
        )
        if not found:
            return column
        if kind not in NUMERIC:
            top = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TOP]
            shares = [Share(value=value, count=count) for value, count in top]
            lengths = _lengths(found) if kind is Kind.CATEGORY else None
            return column.model_copy(update={"top": shares, "lengths": lengths})
        values = np.array(list(found), dtype=np.float64)
        counts = np.array(list(found.values()), dtype=np.int64)
        if name in self._wanted:
            self.counted[name] = _counts(values, counts, self._wanted[name])
        return column.model_copy(update=_numbers(kind, values, counts))

    def _numbers(self, names: Sequence[str], sample: Mapping[str, Values]) -> list[ColumnProfile]:
        """Profile numbers that have many values: by a sample for the quantiles, else by all."""
        if not names:
            return []
        ranges = self._ranges(names)
        wanted, quantiles, edges, fine = [], [], [], []
        for place, (name, (low, high)) in enumerate(zip(names, ranges, strict=True)):
            value = f"c{place}"
            quantiles.append(_quantiles(np.sort(sample[name][~np.isnan(sample[name])])))
            edges.append(bin_edges(low, high, quantiles[-1]))
            inner = {*edges[-1][1:-1], *cell_edges(quantiles[-1]), *self._wanted.get(name, [])}
            fine.append(sorted(inner))
            scale = 2.0 ** _exponent(low, high)
            wanted += [f"count({value})", f"approx_count_distinct({value})"]
            wanted += [f"sum(({value} * {scale!r})::BIGINT)", f"bool_and({value} = floor({value}))"]
            wanted += [between(value, fine[-1])]
        row = self._ask(names, wanted)
        found = []
        for place, (name, (low, high)) in enumerate(zip(names, ranges, strict=True)):
            present, distinct, total, whole, counts = row[5 * place : 5 * place + 5]
            kind = self._kinds[name]
            if name in self._wanted:
                self.counted[name] = coarser(counts, fine[place], self._wanted[name])
            found.append(
                ColumnProfile(
                    name=name,
                    kind=kind,
                    rows=self._rows,
                    nulls=self._rows - present,
                    distinct=distinct,
                    minimum=low,
                    maximum=high,
                    mean=math.ldexp(int(total) / present, -_exponent(low, high)),
                    whole=whole,
                    quantiles=quantiles[place],
                    edges=edges[place],
                    counts=coarser(counts, fine[place], edges[place][1:-1]),
                    cells=coarser(counts, fine[place], cell_edges(quantiles[place])),
                    gap=_gap(self._days(name)) if kind is Kind.TIME else None,
                )
            )
        return found

    def _ranges(self, names: Sequence[str]) -> list[tuple[float, float]]:
        """Return the least and the largest of each column's numbers. Where Parquet knows those of
        all values, and they are numbers to us, no row is read."""
        types = dict(zip(*(getattr(self._connection.table("data"), what)
                           for what in ("columns", "types")), strict=True))  # fmt: skip
        stored = [name for name in names if str(types[name]) not in ("VARCHAR", "BOOLEAN")]
        known: dict[str, tuple[Any, ...]] = {}
        if stored:
            ends = [f"{end}({quoted(name)}) AS {quoted(f'{end} {i}')}"
                    for i, name in enumerate(stored) for end in ("min", "max")]  # fmt: skip
            read = [as_number(f"{end} {i}", self._kinds[name])
                    for i, name in enumerate(stored) for end in ("min", "max")]  # fmt: skip
            asked = f"SELECT {', '.join(read)} FROM (SELECT {', '.join(ends)} FROM data)"
            row = single(self._connection, asked)
            known = {name: row[2 * i : 2 * i + 2] for i, name in enumerate(stored)}
        unknown = [name for name in names if None in known.get(name, (None,))]
        if unknown:
            asked_of = [f"{end}(c{i})" for i in range(len(unknown)) for end in ("min", "max")]
            row = self._ask(unknown, asked_of)
            known |= {name: row[2 * i : 2 * i + 2] for i, name in enumerate(unknown)}
        return [(low, high) for low, high in (known[name] for name in names)]

    def _days(self, name: str) -> Values:
        """Return the days since 1970 that have a row, in order."""
        day = f"floor({as_number(name, Kind.TIME)} / {DAY_S})"
        query = f"SELECT DISTINCT {day} AS day FROM data WHERE day IS NOT NULL"
        return np.sort(self._connection.sql(query).fetchnumpy()["day"])

    def _others(self, names: Sequence[str]) -> list[ColumnProfile]:
        """Profile texts that have many values."""
        if not names:
            return []
        wanted = []
        for place in range(len(names)):
            value = f"c{place}"
            wanted += [f"count({value})", f"approx_count_distinct({value})"]
            wanted += [f"{aggregate}(length({value}))" for aggregate in ("min", "max", "avg")]
            wanted += [f"avg(length({value}) - length(replace({value}, ' ', '')))"]
        row = self._ask(names, wanted)
        found = []
        for place, name in enumerate(names):
            present, distinct, shortest, longest, mean, spaces = row[6 * place : 6 * place + 6]
            found.append(
                ColumnProfile(
                    name=name,
                    kind=self._kinds[name],
                    rows=self._rows,
                    nulls=self._rows - present,
                    distinct=distinct,
                    top=shares(self._connection, as_read(name, self._kinds[name])),
                    lengths=Lengths(
                        shortest=shortest, longest=longest, mean=mean, mean_words=spaces + 1
                    ),
                )
            )
        return found

    def _counted_exactly(
        self, columns: list[ColumnProfile], many: Sequence[str]
    ) -> list[ColumnProfile]:
        """Count what was estimated and turned out to be few."""
        few = [c.name for c in columns if c.name in many and c.distinct < EXACT_DISTINCT]
        if not few:
            return columns
        row = self._ask(few, [f"count(DISTINCT c{place})" for place in range(len(few))])
        exact = dict(zip(few, row, strict=True))
        return [
            column.model_copy(update={"distinct": exact[column.name]})
            if column.name in exact else column
            for column in columns
        ]  # fmt: skip


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
        "gap": _gap(np.unique(np.floor(values / DAY_S))) if kind is Kind.TIME else None,
    }


def _counts(values: Values, counts: Counts, inner: Sequence[float]) -> list[int]:
    """Count values, each with how often it is there, between edges."""
    places = np.searchsorted(inner, values, side="right")
    return [int(n) for n in np.bincount(places, counts, len(inner) + 1)]


def _quantiles(ordered: Values) -> list[float]:
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


def _exponent(low: float, high: float) -> int:
    """Return the power of two by which numbers become whole ones below 2**53: sums of those don't
    depend on their order."""
    return min(53 - math.frexp(max(abs(low), abs(high)))[1], 1000)


def _gap(days: Values) -> Gap | None:
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


def shares(connection: duckdb.DuckDBPyConnection, value: str, most: int = TOP) -> list[Share]:
    """Return the ``most`` commonest values of an expression over the view ``data``."""
    query = (
        f"SELECT {value} AS value, count(*) AS n FROM data WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {most}"
    )
    return [Share(value=value, count=count) for value, count in connection.sql(query).fetchall()]
