"""Count the values of columns whose type alone says how they are read, as Parquet is decoded:
whole numbers and days of a narrow range, moments that lie on few even steps, booleans and texts of
few values."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treadle.records import Kind
from treadle.sampling import Sampling
from treadle.summary import DAY_S, Counts, Values

# Whole numbers are counted by where they lie in a range no wider than this.
WIDEST = 100_000
# Texts with more values than this are left to others.
MOST_TEXTS = 50_000
_EXACT = 2**53
_MICROSECONDS = 1e6
_COLUMNS_AT_ONCE = 32


class _Whole:
    """Counts whole numbers from ``low`` to ``high``, in units of ``unit``."""

    def __init__(self, low: int, high: int, unit: int = 1) -> None:
        self._low, self._unit = low, unit
        self._counts: Counts = np.zeros(high - low + 1, dtype=np.int64)

    def add(self, column: pa.Array, chosen: pa.Array) -> Values | None:
        """Count values; return the chosen ones as numbers (null: NaN), None where there are too
        many."""
        if pa.types.is_date32(column.type):
            column = column.view(pa.int32())
        known = column.drop_null() if column.null_count else column
        places = known.to_numpy().astype(np.int64, copy=False) - self._low
        self._counts += np.bincount(places, minlength=len(self._counts))
        return _as_numbers(column.take(chosen)) * self._unit

    def values(self) -> dict[Any, int]:
        """Return each value and how often it is there."""
        there = np.flatnonzero(self._counts)
        values = (there + self._low) * float(self._unit)
        return dict(zip(values.tolist(), self._counts[there].tolist(), strict=True))


class _Moments:
    """Counts moments in microseconds from ``low`` to ``high`` that are even steps apart, as those
    of full hours are. The first rows say how wide a step is."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._span = low, high - low
        self._step = 0
        self._counts: Counts = np.zeros(0, dtype=np.int64)

    def add(self, column: pa.Array, chosen: pa.Array) -> Values | None:
        column = column.view(pa.int64())
        since = (column.drop_null() if column.null_count else column).to_numpy() - self._low
        if not self._step:
            self._step = int(np.gcd.reduce(pc.unique(pa.array(since)), initial=self._span)) or 1
            if self._span // self._step >= WIDEST:
                return None
            self._counts = np.zeros(self._span // self._step + 1, dtype=np.int64)
        places, between = np.divmod(since, self._step)
        if between.any():
            return None
        self._counts += np.bincount(places, minlength=len(self._counts))
        return _as_numbers(column.take(chosen)) / _MICROSECONDS

    def values(self) -> dict[Any, int]:
        there = np.flatnonzero(self._counts)
        values = (there * self._step + self._low) / _MICROSECONDS
        return dict(zip(values.tolist(), self._counts[there].tolist(), strict=True))


class _Booleans(_Whole):
    def __init__(self) -> None:
        super().__init__(0, 1)

    def add(self, column: pa.Array, chosen: pa.Array) -> Values | None:
        return super().add(column.cast(pa.int8()), chosen)

    def values(self) -> dict[Any, int]:
        return {("true" if value else "false"): n for value, n in super().values().items()}


class _Texts:
    """Counts texts, each of which has a place of its own."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._counts: Counts = np.zeros(1_024, dtype=np.int64)

    def add(self, column: pa.Array, chosen: pa.Array) -> Values | None:
        if len(column.dictionary) > MOST_TEXTS:
            return None
        texts = column.dictionary.to_pylist()
        places = np.array([self._places.setdefault(t, len(self._places)) for t in texts], np.int64)
        while len(self._places) > len(self._counts):
            self._counts = np.pad(self._counts, (0, len(self._counts)))
        codes = column.indices
        known = codes.drop_null() if codes.null_count else codes
        self._counts[places] += np.bincount(known.to_numpy(), minlength=len(texts))
        taken = _as_numbers(codes.take(chosen))
        there = ~np.isnan(taken)
        taken[there] = places[taken[there].astype(np.int64)]
        return taken if len(self._places) <= MOST_TEXTS else None

    def values(self) -> dict[Any, int]:
        return {text: n for text, i in self._places.items() if (n := int(self._counts[i]))}


def _as_numbers(column: pa.Array) -> Values:
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def count(
    path: Path, kinds: Mapping[str, Kind], sampling: Sampling
) -> dict[str, tuple[dict[Any, int], Values]]:
    """Return the values of each column that can be counted so, as ``sql.as_read`` gives them, with
    how often each is there, and those of the sampled rows as numbers (a text's are told apart by
    theirs)."""
    with pq.ParquetFile(path) as file:
        counters = _counters(file, kinds)
    names = list(counters)
    found: dict[str, tuple[dict[Any, int], Values]] = {}
    for start in range(0, len(names), _COLUMNS_AT_ONCE):
        some = {name: counters[name] for name in names[start : start + _COLUMNS_AT_ONCE]}
        found |= _count(path, some, sampling)
    return found


_Counter = _Whole | _Moments | _Texts


def _counters(file: pq.ParquetFile, kinds: Mapping[str, Kind]) -> dict[str, _Counter]:
    counters: dict[str, _Counter] = {}
    for name, kind in kinds.items():
        stored = file.schema_arrow.field(name).type
        if pa.types.is_string(stored) and kind is Kind.CATEGORY:
            counters[name] = _Texts()
        elif pa.types.is_boolean(stored) and kind is Kind.BOOLEAN:
            counters[name] = _Booleans()
        elif _is_counted_by_place(stored, kind) and (ends := _ends(file, name)):
            low, high = ends
            if pa.types.is_timestamp(stored):
                counters[name] = _Moments(low, high)
            elif high - low < WIDEST:
                counters[name] = _Whole(low, high, DAY_S if pa.types.is_date32(stored) else 1)
    return counters


def _is_counted_by_place(stored: pa.DataType, kind: Kind) -> bool:
    if pa.types.is_signed_integer(stored):
        return kind is Kind.NUMBER
    is_moment = pa.types.is_timestamp(stored) and stored.unit == "us"
    return kind is Kind.TIME and (is_moment or pa.types.is_date32(stored))


def _ends(file: pq.ParquetFile, name: str) -> tuple[int, int] | None:
    """Return the least and the largest of a column's whole numbers, as Parquet knows them of each
    row group; None where it doesn't, or a float isn't exact there. Without values: 0."""
    place = file.schema.names.index(name)
    lows, highs = [], []
    for group in range(file.num_row_groups):
        chunk = file.metadata.row_group(group).column(place)
        known = chunk.statistics
        if known is None:
            return None
        if known.has_min_max:
            lows.append(known.min_raw)
            highs.append(known.max_raw)
        elif not known.has_null_count or known.null_count < chunk.num_values:
            return None
    low, high = min(lows, default=0), max(highs, default=0)
    return (low, high) if -_EXACT < low <= high < _EXACT else None


def _count(
    path: Path, counters: dict[str, _Counter], sampling: Sampling
) -> dict[str, tuple[dict[Any, int], Values]]:
    samples: dict[str, list[Values]] = {name: [] for name in counters}
    texts = [name for name, counter in counters.items() if isinstance(counter, _Texts)]
    start = 0
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for group in _groups(file, samples):
            chosen = pa.array(sampling.among(start, group.num_rows))
            start += group.num_rows
            for name in list(samples):
                taken = counters[name].add(group.column(name).combine_chunks(), chosen)
                if taken is None:
                    del samples[name]
                else:
                    samples[name].append(taken)
    return {name: (counters[name].values(), np.concatenate(s)) for name, s in samples.items()}


def _groups(file: pq.ParquetFile, names: Collection[str]) -> Iterator[pa.Table]:
    """Yield these columns of each row group while there are any; the next group is decoded while
    one is looked at."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(file.read_row_group, 0, columns=[*names])
        for following in range(1, file.num_row_groups + 1):
            now = coming.result()
            if following < file.num_row_groups and names:
                coming = beside.submit(file.read_row_group, following, columns=[*names])
            yield now
            if not names:
                break
