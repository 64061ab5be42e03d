"""Profile columns of a Parquet file with DuckDB: a look at some rows tells whether a column has few
values; then one pass over all rows counts these value by value, and all others between edges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from treadle.edges import between, bin_edges, cell_edges, coarser
from treadle.records import ColumnProfile, Kind, Lengths, Share
from treadle.sampling import Sampling
from treadle.sql import NUMERIC, as_number, as_read, quoted, single, text
from treadle.summary import COMMONEST, DAY_S, Seen, Values, by_value, gap, quantiles_of, thinned

# A column is counted value by value where no more values than this are to be expected.
FEW = 50_000
EXACT_DISTINCT = 10_000


class Scan:
    """Profiles some columns of a file."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        path: Path,
        kinds: Mapping[str, Kind],
        sampling: Sampling,
        edges: Mapping[str, list[float]],
    ) -> None:
        """``connection``, closed at the end, knows the file as the view ``data``; ``edges`` are
        those between which numbers are to be counted too."""
        connection.execute("SET TimeZone = 'UTC'")
        self._connection = connection
        self._path = path
        self._rows = sampling.rows
        self._kinds = kinds
        self._edges = edges
        self._sampling = sampling

    def columns(self) -> dict[str, Seen]:
        """Return what is seen of each column."""
        with self._connection:
            sample = self._sampled()
            few = [name for name in self._kinds if self._is_few(sample[name])]
            many = [name for name in self._kinds if name not in few]
            numbers = [name for name in many if self._kinds[name] in NUMERIC]
            others = [name for name in many if name not in numbers]
            found = self._few(few, sample) | self._numbers(numbers, sample)
            found |= self._others(others, sample)
            return found | self._counted_exactly([found[name] for name in many])

    def _sampled(self) -> dict[str, Values]:
        """Return the sampled rows, in their order."""
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
        if self._sampling.every == 1:
            return "FROM data"
        # A column of that name hides DuckDB's own number of a row.
        names = self._connection.table("data").columns
        if any(name.casefold() == "file_row_number" for name in names):
            return f"FROM data QUALIFY {self._sampling.where('(row_number() OVER () - 1)')}"
        file = f"read_parquet({text(str(self._path))})"
        return f"FROM {file} WHERE {self._sampling.where('file_row_number')}"

    def _is_few(self, sample: Values) -> bool:
        """Say whether a column has few values: those seen, and for each that was seen once as many
        as there may be in all the rows that weren't looked at."""
        known = thinned(sample)
        counts = np.unique(known[~np.isnan(known)], return_counts=True)[1]
        once = int((counts == 1).sum())
        return len(counts) + once * (self._rows / max(len(known), 1) - 1) <= FEW

    def _ask(self, names: Sequence[str], wanted: Sequence[str]) -> tuple[Any, ...]:
        """Ask for aggregates over the columns, which are called c0, c1, …"""
        read = (f"{as_read(name, self._kinds[name])} AS c{i}" for i, name in enumerate(names))
        source = f"(SELECT {', '.join(read)} FROM data)"
        return single(self._connection, f"SELECT {', '.join(wanted)} FROM {source}")

    def _few(self, names: Sequence[str], sample: Mapping[str, Values]) -> dict[str, Seen]:
        """Profile columns that have few values by each of them."""
        if not names:
            return {}
        row = self._ask(names, [f"histogram(c{place})" for place in range(len(names))])
        return {
            name: by_value(name, self._kinds[name], self._rows, found or {}, self._edges.get(name),
                           sample[name])
            for name, found in zip(names, row, strict=True)
        }  # fmt: skip

    def _numbers(self, names: Sequence[str], sample: Mapping[str, Values]) -> dict[str, Seen]:
        """Profile numbers that have many values: their quantiles by the sample, the rest by all."""
        if not names:
            return {}
        ranges = self._ranges(names)
        wanted, quantiles, edges, fine = [], [], [], []
        for place, (name, (low, high)) in enumerate(zip(names, ranges, strict=True)):
            value = f"c{place}"
            quantiles.append(quantiles_of(np.sort(sample[name][~np.isnan(sample[name])])))
            edges.append(bin_edges(low, high, quantiles[-1]))
            inner = {*edges[-1][1:-1], *cell_edges(quantiles[-1]), *self._edges.get(name, [])}
            fine.append(sorted(inner))
            scale = 2.0 ** _exponent(low, high)
            wanted += [f"count({value})", f"approx_count_distinct({value})"]
            wanted += [f"sum(({value} * {scale!r})::BIGINT)", f"bool_and({value} = floor({value}))"]
            wanted += [between(value, fine[-1])]
        row = self._ask(names, wanted)
        found = {}
        for place, (name, (low, high)) in enumerate(zip(names, ranges, strict=True)):
            present, distinct, total, whole, counts = row[5 * place : 5 * place + 5]
            kind, asked = self._kinds[name], self._edges.get(name)
            column = ColumnProfile(
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
                gap=gap(self._days(name)) if kind is Kind.TIME else None,
            )
            counted = None if asked is None else coarser(counts, fine[place], asked)
            found[name] = Seen(column, counted, thinned(sample[name]))
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

    def _others(self, names: Sequence[str], sample: Mapping[str, Values]) -> dict[str, Seen]:
        """Profile texts that have many values."""
        if not names:
            return {}
        wanted = []
        for place in range(len(names)):
            value = f"c{place}"
            wanted += [f"count({value})", f"approx_count_distinct({value})"]
            wanted += [f"{aggregate}(length({value}))" for aggregate in ("min", "max", "avg")]
            wanted += [f"avg(length({value}) - length(replace({value}, ' ', '')))"]
        row = self._ask(names, wanted)
        found = {}
        for place, name in enumerate(names):
            present, distinct, shortest, longest, mean, spaces = row[6 * place : 6 * place + 6]
            lengths = Lengths(shortest=shortest, longest=longest, mean=mean, mean_words=spaces + 1)
            column = ColumnProfile(
                name=name,
                kind=self._kinds[name],
                rows=self._rows,
                nulls=self._rows - present,
                distinct=distinct,
                top=self._commonest(name),
                lengths=lengths,
            )
            found[name] = Seen(column, None, thinned(sample[name]))
        return found

    def _commonest(self, name: str) -> list[Share]:
        """Return the commonest values of the sample with how many of all rows hold them: to count
        every value would take memory for each."""
        value = f"{as_read(name, self._kinds[name])} AS value"
        known = (
            f"SELECT value FROM (SELECT {value} {self._chosen()}) WHERE value IS NOT NULL "
            f"GROUP BY value ORDER BY count(*) DESC, value LIMIT {COMMONEST}"
        )
        query = (
            f"SELECT value, count(*) AS n FROM (SELECT {value} FROM data) WHERE value IN ({known}) "
            "GROUP BY value ORDER BY n DESC, value"
        )
        found = self._connection.sql(query).fetchall()
        return [Share(value=value, count=count) for value, count in found]

    def _counted_exactly(self, seen: Sequence[Seen]) -> dict[str, Seen]:
        """Count what was estimated and turned out to be few."""
        few = {each.column.name: each for each in seen if each.column.distinct < EXACT_DISTINCT}
        if not few:
            return {}
        row = self._ask([*few], [f"count(DISTINCT c{place})" for place in range(len(few))])
        return {
            name: replace(each, column=each.column.model_copy(update={"distinct": distinct}))
            for (name, each), distinct in zip(few.items(), row, strict=True)
        }


def _exponent(low: float, high: float) -> int:
    """Return the power of two by which numbers become whole ones below 2**53: sums of those don't
    depend on their order."""
    return min(53 - math.frexp(max(abs(low), abs(high)))[1], 1000)
