"""How long a pass of the monitor takes: one model with a million logged rows, or many small ones.

The models are boosted trees; making their references is counted, as in a first pass.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from bench import Clock, work
from parts.loop_champions import BEGIN, trained

from treadle import predictions, runtime
from treadle.bundle import GOLDEN, Bundle, store_bundle
from treadle.config import Settings
from treadle.ports import ObjectStore
from treadle.records import Change, ModelVersion, Query
from treadle.signature import frame_of, read_frame
from treadle_pipelines import monitoring

NUMBERS = [f"x{n}" for n in range(15)]
WORDS = [f"c{n}" for n in range(5)]
# A file of the log is what a server stores at once.
FILE_ROWS = 50_000


class Registry:
    """A registry that answers at once: what is measured is the monitor."""

    def __init__(self, versions: Sequence[ModelVersion]) -> None:
        self._versions = {version.name: version for version in versions}

    def find(self, wanted: Query, limit: int, offset: int = 0) -> list[ModelVersion]:
        """Return every champion."""
        return list(self._versions.values())

    def aliased(self, name: str, alias: str) -> ModelVersion:
        """Return a champion."""
        return self._versions[name]

    def history(self, name: str) -> list[Change]:
        """Return nothing: there was no champion before."""
        return []


def drawn(rows: int, random: np.random.Generator) -> pa.Table:
    """Draw rows of 15 numbers and 5 categories, and what is to be predicted of them."""
    numbers = {name: random.normal(size=rows).astype(np.float32) for name in NUMBERS}
    levels = np.array([f"level {n}" for n in range(30)], dtype=object)
    words = {name: levels[random.integers(0, 30, rows)] for name in WORDS}
    answers = sum(numbers.values()) + random.normal(size=rows)
    return pa.table({**numbers, **words, "y": answers})


def look(place: Path, models: int, rows: int, learned: int) -> None:
    """Put models to work, each with ``rows`` logged rows, and time the monitor's pass over all of
    them."""
    random = np.random.default_rng(0)
    made = trained(drawn(learned, random), "y", "mae", {"split": "random"}, place)
    versions = []
    for number in range(models):
        name = f"model-{number:04}"
        files = shutil.copytree(place / "bundle", place / "bundles" / name)
        # Each is a model of its own, though they answer alike.
        golden = {"rows": [], "answers": [], "of": name}
        (files / GOLDEN).write_text(json.dumps(golden), encoding="utf-8")
        bundle = Bundle.at(files)
        store_bundle(bundle, made.store)
        update = {"name": name, "digest": bundle.digest}
        versions.append(made.version.model_copy(update=update))
        log(versions[-1], made.bundle, drawn(rows, random), made.store)
    runtime.settings = lambda: Settings(home=place)
    runtime.object_store = lambda: made.store
    runtime.registry = lambda: Registry(versions)
    runtime.bundle = lambda digest: Bundle.fetch(digest, made.store, verify_key=None)
    with Clock():
        fleet = monitoring.run(None, None, False, lambda _words: None)
    wrong = [row for row in fleet.rows if row.fault or row.rows != rows]
    if wrong or len(fleet.rows) != models:
        sys.exit(f"not all were looked at: {wrong[:3]}")


def log(version: ModelVersion, bundle: Bundle, table: pa.Table, store: ObjectStore) -> None:
    """Write rows to the log, as the server would have."""
    for begin in range(0, len(table), FILE_ROWS):
        some = table.slice(begin, FILE_ROWS)
        columns, _ = read_frame(frame_of(some), bundle.signature)
        at = np.arange(begin, begin + len(some)) + int(BEGIN.timestamp() * 1e6)
        ids = [f"{version.digest[:8]}-{n}" for n in range(begin, begin + len(some))]
        rows = predictions.batch(
            bundle.signature, ids, at, 1, version.digest, ["champion"] * len(some), columns,
            bundle.model.output(columns),
        )  # fmt: skip
        hour = predictions.hour_of(BEGIN)
        store.put_bytes(*predictions.sealed(version.name, version.digest, hour, [rows]))


def one_model(place: str) -> None:
    """One model with 20 features and a million logged rows."""
    look(Path(place), 1, 1_000_000, 20_000)


def fleet(place: str, models: str) -> None:
    """Many models with a thousand logged rows each."""
    look(Path(place), int(models), 1_000, 4_000)


if __name__ == "__main__":
    work({"one_model": one_model, "fleet": fleet})
