"""The embedded registry at 10,000 models with 3 versions each, beside MLflow's own client on the
same database.

    make bench-registry                 a few minutes

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>`` (MLflow's time over ours), and
keeps the same as JSON. Ours and the peer's are asked the same and must answer the same.
"""

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import keep

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from registries import stored_bundle
from treadle.adapters import mlflow_database, mlflow_tables
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.records import (
    Bound,
    Decision,
    Feature,
    Kind,
    Lineage,
    Metric,
    NewVersion,
    Query,
    Signature,
    Snapshot,
    Split,
    Task,
)

VERSIONS = 3
LIMITS = {
    "alias to version, ms": 10.0,
    "search by words, ms": 200.0,
    "search by tag, ms": 200.0,
    "search by metric, ms": 200.0,
    "lineage of a snapshot, ms": 200.0,
    "treadle models, s": 1.5,
    "treadle rollback, s": 5.0,
}


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    models = parser.parse_args().models
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        home = Path(scratch)
        fill(home, models)
        ours, theirs = measure(home, models)
    for name, value in ours.items():
        print(f"{name}: {value:.2f} (limit {LIMITS[name]:g})")
    ratios = {name: theirs[name] / ours[name] for name in theirs}
    for name, value in ratios.items():
        measure_name = name.rpartition(",")[0]
        print(f"ratio {measure_name} vs MLflow's client: {value:.1f}")
    figures = {"figures": ours, "peer": theirs, "limits": LIMITS, "ratios": ratios}
    print(f"kept as {keep('registry', {'models': models, **figures})}", file=sys.stderr)
    return int(any(value > LIMITS[name] for name, value in ours.items()))


def version_of(number: int, version: int) -> NewVersion:
    """Return a version of a model as one that was trained: 20 features, a spec, metrics."""
    name = f"model-{number:05d}"
    spec = {
        "name": name,
        "owner": f"team-{number % 50}",
        "description": f"What customers of shop {number} do next",
        "tags": {"country": f"c{number % 100}"},
        "source": {"tables": {"data": {"path": f"s3://shops/{number}/*.parquet"}}},
        "training": {"trials": 16, "families": ["linear", "hist_gradient_boosting", "forest"]},
    }
    features = [Feature(name=f"feature {i}", kind=Kind.NUMBER) for i in range(20)]
    digest = f"{number:016x}{version:016x}"
    split = Split(by="time", column="at", seed=0, train_rows=800, test_rows=200, tuning_rows=160,
                  held_out=digest)  # fmt: skip
    snapshot = Snapshot(digest=digest, rows=1000, columns=[], size_bytes=9999, source="a.parquet")
    return NewVersion(
        name=name,
        semver=f"1.{version}.0",
        digest=digest,
        source=f"s3://models/bundles/{digest}",
        signature=Signature(task=Task.REGRESSION, target="spent", features=features),
        metrics=[
            Metric(name="rmse", value=number / 100 + version, low=0, high=200,
                   higher_is_better=False),
            Metric(name="mae", value=number / 150, low=0, high=200, higher_is_better=False),
        ],
        decision=Decision(passed=True, reasons=["12 % less error than the champion"]),
        lineage=Lineage(
            run_id=f"{name}-{version}", snapshot=snapshot, split=split, spec=json.dumps(spec),
            family="hist_gradient_boosting", parameters={"learning_rate": 0.1}, seed=0,
            code="0", commit=None, python="3", packages={"scikit-learn": "1.9.1"},
        ),
    )  # fmt: skip


def fill(home: Path, models: int) -> None:
    """Make a registry of that many models, by the same rows that registering writes."""
    database = home / "mlflow.db"
    mlflow_database.create(database, home / "mlflow-artifacts")
    started = time.monotonic()
    with sqlite3.connect(database) as connection:
        for number in range(models):
            name = f"model-{number:05d}"
            mlflow_tables.insert_model(connection, name, "file:///nowhere", 1_790_000_000_000)
            for version in range(1, VERSIONS + 1):
                new = version_of(number, version)
                mlflow_tables.insert_run(connection, new.digest, new, "file:///nowhere", 1, 60.0)
                mlflow_tables.insert_version(connection, new.digest, new, 1_790_000_000_000, None)
            row = {"alias": "champion", "version": 2, "name": name, "workspace": "default"}
            mlflow_tables.insert(connection, "registered_model_aliases", row)
    connection.close()
    size = database.stat().st_size / 2**20
    print(f"{models:,} models in {time.monotonic() - started:.0f} s, {size:.0f} MiB",
          file=sys.stderr)  # fmt: skip


