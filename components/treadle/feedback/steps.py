"""How far columns move from some rows to the next: by themselves, from one part of the training
rows to the next, and at work, from one look to the next."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from treadle import drift
from treadle.monitoring import Counted, Step, Usual
from treadle.records import ColumnProfile, Kind
from treadle.resampling import Vector

# The rows that training saw are parted so finely, down to parts of LEAST_PART rows, and ever more
# coarsely, to learn how far columns move from one part to the next anyway: a column that turns with
# the hour moves from hour to hour, and not from week to week.
MOST_PARTS, LEAST_PARTS = 512, 8
LEAST_PART = 200
# Columns are taken together, as many as hold so many values: small tables are many.
_MOST_VALUES = 4_000_000
Edges = npt.NDArray[np.int64]


def by_themselves(
    columns: Sequence[ColumnProfile], values: Mapping[str, pa.Array]
) -> tuple[dict[str, list[Usual]], dict[str, Counted]]:
    """Return how far each column moves from one part of the rows to the next, the finest parts
    first, and the counts of the last of the coarsest. ``values`` are as logged, in the order of
    time."""
    usual: dict[str, list[Usual]] = {}
    last: dict[str, Counted] = {}
    for some in _groups(columns, values):
        placed = [drift.places_of(values[column.name], column) for column in some]
        sizes = np.array([size for _, size in placed])
        places = np.stack([where for where, _ in placed])
        numbers = _numbers(some, values)
        usual |= {column.name: [] for column in some}
        for parts in _scales(places.shape[1]):
            edges = np.arange(parts + 1) * places.shape[1] // parts
            counts = _counts_of_parts(places, int(sizes.max()), edges)
            medians = _medians(numbers, some, edges)
            moved = _furthest(some, sizes, counts, medians, places.shape[1] // parts)
            for column, furthest in zip(some, moved, strict=True):
                usual[column.name].append(furthest)
        for column, size, row, median in zip(some, sizes, counts, medians[:, -1], strict=True):
            cells = row[-1, :size].tolist()
            last[column.name] = Counted(
                cells=cells, median=None if np.isnan(median) else float(median)
            )
    return usual, last


def _groups(
    columns: Sequence[ColumnProfile], values: Mapping[str, pa.Array]
) -> Iterator[Sequence[ColumnProfile]]:
    rows = len(values[columns[0].name]) if columns else 0
    at_once = max(_MOST_VALUES // max(rows, 1), 1)
    for begin in range(0, len(columns), at_once):
        yield columns[begin : begin + at_once]


def _scales(rows: int) -> list[int]:
    """Return into how many parts rows are parted, most first."""
    parts = max(min(MOST_PARTS, rows // LEAST_PART), 1)
    found = [parts]
    while found[-1] // 2 >= LEAST_PARTS:
        found.append(found[-1] // 2)
    return found


def _numbers(
    columns: Sequence[ColumnProfile], values: Mapping[str, pa.Array]
) -> npt.NDArray[np.float32]:
    """Return the columns of numbers, each of (rows,), nan for a null."""
    found = [
        values[column.name].to_numpy(zero_copy_only=False)
        for column in columns
        if column.kind is Kind.NUMBER
    ]
    return np.array(found, dtype=np.float32)


def _counts_of_parts(places: npt.NDArray[np.int64], width: int, edges: Edges) -> drift.Counts:
    """Return (columns, parts, width) counts; ``places`` (columns, rows) says in which of a column's
    cells each value counts."""
    columns, parts = len(places), len(edges) - 1
    part = np.repeat(np.arange(parts), np.diff(edges))
    cell = (np.arange(columns)[:, None] * parts + part) * width + places
    found = np.bincount(cell.ravel(), minlength=columns * parts * width)
    return found.reshape(columns, parts, width)


def _medians(
    numbers: npt.NDArray[np.float32], columns: Sequence[ColumnProfile], edges: Edges
) -> Vector:
    """Return the median of each part of each column, (columns, parts), nan where it holds no
    number."""
    sizes = np.diff(edges)
    found = np.full((len(columns), len(sizes)), np.nan)
    if not len(numbers) or not numbers.shape[1]:
        return found
    rows = np.full((len(numbers), len(sizes), sizes.max()), np.nan, dtype=np.float32)
    rows[:, np.arange(sizes.max()) < sizes[:, None]] = numbers
    rows.sort(axis=2)  # nan comes last
    known = sizes.max() - np.isnan(rows).sum(axis=2)
    middle = np.maximum(np.stack([known - 1, known], axis=2), 0) // 2
    of_numbers = np.take_along_axis(rows, middle, axis=2).mean(axis=2, dtype=np.float64)
    found[[column.kind is Kind.NUMBER for column in columns]] = of_numbers
    return found


def _furthest(
    columns: Sequence[ColumnProfile],
    sizes: npt.NDArray[np.int64],
    counts: drift.Counts,
    medians: Vector,
    rows: int,
) -> list[Usual]:
    """Return how far each column moved at most from one part of ``rows`` to the next; ``sizes`` is
    how many of its counts are its own."""
    pairs = [counts[:, begin:end].reshape(-1, counts.shape[2])
             for begin, end in ((0, -1), (1, None))]  # fmt: skip
    distances = drift.apart(*pairs).reshape(len(columns), -1).max(axis=1, initial=0.0)
    nulls = np.diff(_nulls(counts, sizes), axis=1)
    spreads = np.array([[drift.spread(column) or np.nan] for column in columns])
    shifts = np.nan_to_num(np.abs(np.diff(medians, axis=1)) / spreads)
    told = zip(
        distances.tolist(),
        shifts.max(axis=1, initial=0.0).tolist(),
        nulls.max(axis=1, initial=0.0).tolist(),
        _alike(columns, sizes, counts).max(axis=1, initial=0.0).tolist(),
        strict=True,
    )
    return [Usual(rows=rows, distance=distance, shift=shift, nulls=null, alike=alike)
            for distance, shift, null, alike in told]  # fmt: skip


def _alike(
    columns: Sequence[ColumnProfile], sizes: npt.NDArray[np.int64], counts: drift.Counts
) -> Vector:
    """Return the largest share of each column's counts that lies in one cell, (columns, parts). The
    two outer cells of numbers are left out: what is warmer than a whole winter lies there together,
    and isn't alike."""
    cell = np.arange(counts.shape[2])
    outer = np.array([[bool(column.cells)] for column in columns])
    # Of numbers the last three are the upper outer cell, other values and nulls.
    inside = (cell >= outer) & (cell < sizes[:, None] - np.where(outer, 3, 1))
    largest = np.where(inside[:, None], counts, 0).max(axis=2, initial=0)
    return np.asarray(largest / np.maximum(counts.sum(axis=2), 1), dtype=np.float64)


