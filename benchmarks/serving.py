"""The model server beside its peers: requests a second, tails, swaps, many models, long runs, and
batch scoring.

    make bench-serving [ARGUMENTS="--home DIR --rounds N --only PART --full"]

Needs wrk, whose processor time is in the count: everything runs on this machine. Servers are asked
in turn, round after round, and the ratios are medians over the rounds, so that what else the
machine does falls on all alike. Without ``--home`` the flights example is trained first, with
boosting alone. Ends with one line a figure, ``ratio <measure> vs <peer>: <number>``, and keeps the
same as JSON.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import results
import yaml
from bench import PeerFailed, peer

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.adapters.model_server import free_port
from treadle.bundle import Bundle, store_bundle
from treadle.records import ModelVersion, NewVersion, Signature

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PREDICT = "/v1/models/flights/predict"
SHAPES = [(rows, connections) for rows in (1, 100) for connections in (1, 8, 64)]
# Against whom, at how many rows: at least so many times their requests a second.
WANTED = {("bare", 1): 1 / 1.3, ("bare", 100): 1 / 1.3, ("fastapi+sklearn", 1): 20,
          ("fastapi+sklearn", 100): 1, ("mlflow", 1): 30, ("mlflow", 100): 1, ("mlserver", 1): 30,
          ("mlserver", 100): 1}  # fmt: skip
PARTS = ("peers", "swap", "soak", "many", "batch")
BATCH_ROWS = 1_000_000
ASKED_S = 2.0


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit isn't reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--full", action="store_true", help="five times the requests and rows")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk isn't there: install it (Debian, Ubuntu: apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        home = given.home or trained(Path(scratch))
        place = Path(shutil.copytree(home, Path(scratch) / "home", symlinks=True))
        found = measured(place, Path(scratch), given.rounds, given.full, given.only or PARTS)
    print(f"kept as {results.keep('serving', {'full': given.full, **asdict(found)})}",
          file=sys.stderr)  # fmt: skip
    for name, figure in found.ratios.items():
        print(f"ratio {name}: {figure.number:.2f}")
    return int(not all(figure.holds for figure in found.ratios.values()))


@dataclass(frozen=True)
class Figure:
    """A ratio, what is wanted of it, and whether that is reached."""

    number: float
    wanted: float
    holds: bool


@dataclass(frozen=True)
class Seen:
    """A server under load: requests a second, their tail, and what one costs the server (which
    tells more than time does, where other work goes on)."""

    per_s: float
    p99_s: float
    cpu_us: float


@dataclass
class Found:
    """Every ratio, what was seen of each server at each shape, and which peer failed why."""

    ratios: dict[str, Figure] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seen: dict[str, dict[str, list["Seen"]]] = field(default_factory=dict)

    def at_least(self, name: str, number: float, wanted: float) -> None:
        """Add a figure that must be large."""
        self._add(name, Figure(number, wanted, number >= wanted), "at least")

    def at_most(self, name: str, number: float, wanted: float) -> None:
        """Add a figure that must be small."""
        self._add(name, Figure(number, wanted, number <= wanted), "at most")

    def _add(self, name: str, figure: Figure, sign: str) -> None:
        self.ratios[name] = figure
        verdict = "" if figure.holds else "MISSED, "
        print(f"ratio {name}: {figure.number:.2f}  ({verdict}{sign} {figure.wanted:.2f})",
              file=sys.stderr, flush=True)  # fmt: skip


def measured(home: Path, scratch: Path, rounds: int, full: bool, parts: Sequence[str]) -> Found:
    """Return every figure."""
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    champion = registry.aliased("flights", "champion")
    assert champion is not None
    bundle = Bundle.at(home / "objects/bundles" / champion.digest)
    body = lua(scratch, bundle, 1, plain)
    found = Found()
    if "peers" in parts:
        beside_peers(home, scratch, champion, bundle, rounds, found)
    if {"swap", "soak"} & set(parts):
        with treadle(home, scratch, TREADLE_PREDICTION_LOG_EVERY_S="3") as (url, pid):
            if "swap" in parts:
                swap(url, home, registry, champion, body, found)
            if "soak" in parts:
                soak(url, pid, body, 1_000_000 if full else 200_000, found)
    if "batch" in parts:
        batch(home, scratch, champion, BATCH_ROWS * (5 if full else 1), found)
    if "many" in parts:
        many(home, scratch, registry, champion, 1000, found)
    return found


def beside_peers(
    home: Path, scratch: Path, champion: ModelVersion, bundle: Bundle, rounds: int, found: Found
) -> None:
    """Run all servers and compare them."""
    with ExitStack() as running:
        servers = {"treadle": running.enter_context(treadle(home, scratch))}
        servers["bare"] = running.enter_context(bare(bundle, scratch))
        model = peer_model(home, champion, scratch)
        peers = {"fastapi+sklearn": fastapi, "mlflow": mlflow, "mlserver": mlserver}
        for name, start in peers.items():
            try:
                servers[name] = running.enter_context(start(model, scratch))
            except PeerFailed as fault:
                found.failed[name] = str(fault)
                print(f"{name} failed, and is left out: {fault}", file=sys.stderr, flush=True)
        compare(servers, bundle, scratch, rounds, found)


def compare(
    servers: dict[str, tuple[str, int]], bundle: Bundle, scratch: Path, rounds: int, found: Found
) -> None:
    """Ask all servers in turn, at every shape."""
    of_peer = {"mlflow": records, "mlserver": tensors}
    for rows, connections in SHAPES:
        seen: dict[str, list[Seen]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, (url, pid) in servers.items():
                body = lua(scratch, bundle, rows, of_peer.get(name, plain))
                settle([pid for _, pid in servers.values()])
                seen[name].append(looked_at(name, url, pid, body, connections))
        shape = f"{rows} row{'s' if rows > 1 else ''}, {connections} connections"
        found.seen[shape] = seen
        for name in list(servers)[1:]:
            number = median_ratio(seen, name, lambda one: one.per_s)
            found.at_least(f"requests/s ({shape}) vs {name}", number, WANTED[name, rows])
        if connections == 8:
            number = median_ratio(seen, "bare", lambda one: one.p99_s)
            found.at_most(f"p99 ({shape}) vs bare", number, 2.0)


def settle(pids: Sequence[int]) -> None:
    """Wait until no server works any more: some go on with requests whose clients have left."""
    deadline = time.monotonic() + 20
    before = [processor_s(pid) for pid in pids]
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = [processor_s(pid) for pid in pids]
        if sum(now) - sum(before) < 0.03:
            return
        before = now


def looked_at(name: str, url: str, pid: int, body: Path, connections: int) -> Seen:
    """Put a server under load. One that answers nothing in that time counts as if it had answered
    once at the end."""
    before = processor_s(pid)
    said = wrk(url, body, connections, ASKED_S)
    used = processor_s(pid) - before
    assert not said["errors"] or name != "treadle", said
    requests = max(said["requests"], 1.0)
    return Seen(max(said["per_s"], 1 / ASKED_S), said["p99_s"] or ASKED_S, used / requests * 1e6)


def median_ratio(seen: dict[str, list[Seen]], peer: str, of: Callable[[Seen], float]) -> float:
    """Return the median over the rounds of our figure to a peer's."""
    pairs = zip(seen["treadle"], seen[peer], strict=True)
    return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)


