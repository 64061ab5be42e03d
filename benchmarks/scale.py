"""What 100,000 models, 10⁹ rows a day and 10⁵ requests a second would come to: a simulation, fed
with what one server, one registry and one run were measured to cost.

    make bench-scale        under a minute

The caches of servers are simulated request by request (least recently used, popularity by Zipf's
law); the rest is arithmetic on measured costs. Prices are a public cloud's list prices, rounded:
they are to compare walls with each other. docs/scale.md shows the results.
"""

import argparse
import json
import math
import sqlite3
import sys
import tempfile
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from results import keep

from treadle.adapters import mlflow_database, mlflow_tables
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

MODELS, PEAK_REQUESTS_S, ROWS_A_DAY = 100_000, 100_000, 10**9
# docs/performance.md: a request of one row at 8 connections; a model that was let go, loaded again;
# what it takes in memory.
REQUEST_CPU_S, LOAD_S, MODEL_MIB = 94e-6, 75e-3, 2.7
# docs/performance.md: profile and checks of 10 million rows of eight columns.
PROFILE_CPU_S_A_ROW = 3.3 / 10e6
# One run of the wine example, all processes, and what lies around it on a cluster (docs/kfp.md).
RUN_CPU_S, JOB_START_S, KFP_START_S, KFP_PODS = 25.0, 10.0, 150.0, 15
WATCH_S, LOG_EVERY_S, PAGE = 1.0, 60.0, 1000
# A server is one process (ADR 12); what stores its log takes some of another core.
SERVER_CORES, PAID_CORES, BUSY_AT_MOST = 1, 1.5, 0.6
DOLLARS_A_CORE_HOUR, DOLLARS_A_GIB_HOUR, DOLLARS_A_PUT = 0.04, 0.005, 5e-6


@dataclass(frozen=True)
class Fleet:
    """So many servers of a size, and how requests find them."""

    routing: str
    memory_gib: float
    zipf: float
    servers: int
    missed: float
    p50_ms: float
    p99_ms: float
    dollars_a_day: float


def main() -> int:
    """Simulate, print, keep."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    fleets = [
        fleet(routing, memory_gib, zipf)
        for zipf in (1.0, 0.7)
        for routing in ("any server", "by model")
        for memory_gib in (1.0, 16.0)
    ]
    followed = registries()
    found = {
        "fleets": [asdict(each) for each in fleets],
        "registry": followed,
        "following": following(followed, min(f.servers for f in fleets if f.zipf == 1.0)),
        "log": logs(min(f.servers for f in fleets if f.zipf == 1.0)),
        "retraining": retraining(),
        "reading": {"cores": ROWS_A_DAY * PROFILE_CPU_S_A_ROW / 86_400},
    }
    print(json.dumps(found, indent=1))
    print(f"kept as {keep('scale', found)}", file=sys.stderr)
    return 0


def fleet(routing: str, memory_gib: float, zipf: float) -> Fleet:
    """Return the least servers that bear the peak. Each has room for a number of models; what it
    doesn't hold is loaded, which costs processor time and lets the request wait."""
    room = int(memory_gib * 1024 / MODEL_MIB)

    def missed(servers: int) -> float:
        own = MODELS if routing == "any server" else math.ceil(MODELS / servers)
        return missed_share(own, room, zipf)

    def bears(servers: int) -> bool:
        cpu_s = PEAK_REQUESTS_S * (REQUEST_CPU_S + missed(servers) * LOAD_S)
        return cpu_s <= servers * SERVER_CORES * BUSY_AT_MOST

    servers = bisect_left(range(20_000), True, lo=1, key=bears)
    share = missed(servers)
    p50_ms, p99_ms = waits_ms(PEAK_REQUESTS_S / servers / SERVER_CORES, share)
    hourly = PAID_CORES * DOLLARS_A_CORE_HOUR + (memory_gib + 0.5) * DOLLARS_A_GIB_HOUR
    return Fleet(routing, memory_gib, zipf, servers, share, p50_ms, p99_ms, servers * hourly * 24)


