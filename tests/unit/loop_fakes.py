"""A logged model for the tests of the loop: rows as the server would have written them."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from serving_fakes import SIGNATURE, MemoryRegistry, registered, write_bundle

from treadle import bundle as bundles
from treadle import labels, predictions, snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle
from treadle.deployment import promotion
from treadle.errors import Overtaken
from treadle.feedback import ledger, monitor
from treadle.feedback.monitor import Turn
from treadle.labels import Label
from treadle.monitoring import Entry
from treadle.ports import ObjectStore
from treadle.profile import profile
from treadle.records import Change, ChangeKind, Kind, ModelVersion, NewVersion, Query
from treadle.signature import encode_rows, row_encoder
from treadle.spec import Spec

BEGIN = datetime(2026, 3, 1, 10, tzinfo=UTC)


def rows_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as the model ``sum`` was trained on."""
    random = np.random.default_rng(seed)
    return [
        {"x": float(x), "y": float(y), "colour": str(colour)}
        for x, y, colour in zip(
            random.uniform(0, 8, count), random.uniform(0, 8, count),
            random.choice(["red", "red", "blue"], count), strict=True,
        )
    ]  # fmt: skip


def answer(row: dict[str, Any], plus: float = 0.0) -> float:
    """What the model ``sum`` says of a row."""
    colours = {"red": 10.0, "blue": 20.0}
    return float((row["x"] or 0) + (row["y"] or 0) + colours.get(row["colour"], 0.0) + plus)


def log(
    version: ModelVersion,
    rows: Sequence[dict[str, Any]],
    store: ObjectStore,
    *,
    at: datetime = BEGIN,
    ids: Sequence[str] | None = None,
    role: str = "champion",
    plus: float = 0.0,
    every_s: float = 1.0,
) -> str:
    """Write one file of the log; return its key. Ids are ``<hour>-<n>`` where none are given."""
    ids = ids or [f"{at:%d-%H-%M}-{n}" for n in range(len(rows))]
    microseconds = [int((at + timedelta(seconds=every_s * n)).timestamp() * 1e6)
                    for n in range(len(rows))]  # fmt: skip
    columns = encode_rows(list(rows), row_encoder(SIGNATURE))
    output = np.array([answer(row, plus) for row in rows], dtype=np.float32)
    batch = predictions.batch(
        SIGNATURE, list(ids), np.array(microseconds), version.version, version.digest,
        [role] * len(rows), columns, output,
    )  # fmt: skip
    key, content = predictions.sealed(
        version.name, version.digest, predictions.hour_of(at), [batch]
    )
    store.put_bytes(key, content)
    return key


def tell(
    version: ModelVersion,
    answers: Sequence[tuple[str, float]],
    store: ObjectStore,
    now: datetime = BEGIN + timedelta(hours=1),
) -> None:
    """Deliver labels."""
    sent = [Label(id_, value) for id_, value in answers]
    labels.deliver(version.name, SIGNATURE, sent, now, store)