def swap(
    url: str, home: Path, registry: SqliteMlflowRegistry, champion: ModelVersion, body: Path,
    found: Found,
) -> None:  # fmt: skip
    """Move the champion back and forth under load."""
    second = rebuilt(home, registry, champion)
    done = threading.Event()

    def move() -> None:
        number = champion.version
        while not done.wait(1.5):
            number = second if number == champion.version else champion.version
            registry.set_alias("flights", "champion", number)

    thread = threading.Thread(target=move)
    thread.start()
    said = wrk(url, body, 8, 8)
    done.set()
    thread.join()
    registry.set_alias("flights", "champion", champion.version)
    found.at_most("requests that failed while the champion moved vs none", said["errors"], 0)


def rebuilt(home: Path, registry: SqliteMlflowRegistry, champion: ModelVersion) -> int:
    """Register the same model in a bundle of its own; return its version."""
    directory = home / "rebuilt"
    shutil.copytree(home / "objects/bundles" / champion.digest, directory)
    with (directory / "reference.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    bundle = Bundle.at(directory)
    source = store_bundle(bundle, DirectoryStore(home / "objects"))
    fields = {name: getattr(champion, name) for name in NewVersion.model_fields}
    new = NewVersion(**{**fields, "digest": bundle.digest, "source": source})
    return registry.register(new, {}).version


def soak(url: str, pid: int, body: Path, requests: int, found: Found) -> None:
    """Ask for long; memory must stay where it is after the first quarter, by when the process that
    stores the log is there too."""
    before, asked = 0.0, 0
    while asked < requests:
        said = wrk(url, body, 8, 5)
        assert not said["errors"], said
        asked += int(said["requests"])
        if asked < requests / 4 or (not before and not psutil.Process(pid).children()):
            continue
        before = before or resident(pid)
    found.at_most(f"memory after {requests:,} requests vs before", resident(pid) / before, 1.1)


def batch(home: Path, scratch: Path, champion: ModelVersion, rows: int, found: Found) -> None:
    """Score a table by ``treadle predict``, from start to end."""
    import duckdb

    table, out = scratch / "batch.parquet", scratch / "scored.parquet"
    data = home / "objects" / champion.lineage.snapshot.data_key
    one = f"(SELECT * FROM '{data}' WHERE {champion.signature.target} IS NOT NULL)"
    times = " UNION ALL ".join([f"FROM {one}"] * (1 + rows // champion.lineage.snapshot.rows))
    duckdb.sql(f"COPY ({times} LIMIT {rows}) TO '{table}' (FORMAT parquet)")
    command = [BIN / "treadle", "predict", "flights", table, "-o", out, "--home", home]
    started = time.perf_counter()
    process = psutil.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        time.sleep(0.1)
    assert process.returncode == 0
    per_minute = 60 * rows / (time.perf_counter() - started)
    found.at_least("rows/min of treadle predict vs a million", per_minute / 1e6, 1.0)
    found.at_most("memory of treadle predict vs a GiB", peak / 2**30, 1.0)


def many(
    home: Path, scratch: Path, registry: SqliteMlflowRegistry, champion: ModelVersion, count: int,
    found: Found,
) -> None:  # fmt: skip
    """One server with many models: its memory, and what a warm one's tail is beside one alone."""
    fields = {name: getattr(champion, name) for name in NewVersion.model_fields}
    names = [f"flights-{number}" for number in range(count)]
    for name in names:
        registry.register(NewVersion(**{**fields, "name": name}), {})
        registry.set_alias(name, "champion", 1)
    bundle = Bundle.at(home / "objects/bundles" / champion.digest)
    body = lua(scratch, bundle, 1, plain)
    row = json.dumps({"rows": bundle.golden[0][-1:]}).encode()
    with treadle(home, scratch, TREADLE_SERVER_MEMORY_MIB="4096") as (url, pid):
        alone = [wrk(url, body, 8, 2)["p99_s"] for _ in range(3)]
        for name in names:
            ask(url.replace("/flights/", f"/{name}/"), row)
        among = [wrk(url, body, 8, 2)["p99_s"] for _ in range(3)]
        gib = resident(pid) / 2**30
    found.at_most(f"memory of a server with {count + 1:,} models vs 2 GiB", gib / 2, 1.0)
    number = statistics.median(among) / statistics.median(alone)
    found.at_most(f"p99 of a warm model among {count:,} vs alone", number, 1.5)


def wrk(url: str, body: Path, connections: int, seconds: float) -> dict[str, float]:
    """Ask for a while; return requests, requests a second, the tail and errors."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
               "-s", str(body), url]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    # A timeout is a slow answer, and shows in the tail.
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)\s", said)
    assert tail, said
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[tail[2]]
    return {
        "requests": float(re.search(r"(\d+) requests in", said)[1]),  # type: ignore[index]
        "per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),  # type: ignore[index]
        "p99_s": float(tail[1]) * unit,
        "errors": float(bad[1] if bad else 0) + sum(map(float, broken.groups() if broken else [])),
    }


Rows = list[dict[str, Any]]


def plain(rows: Rows, signature: Signature) -> Any:
    """Rows as Treadle takes them, and whoever has no words of its own."""
    return {"rows": rows}


def records(rows: Rows, signature: Signature) -> Any:
    """Rows as MLflow takes them."""
    return {"dataframe_records": rows}


def tensors(rows: Rows, signature: Signature) -> Any:
    """Rows as MLServer takes them for a frame: the Open Inference Protocol, by column. It has no
    nulls there."""
    inputs = []
    for feature in signature.features:
        values = [row[feature.name] for row in rows]
        text = feature.kind == "category"
        if feature.kind in ("number", "category"):
            inputs.append({
                "name": feature.name, "shape": [len(rows), 1],
                "datatype": "BYTES" if text else "FP64",
                "parameters": {"content_type": "str" if text else "np"},
                "data": [("" if text else 0.0) if value is None else value for value in values],
            })  # fmt: skip
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def lua(scratch: Path, bundle: Bundle, rows: int, worded: Callable[[Rows, Signature], Any]) -> Path:
    """Write the request that wrk sends."""
    known = bundle.golden[0][1:]
    body = json.dumps(worded((known * rows)[:rows], bundle.signature))
    path = scratch / f"{worded.__name__}-{rows}.lua"
    path.write_text(
        'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n'
        f"wrk.body = {json.dumps(body)}\n",
        encoding="utf-8",
    )
    return path


@contextmanager
def served(
    command: list[str],
    port: int,
    path: str,
    scratch: Path,
    environment: dict[str, str],
    ready: str | None = None,
) -> Iterator[tuple[str, int]]:
    """Run a server; yield the address of its predictions, and the process that answers."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    with (scratch / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=plain | environment, stdout=log, stderr=log, cwd=HERE / "peers"
        )
    try:
        await_port(port, process, scratch, ready)
        yield f"http://127.0.0.1:{port}{path}", process.pid
    finally:
        started: list[psutil.Process] = []
        with suppress(psutil.Error):  # it may have ended by itself
            started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        # MLServer 1.7 stays when it is told to end, and leaves its workers.
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in started:
            with suppress(psutil.Error):
                one.kill()


def await_port(
    port: int, process: "subprocess.Popen[bytes]", scratch: Path, ready: str | None
) -> None:
    """Wait until a server says that it is ready, or, asked for no path, answers anything at all."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{ready or '/livez'}", timeout=5)
            return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and ready is None:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                words = (scratch / f"{port}.log").read_text(errors="replace")[-2000:]
                raise PeerFailed(f"no answer on port {port}:\n{words}") from error
            time.sleep(0.3)


def treadle(home: Path, scratch: Path, **settings: str) -> Any:
    """Run Treadle's server as it comes: prediction log, metrics and all."""
    port = free_port()
    command = [sys.executable, "-m", "treadle_serving", "--port", str(port)]
    return served(command, port, PREDICT, scratch, {"TREADLE_HOME": str(home), **settings})


def bare(bundle: Bundle, scratch: Path) -> Any:
    """Run peers/bare.py."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bare:app", "--port", str(port),
               "--log-level", "warning"]  # fmt: skip
    place = str(bundle.files["model.onnx"].parent)
    return served(command, port, "/", scratch, {"BUNDLE": place})


def fastapi(model: Path, scratch: Path) -> Any:
    """Run peers/fastapi_sklearn.py."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_sklearn:app", "--port", str(port),
               "--log-level", "warning"]  # fmt: skip
    return served(command, port, "/predict", scratch, {"MODEL": str(model)})


def mlflow(model: Path, scratch: Path) -> Any:
    """Run ``mlflow models serve`` with the same pipeline."""
    import joblib
    import mlflow.sklearn

    place = scratch / "mlflow-model"
    mlflow.sklearn.save_model(joblib.load(model), str(place), serialization_format="cloudpickle")
    port = free_port()
    command = [str(BIN / "mlflow"), "models", "serve", "-m", str(place), "--env-manager", "local",
               "--port", str(port)]  # fmt: skip
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return served(command, port, "/invocations", scratch, environment)


def mlserver(model: Path, scratch: Path) -> Any:
    """Run MLServer with the same pipeline, in an environment of its own."""
    place = scratch / "mlserver"
    place.mkdir()
    port = free_port()
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
                "debug": False}  # fmt: skip
    described = {"name": "flights", "implementation": "mlserver_sklearn.SKLearnModel",
                 "parameters": {"uri": str(model)}}  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (place / "model-settings.json").write_text(json.dumps(described), encoding="utf-8")
    command = [str(Path(peer("mlserver")).with_name("mlserver")), "start", str(place)]
    ready = "/v2/models/flights/ready"
    return served(command, port, "/v2/models/flights/infer", scratch, {}, ready)


