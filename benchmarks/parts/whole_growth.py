"""How time grows with rows and with models, and the exponent of it: the slope of a line through the
logarithms, fitted by least squares, over all sizes and over those from STEADY of the largest on,
where what a thing costs whatever its size no longer counts. 1 is linear.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import Bench, Clock, Run, Side, work

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
REGISTERED = (1, 10, 100, 1_000, 10_000)
WATCHED, WATCHED_FULL = (1, 10, 100), (1, 10, 100, 1_000)
SEGMENTS, SEGMENTS_FULL = (1, 10, 100), (1, 10, 100, 1_000)
STEADY = 0.01
PAGE = 50
Growth = dict[str, dict[str, Any]]


def measure(bench: Bench) -> Growth:
    """Return by what is done: of what there are more, the sizes, seconds and exponents."""
    tables = {rows: Side("whole_growth", "table", (bench.generated(rows),)) for rows in ROWS}
    watched = {
        models: Side("loop_speed", "fleet", (bench.scratch / f"fleet-{models}", models))
        for models in (WATCHED_FULL if bench.full else WATCHED)
    }
    segments = {
        models: Side("whole_growth", "segments", (models,))
        for models in (SEGMENTS_FULL if bench.full else SEGMENTS)
    }
    found = {
        "ingestion, profile and validation": _raced(bench, "rows", tables),
        "a first pass of the monitor": _raced(bench, "models", watched),
        "training a model a segment": _raced(bench, "models", segments),
    }
    return found | _registries(bench.scratch / "registries")


def figures(growth: Growth) -> dict[str, float]:
    """Return what is told of it, by name and unit."""
    told = {}
    for name, grown in growth.items():
        least, most = (f"{size:,}" for size in (grown["sizes"][0], grown["sizes"][-1]))
        told[f"{name}: {least} to {most} {grown['of']}, exponent"] = grown["exponent"]
        told[f"{name}: the same of the larger sizes, exponent"] = grown["exponent_steady"]
        told[f"{name}: {most} {grown['of']}, s"] = grown["seconds"][-1]
    return told


def _raced(bench: Bench, of: str, sides: dict[int, Side]) -> dict[str, Any]:
    runs = bench.race({str(size): side for size, side in sides.items()})
    return _grown(of, sides, list(runs.values()))


def _grown(of: str, sizes: Iterable[int], runs: list[Run]) -> dict[str, Any]:
    known, seconds = list(sizes), [run.seconds for run in runs]
    large = [place for place, size in enumerate(known) if size >= STEADY * known[-1]]
    return {
        "of": of,
        "sizes": known,
        "seconds": seconds,
        "cpu_s": [run.cpu_s for run in runs],
        "peak_mib": [run.peak_mib for run in runs],
        "exponent": exponent(known, seconds),
        "exponent_steady": exponent([known[i] for i in large], [seconds[i] for i in large]),
    }


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return how time grows with size: as its power of this."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _registries(place: Path) -> Growth:
    """Ask the embedded registry and MLflow's client the same of registries of several sizes."""
    taken: dict[str, list[Run]] = {}
    for models in REGISTERED:
        home = place / str(models)
        home.mkdir(parents=True)
        for name, seconds in _asked(home, models).items():
            taken.setdefault(name, []).append(Run(seconds, seconds, 0))
    return {name: _grown("models", REGISTERED, runs) for name, runs in taken.items()}


def _asked(home: Path, models: int) -> dict[str, float]:
    import registry
    from mlflow.tracking import MlflowClient

    from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

    registry.fill(home, models)
    ours = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db", f"sqlite:///{home}/mlflow.db")
    name = f"model-{models // 2:05d}"
    asked: dict[str, Callable[[], Any]] = {
        "the registry, a page of champions": lambda: [
            ours.aliased(each, "champion") for each in ours.names()[:PAGE]
        ],
        "MLflow's client, a page of champions": lambda: [
            client.get_model_version(each.name, each.aliases["champion"])
            for each in client.search_registered_models(max_results=PAGE)
        ],
        "the registry, alias to version": lambda: ours.aliased(name, "champion"),
        "MLflow's client, alias to version": lambda: client.get_model_version_by_alias(
            name, "champion"
        ),
        "the registry, every champion": ours.aliases,
    }
    return {what: registry.median_s(ask, times=9) for what, ask in asked.items()}


def table(csv: str) -> None:
    """A CSV to a snapshot, its profile, all checks of a first run, and their page."""
    from treadle.adapters.filesystem import DirectoryStore
    from treadle.ingestion import snapshot
    from treadle.spec import Source, Validation
    from treadle.validation import gate, page

    def go(path: str) -> None:
        with TemporaryDirectory(prefix="treadle-bench-") as place:
            store = DirectoryStore(Path(place))
            taken = snapshot.take(Source.model_validate(path), store)
            found = gate.run(taken, "score", Validation(), None, store, Path(place) / "aside")
            page.render(found, taken.rows, "score")

    with TemporaryDirectory(prefix="treadle-bench-") as place:
        with Path(csv).open() as rows:
            first = "".join(line for line, _ in zip(rows, range(500), strict=False))
        warm = Path(place, "warm.csv")
        warm.write_text(first)
        go(str(warm))  # what is imported late isn't part of the work
    with Clock():
        go(csv)


def segments(models: str) -> None:
    """A model for each of so many segments of 300 rows, three candidates each."""
    import tuning

    tuning.SEGMENTS = int(models)
    began = os.times()
    with TemporaryDirectory(prefix="treadle-bench-") as place:
        seconds = tuning.many_models(Path(place))["seconds"]
    used = os.times()
    print(json.dumps({"seconds": seconds, "cpu_s": sum(used[:4]) - sum(began[:4])}))


if __name__ == "__main__":
    work({"table": table, "segments": segments})
