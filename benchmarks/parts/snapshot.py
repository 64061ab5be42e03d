"""CSV to snapshot, types proven and digest taken, beside DuckDB's COPY and pandas' read_csv and
to_parquet, which prove less and take no digest."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import BYTES_A_ROW, Bench, Clock, Ratio, Run, Side, times_slower, work

AT_MOST = 1.5
FLAT = 1.25
MIB = 2048


def measure(bench: Bench) -> Iterator[Ratio]:
    """Flights, 10 million generated rows, and how memory grows with rows."""
    # Up to some million rows Arrow's and the allocator's buffers fill; from there on all is flat.
    small, large = 3_000_000, 10_000_000
    yield from _against_both(bench, "csv to snapshot, flights", bench.flights(), 5)[1]
    many, ratios = _against_both(
        bench, "csv to snapshot, 10 million rows", bench.generated(large), 3
    )
    yield from ratios
    few = _alone(bench, bench.generated(small))
    yield Ratio("memory of 10 million rows", "of 3 million", many.peak_mib / few.peak_mib, FLAT,
                False, many, few)  # fmt: skip
    if bench.full:
        rows = int(bench.huge_gb * 1e9 / BYTES_A_ROW)
        huge = _alone(bench, bench.generated(rows))
        whole = f"memory of a CSV of {bench.huge_gb:g} GB"
        limit = replace(huge, peak_mib=MIB)
        yield Ratio(whole, "2 GiB", huge.peak_mib / MIB, 1, False, huge, limit)
        yield Ratio(whole, "of 10 million rows", huge.peak_mib / many.peak_mib, FLAT, False,
                    huge, many)  # fmt: skip


def _alone(bench: Bench, csv: Path) -> Run:
    return bench.race({"ours": Side("snapshot", "treadle", (csv,))})["ours"]


def _against_both(bench: Bench, measure: str, csv: Path, times: int) -> tuple[Run, list[Ratio]]:
    """Return our run and its ratios; the limit holds against the faster of both."""
    names = ("duckdb", "pandas", "treadle")
    runs = bench.race({name: Side("snapshot", name, (csv,), times=times) for name in names})
    ours = runs.pop("treadle")
    faster = min(runs, key=lambda name: runs[name].seconds)
    ratios = []
    for name, theirs in runs.items():
        limit = AT_MOST if name == faster else None
        ratios.append(times_slower(measure, ours, name, theirs, limit))
    return ours, ratios


def treadle(csv: str) -> None:
    """A snapshot in a directory store of its own."""
    import pandas  # noqa: F401 - Arrow imports it for its first array, and imports aren't counted

    from treadle.adapters.filesystem import DirectoryStore
    from treadle.ingestion import snapshot
    from treadle.spec import Source

    source = Source.model_validate(csv)
    with TemporaryDirectory(prefix="treadle-bench-") as store, Clock():
        snapshot.take(source, DirectoryStore(Path(store)))


def duckdb(csv: str) -> None:
    """DuckDB's own COPY from file to file."""
    import duckdb

    with TemporaryDirectory(prefix="treadle-bench-") as out, Clock():
        duckdb.sql(f"COPY (FROM '{csv}') TO '{out}/data.parquet' (COMPRESSION zstd)")


def pandas(csv: str) -> None:
    """The whole table in memory, then written."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - what to_parquet imports is not its work

    with TemporaryDirectory(prefix="treadle-bench-") as out, Clock():
        pd.read_csv(csv).to_parquet(f"{out}/data.parquet", compression="zstd")


if __name__ == "__main__":
    work({"treadle": treadle, "duckdb": duckdb, "pandas": pandas})