def peer_model(home: Path, champion: ModelVersion, scratch: Path) -> Path:
    """Fit what the peers serve: the same columns and rounds of boosting, the plain way."""
    import joblib
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    data = home / "objects" / champion.lineage.snapshot.data_key
    signature = champion.signature
    frame = pd.read_parquet(data).dropna(subset=[signature.target]).head(50_000)
    kinds = {kind: [f.name for f in signature.features if f.kind == kind]
             for kind in ("number", "category")}  # fmt: skip
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, max_categories=50)
    transformer = make_column_transformer(
        (encoder, kinds["category"]), ("passthrough", kinds["number"])
    )
    pipeline = make_pipeline(transformer, HistGradientBoostingRegressor(max_iter=100))
    wanted = [*kinds["category"], *kinds["number"]]
    joblib.dump(pipeline.fit(frame[wanted], frame[signature.target]), scratch / "peer.joblib")
    return scratch / "peer.joblib"


def trained(scratch: Path) -> Path:
    """Run the flights example with boosting alone; return its home."""
    spec = yaml.safe_load((HERE.parent / "examples/flights/flights.yaml").read_text("utf-8"))
    spec["training"] = {"trials": 1, "families": ["hist_gradient_boosting"]}
    path = scratch / "flights.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    home = scratch / "trained"
    subprocess.run([BIN / "treadle", "run", path, "--home", home], check=True)
    return home


def ask(url: str, body: bytes) -> None:
    """Send one request."""
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - our own
    urllib.request.urlopen(asked, timeout=60)  # noqa: S310


def processor_s(pid: int) -> float:
    """Return the processor time of a process and those it started."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def resident(pid: int) -> float:
    """Return the resident bytes of a process and those it started."""
    process = psutil.Process(pid)
    everyone = [process, *process.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in everyone))


if __name__ == "__main__":
    sys.exit(main())