class LoopRegistry(MemoryRegistry):
    """A registry in memory that keeps the history of champions too."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, list[Change]] = {}

    def history(self, name: str) -> Sequence[Change]:
        self._check()
        return list(self.changes.get(name, []))

    def change_champion(self, name: str, change: Change, position: int) -> None:
        self._check()
        self.append(name, change, position)
        if change.to_version is None:
            self.remove_alias(name, "champion")
        else:
            self.set_alias(name, "champion", change.to_version)

    def append(self, name: str, change: Change, position: int) -> None:
        """Write a change down; the alias follows."""
        known = self.changes.setdefault(name, [])
        if len(known) > position:
            raise Overtaken(f"{name} was changed at the same time")
        known.append(change)

    def find(self, wanted: Query, limit: int, offset: int = 0) -> Sequence[ModelVersion]:
        assert wanted.alias is not None
        found = [self.aliased(name, wanted.alias) for name in self.names()]
        return [version for version in found if version is not None]


class AtWork:
    """Models at work: each adds up its columns, and was trained on 4,000 rows, of which it was held
    against the last 1,000. Time is what the test says."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.store = DirectoryStore(directory / "objects")
        self.registry = LoopRegistry()
        self.hour = 0

    def add(self, name: str = "sum", plus: float = 0.0, **feedback: Any) -> ModelVersion:
        """Train a version that is wrong by ``plus``, and promote it."""
        rows = rows_of(4_000, seed=7)
        told = [row | {"sum": answer(row) + error}
                for row, error in zip(rows, errors(4_000, 7), strict=True)]  # fmt: skip
        table = pa.Table.from_pylist(told)
        snapshots_of = [
            snapshots.publish(part.to_reader(), "test", self.store)
            for part in (table, table.slice(3_000))
        ]
        place = self.directory / f"{name}-{plus}-{self.hour}-{len(list(self.directory.iterdir()))}"
        write_bundle(place, plus)
        data = self.store.local(snapshots_of[0].data_key)
        kinds = {"x": Kind.NUMBER, "y": Kind.NUMBER, "colour": Kind.CATEGORY, "sum": Kind.NUMBER}
        profile(data, kinds).write(place / bundles.REFERENCE)
        profile(data, kinds).write(place / bundles.SCHEMA)
        made = registered(name, Bundle.at(place), self.store, self.registry)
        options = {"min_rows": 500} | feedback
        spec = {"name": name, "target": "sum", "source": {"path": "sum.csv"},
                "feedback": options, "training": {"metric": "rmse"}}  # fmt: skip
        split = made.lineage.split.model_copy(update={"held_out": snapshots_of[1].digest})
        lineage = made.lineage.model_copy(
            update={"snapshot": snapshots_of[0], "split": split, "spec": json.dumps(spec)}
        )
        version = made.model_copy(update={"lineage": lineage})
        self.registry._versions[name][-1] = version
        former = self.registry.aliased(name, "champion")
        promotion.change(
            self.registry, name, ChangeKind.PROMOTED, former, version, "test", "better"
        )
        return version

    def ask(
        self, version: ModelVersion, rows: Sequence[dict[str, Any]], plus: float = 0.0
    ) -> list[str]:
        """Have rows answered in an hour of their own; return their ids."""
        self.hour += 1
        at = BEGIN + timedelta(hours=self.hour)
        ids = [f"{version.name}-{self.hour}-{n}" for n in range(len(rows))]
        log(version, rows, self.store, at=at, ids=ids, plus=plus)
        return ids

    def tell(
        self,
        version: ModelVersion,
        ids: Sequence[str],
        rows: Sequence[dict[str, Any]],
        plus: float = 0.0,
    ) -> None:
        """Send the labels of rows; the world adds ``plus`` to what it was in training."""
        sent = [
            (id_, answer(row) + error + plus)
            for id_, row, error in zip(ids, rows, errors(len(rows), self.hour), strict=True)
        ]
        tell(version, sent, self.store, now=self.now)  # fmt: skip

    @property
    def now(self) -> datetime:
        """The end of the present hour."""
        return BEGIN + timedelta(hours=self.hour, minutes=59)

    def turn(self, name: str = "sum", **given: Any) -> Turn:
        """Give a model its turn."""
        version = self.registry.aliased(name, "champion")
        assert version is not None
        known = self.registry.versions(name)
        return monitor.turn(
            version, self.registry.history(name),
            lambda number: next(v for v in known if v.version == number),
            ledger.latest(name, None, self.store), None,
            self.bundle, self.now, self.store,
        )  # fmt: skip

    def look(self, name: str = "sum") -> Entry:
        """Give a model its turn, and write down what was decided."""
        return monitor.record(self.turn(name), "test", self.now, self.store)

    def bundle(self, digest: str) -> Bundle:
        """Open a bundle."""
        return Bundle.fetch(digest, self.store, verify_key=None)


def trained(work: AtWork, passed: bool = True) -> Callable[[Spec], dict[str, Any]]:
    """Return a stand-in for the pipeline: what it learns fits the world as it is."""

    def train(spec: Spec) -> dict[str, Any]:
        name, promoted = spec.name, passed and spec.approval == "none"
        known = work.registry.versions(name)
        text = spec.model_dump_json(exclude={"resources"})
        made = next((v for v in known if v.lineage.spec == text), None)
        if made is None:
            lineage = known[0].lineage.model_copy(update={"spec": text})
            fields = {field: getattr(known[0], field) for field in NewVersion.model_fields}
            made = work.registry.register(NewVersion(**fields | {"lineage": lineage}), {})
        if promoted:
            former = work.registry.aliased(name, "champion")
            promotion.change(
                work.registry, name, ChangeKind.PROMOTED, former, made, "run", "better"
            )
        return {"version": made.version, "promoted": promoted, "reasons": ["10 % better"],
                "awaits_approval": passed and not promoted}  # fmt: skip

    return train


def errors(count: int, seed: int) -> list[float]:
    """What the model can't know."""
    return [float(e) for e in np.random.default_rng(seed).normal(0, 1, count)]