def measure(home: Path, models: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return our figures and the peer's."""
    from mlflow.tracking import MlflowClient

    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db", f"sqlite:///{home}/mlflow.db")
    asked = random.Random(0)

    def name() -> str:
        return f"model-{asked.randrange(models):05d}"

    def number() -> int:
        return asked.randrange(models)

    def searched(words: str) -> Any:
        return client.search_model_versions(words, max_results=50, order_by=["name ASC"])

    ours: dict[str, Callable[[], Any]] = {
        "alias to version, ms": lambda: registry.aliased(name(), "champion"),
        "search by words, ms": lambda: registry.find(Query(words=[f"shop {number()} do"]), 50),
        "search by tag, ms": lambda: registry.find(
            Query(tags={"country": f"c{number() % 100}"}), 50
        ),
        "search by metric, ms": lambda: registry.find(
            Query(bounds=[Bound(metric="rmse", sign="<", value=2.0)]), 50
        ),
        "lineage of a snapshot, ms": lambda: registry.of_snapshot(f"{number():016x}{2:016x}"),
    }
    theirs: dict[str, Callable[[], Any]] = {
        "alias to version, ms": lambda: client.get_model_version_by_alias(name(), "champion"),
        "search by words, ms": lambda: searched(f"tags.`treadle.text` LIKE '%shop {number()} do%'"),
        "search by tag, ms": lambda: searched(f"tags.country = 'c{number() % 100}'"),
        "lineage of a snapshot, ms": lambda: searched(
            f"tags.`treadle.snapshot` = '{number():016x}{2:016x}'"
        ),
    }
    asked.seed(1)
    same = [[len(list(found)) for found in (mine(), its())] for mine, its in _pairs(ours, theirs)]
    assert all(mine > 0 for mine, _ in same), same
    figures = {what: 1000 * median_s(work) for what, work in ours.items()}
    peer = {what: 1000 * median_s(work) for what, work in theirs.items()}
    figures["treadle models, s"] = median_s(lambda: treadle(home, "models"), times=7)
    peer["treadle models, s"] = median_s(lambda: their_command(home), times=3)
    figures["treadle rollback, s"] = rollback_s(home, registry)
    return figures, peer


def rollback_s(home: Path, registry: SqliteMlflowRegistry, times: int = 3) -> float:
    """Return the median time of ``treadle rollback``, its bundle proved and the change written."""
    store = DirectoryStore(home / "objects")
    for slope in (1.0, 2.0):
        new = version_of(0, 1)
        bundle = stored_bundle(home / f"bundle-{slope}", store, slope)
        fields = {"name": "rolled", "digest": bundle.digest, "signature": bundle.signature}
        registry.register(new.model_copy(update=fields), {})
    taken = []
    for _ in range(times):
        for number in ("1", "2"):
            treadle(home, "promote", "rolled", number)
        started = time.perf_counter()
        treadle(home, "rollback", "rolled")
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _pairs(
    ours: dict[str, Callable[[], Any]], theirs: dict[str, Callable[[], Any]]
) -> list[tuple[Callable[[], Any], Callable[[], Any]]]:
    return [(ours[what], theirs[what]) for what in theirs if what != "alias to version, ms"]


def median_s(work: Callable[[], object], times: int = 25) -> float:
    """Return the median wall time of ``work``, once it is warm."""
    taken = []
    work()
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def treadle(home: Path, *arguments: str) -> None:
    """Run a command."""
    program = str(Path(sys.executable).with_name("treadle"))
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    subprocess.run([program, *arguments, "--home", str(home)], check=True, capture_output=True,
                   env=plain)  # fmt: skip


def their_command(home: Path) -> None:
    """List a page of models with their champions by MLflow's client, in a process."""
    program = (
        "import sys; from mlflow.tracking import MlflowClient; c = MlflowClient(sys.argv[1]); "
        "[print(m.name, c.get_model_version(m.name, m.aliases['champion']).creation_timestamp) "
        "for m in c.search_registered_models(max_results=50)]"
    )
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{home}/mlflow.db"], check=True,
                   capture_output=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