@cache
def missed_share(models: int, room: int, zipf: float, draws: int = 150_000) -> float:
    """Return how many requests find their model not loaded, once the cache is full."""
    if room >= models:
        return 0.0
    popularity = np.arange(1, models + 1, dtype=float) ** -zipf
    cumulated = np.cumsum(popularity / popularity.sum())
    asked = np.searchsorted(cumulated, np.random.default_rng(0).random(draws))
    held: OrderedDict[int, None] = OrderedDict()
    missed = counted = 0
    for number, model in enumerate(asked.tolist()):
        known = model in held
        if known:
            held.move_to_end(model)
        else:
            held[model] = None
            if len(held) > room:
                held.popitem(last=False)
        if number > draws // 2:
            counted += 1
            missed += not known
    return missed / counted


def waits_ms(rate: float, missed: float, requests: int = 200_000) -> tuple[float, float]:
    """Return the median and the 99th percentile of answers: a queue for each core (Lindley's
    recursion), beside which a missing model is loaded."""
    random = np.random.default_rng(1)
    gaps = random.exponential(1 / rate, requests)
    # Loading takes processor time from everyone on the core.
    service = np.full(requests, REQUEST_CPU_S + missed * LOAD_S)
    steps = service[:-1] - gaps[1:]
    sums = np.concatenate([[0.0], np.cumsum(steps)])
    waited = sums - np.minimum.accumulate(sums)
    total = waited + REQUEST_CPU_S + (random.random(requests) < missed) * LOAD_S
    return tuple(1000 * np.percentile(total, [50, 99]))  # type: ignore[return-value]


def registries() -> dict[str, float]:
    """Measure what it costs to ask who is champion: of a whole registry, by processor time."""
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        home = Path(scratch)
        models = 5 * PAGE
        fill(home / "small", models)
        from mlflow.tracking import MlflowClient

        uri = f"sqlite:///{home / 'small' / 'mlflow.db'}"
        client = MlflowClient(uri, uri)
        page_s = cpu_s(lambda: client.search_registered_models(max_results=PAGE))
        ours = SqliteMlflowRegistry(home / "small" / "mlflow.db", home / "small" / "artifacts")
        # One query: it grows with its rows.
        return {"mlflow_page_s": page_s, "embedded_s": cpu_s(ours.aliases) * MODELS / models}


def fill(home: Path, models: int) -> None:
    """Make a registry of that many models with a champion each."""
    home.mkdir()
    mlflow_database.create(home / "mlflow.db", home / "artifacts")
    with sqlite3.connect(home / "mlflow.db") as connection:
        for number in range(models):
            name = f"model-{number:06d}"
            mlflow_tables.insert_model(connection, name, "file:///nowhere", 1_790_000_000_000)
            row = {"alias": "champion", "version": 1, "name": name, "workspace": "default"}
            mlflow_tables.insert(connection, "registered_model_aliases", row)
    connection.close()


def cpu_s(work: Callable[[], Any], times: int = 3) -> float:
    """Return the least processor time of a work, which others on the machine don't lengthen."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def following(cost: dict[str, float], servers: int) -> dict[str, float]:
    """Every server asks every second who is champion of what."""
    asked_s = math.ceil(MODELS / PAGE) * cost["mlflow_page_s"]
    return {
        "servers": servers,
        "mlflow_asked_s": asked_s,
        "mlflow_cores_at_every_second": servers * asked_s / WATCH_S,
        "embedded_asked_s": cost["embedded_s"],
    }


def logs(servers: int) -> dict[str, float]:
    """Each server stores a file for each model that was asked since it stored last."""
    requests = ROWS_A_DAY / 86_400
    share = np.arange(1, MODELS + 1, dtype=float) ** -1.0
    share /= share.sum()

    def files_a_day(every_s: float, spread: int) -> float:
        asked = 1 - np.exp(-requests * every_s * share / spread)
        return float(asked.sum()) * spread * 86_400 / every_s

    found = {}
    for routing, spread in (("any server", servers), ("by model", 1)):
        for every_s in (LOG_EVERY_S, 3600.0):
            files = files_a_day(every_s, spread)
            found[f"{routing}, every {every_s:.0f} s"] = files
    return found


def retraining() -> dict[str, float]:
    """Every model once a week: as runs of their own, on KFP, and as segments of one run."""
    a_day = MODELS / 7
    return {
        "runs_a_day": a_day,
        "cores": a_day * RUN_CPU_S / 86_400,
        "jobs_at_once": a_day * (RUN_CPU_S + JOB_START_S) / 86_400,
        "kfp_pods_a_second": a_day * KFP_PODS / 86_400,
        "kfp_runs_at_once": a_day * (RUN_CPU_S + KFP_START_S) / 86_400,
    }


if __name__ == "__main__":
    sys.exit(main())
