"""CSV to snapshot, types proven and digest taken, beside DuckDB's COPY and pandas' read_csv and
to_parquet, which prove less and take no digest."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import Bench, Ratio, Run, times_slower, work

AT_MOST = 1.5
FLAT = 1.25
# Some 10 GB.
HUGE = 125_000_000


def measure(bench: Bench) -> Iterator[Ratio]:
    """Flights, 10 million generated rows, and how memory grows with rows."""
    small, large = 1_000_000, 10_000_000
    yield from _against_both(bench, "csv to snapshot, flights", bench.flights(), 5)[1]
    many, ratios = _against_both(
        bench, "csv to snapshot, 10 million rows", bench.generated(large), 1
    )
    yield from ratios
    few = bench.run("snapshot", "treadle", bench.generated(small))
    yield Ratio("memory of 10 million rows", "of 1 million", many.peak_mib / few.peak_mib, FLAT,
                False, many, few)  # fmt: skip
    if bench.full:
        huge = bench.run("snapshot", "treadle", bench.generated(HUGE))
        allowed = Run(huge.seconds, 2048)
        yield Ratio("memory of a 10 GB CSV", "2 GiB", huge.peak_mib / allowed.peak_mib, 1, False,
                    huge, allowed)  # fmt: skip


def _against_both(bench: Bench, measure: str, csv: Path, times: int) -> tuple[Run, list[Ratio]]:
    """Return our run and its ratios; the limit holds against the faster of both."""
    peers = {name: bench.run("snapshot", name, csv, times=times) for name in ("duckdb", "pandas")}
    ours = bench.run("snapshot", "treadle", csv, times=times)
    faster = min(peers, key=lambda name: peers[name].seconds)
    ratios = []
    for name, theirs in peers.items():
        limit = AT_MOST if name == faster else None
        ratios.append(times_slower(measure, ours, name, theirs, limit))
    return ours, ratios


def treadle(csv: str) -> float:
    """A snapshot in a directory store of its own."""
    import pandas  # noqa: F401 - Arrow imports it for its first array, and imports aren't counted

    from treadle.adapters.filesystem import DirectoryStore
    from treadle.ingestion import snapshot
    from treadle.spec import Source

    source = Source.model_validate(csv)
    with TemporaryDirectory(prefix="treadle-bench-") as store:
        started = time.perf_counter()
        snapshot.take(source, DirectoryStore(Path(store)))
        return time.perf_counter() - started


def duckdb(csv: str) -> float:
    """DuckDB's own COPY from file to file."""
    import duckdb

    with TemporaryDirectory(prefix="treadle-bench-") as out:
        started = time.perf_counter()
        duckdb.sql(f"COPY (FROM '{csv}') TO '{out}/data.parquet' (COMPRESSION zstd)")
        return time.perf_counter() - started


def pandas(csv: str) -> float:
    """The whole table in memory, then written."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - what to_parquet imports is not its work

    with TemporaryDirectory(prefix="treadle-bench-") as out:
        started = time.perf_counter()
        pd.read_csv(csv).to_parquet(f"{out}/data.parquet", compression="zstd")
        return time.perf_counter() - started


if __name__ == "__main__":
    work({"treadle": treadle, "duckdb": duckdb, "pandas": pandas})