def usual_of(scales: Sequence[Usual], rows: int) -> Usual:
    """Return how far a column moves by itself over as many rows, or over more."""
    fitting = [each for each in scales if each.rows >= rows / 2] or list(scales[-1:])
    return Usual(
        rows=rows,
        distance=max((each.distance for each in fitting), default=0.0),
        shift=max((each.shift for each in fitting), default=0.0),
        nulls=max((each.nulls for each in fitting), default=0.0),
        alike=max((each.alike for each in fitting), default=1.0),
    )


def counted(cells: drift.Counts, values: pa.Array, column: ColumnProfile) -> Counted:
    """Return a column's counts with its median."""
    is_number = column.kind is Kind.NUMBER and values.null_count < len(values)
    median = float(np.median(values.drop_null().to_numpy())) if is_number else None
    return Counted(cells=cells.tolist(), median=median)


def between(pairs: Sequence[tuple[ColumnProfile, Counted, Counted]]) -> list[Step]:
    """Return how far columns moved from some rows to others, each as it was counted on both."""
    if not pairs:
        return []
    columns, before, now = (list(each) for each in zip(*pairs, strict=True))
    sizes = np.array([len(each.cells) for each in now])
    one, other = (_side_by_side(each, int(sizes.max())) for each in (before, now))
    distances, alike = drift.apart(one, other), _alike(columns, sizes, other[:, None])[:, 0]
    nulls = [_nulls(side[:, None], sizes)[:, 0] for side in (one, other)]
    return [
        Step(
            column=column.name,
            distance=float(distances[place]),
            shift=_shift(column, former.median, latter.median),
            nulls=(float(nulls[0][place]), float(nulls[1][place])),
            alike=float(alike[place]),
            words="",
        )
        for place, (column, former, latter) in enumerate(pairs)
    ]


def _side_by_side(some: Sequence[Counted], width: int) -> drift.Counts:
    """Return counts as (columns, width)."""
    return np.array([[*each.cells, *[0] * (width - len(each.cells))] for each in some])


def _nulls(counts: drift.Counts, sizes: npt.NDArray[np.int64]) -> Vector:
    """Return the share of nulls, the last of each column's counts, (columns, parts)."""
    last = np.take_along_axis(counts, (sizes - 1)[:, None, None], axis=2)[:, :, 0]
    return np.asarray(last / np.maximum(counts.sum(axis=2), 1))


def _shift(column: ColumnProfile, before: float | None, now: float | None) -> float | None:
    """Return by how many spreads a median moved."""
    spread = drift.spread(column)
    if before is None or now is None or not spread:
        return None
    return abs(now - before) / spread
