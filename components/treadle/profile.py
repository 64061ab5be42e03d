"""Profile a table: columns of which each value can be counted by its place as they are decoded
(``tally``), the others by DuckDB (``scan``).

The same rows give the same profile to the last bit, however many threads read them: sums are taken
over whole numbers and quantiles from rows chosen by position.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from treadle import tally
from treadle.edges import fine_edges
from treadle.records import ColumnProfile, Kind, Profile
from treadle.sampling import Sampling
from treadle.scan import Scan
from treadle.sql import connected
from treadle.summary import Seen, by_value

# Of columns with many values, quantiles are those of about so many rows: off by 0.2 % of rows at
# most times.
SAMPLED_ROWS = 50_000
_COLUMNS_AT_ONCE = 32


@dataclass(frozen=True)
class Profiled:
    """A profile and what else was seen on the way: how many of its numbers lie between the
    ``fine_edges`` of a reference's columns, and some of the rows as numbers (``summary.Seen``)."""

    profile: Profile
    counted: dict[str, list[int]]
    sample: dict[str, npt.NDArray[np.float64]]


def profile(path: Path, kinds: Mapping[str, Kind]) -> Profile:
    """Profile the Parquet file at ``path``; ``kinds`` says how each column is read.

    Values are profiled as a model reads them: what can't be read as the kind it is counts as null.
    Counts and nulls are exact; where values are many, distinct counts above 10,000 are approximate
    (HyperLogLog), and so are quantiles. Times are profiled as epoch seconds.
    """
    return profile_and_count(path, kinds, ()).profile


def profile_and_count(
    path: Path, kinds: Mapping[str, Kind], reference: Sequence[ColumnProfile]
) -> Profiled:
    """Profile a file, and count its numbers between the edges of a reference's columns too."""
    rows = pq.read_metadata(path).num_rows
    edges = {c.name: fine_edges(c) for c in reference if c.cells and kinds.get(c.name) is c.kind}
    sampling = Sampling(rows, SAMPLED_ROWS)
    seen = {
        name: by_value(name, kinds[name], rows, values, edges.get(name), sample)
        for name, (values, sample) in tally.count(path, kinds, sampling).items()
    }
    left = {name: kind for name, kind in kinds.items() if name not in seen}
    if left:
        seen |= _scanned(path, left, sampling, edges)
    return Profiled(
        Profile(rows=rows, columns=[seen[name].column for name in kinds]),
        {name: counted for name in kinds if (counted := seen[name].counted) is not None},
        {name: seen[name].sample for name in kinds},
    )


def _scanned(
    path: Path, kinds: Mapping[str, Kind], sampling: Sampling, edges: Mapping[str, list[float]]
) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    with connected() as connection, ThreadPoolExecutor(os.cpu_count()) as pool:
        connection.read_parquet(str(path)).create_view("data")
        scans = [Scan(connection.cursor(), path, some, sampling, edges) for some in _parted(kinds)]
        for found in pool.map(Scan.columns, scans):
            seen |= found
    return seen


def _parted(kinds: Mapping[str, Kind]) -> list[dict[str, Kind]]:
    """Part columns among processors, no more than _COLUMNS_AT_ONCE together. They are taken in
    turn: neighbours are often alike, and would make one part the longest."""
    parts = max(min(os.cpu_count() or 1, len(kinds)), -(-len(kinds) // _COLUMNS_AT_ONCE))
    return [dict(list(kinds.items())[part::parts]) for part in range(parts)]
