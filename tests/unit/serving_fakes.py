"""A registry in memory and models small enough to be made for a test."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from treadle import bundle as bundles
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle
from treadle.config import Settings
from treadle.errors import RegistryError
from treadle.ports import ObjectStore, Registry
from treadle.records import (
    ColumnProfile,
    Decision,
    Feature,
    Kind,
    Lineage,
    ModelVersion,
    NewVersion,
    Profile,
    Share,
    Signature,
    Snapshot,
    Split,
    Task,
)
from treadle_serving.app import App
from treadle_serving.front import Front
from treadle_serving.process import Server

SIGNATURE = Signature(
    task=Task.REGRESSION,
    target="sum",
    features=[Feature(name="x", kind=Kind.NUMBER), Feature(name="y", kind=Kind.NUMBER),
              Feature(name="colour", kind=Kind.CATEGORY)],
)  # fmt: skip


class MemoryRegistry:
    """See ``ports.Registry``. ``gone`` makes it refuse."""

    def __init__(self) -> None:
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self.gone = False

    def _check(self) -> None:
        if self.gone:
            raise RegistryError("the registry is gone")

    def names(self) -> Sequence[str]:
        self._check()
        return sorted(self._versions)

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        self._check()
        return {name: dict(self._aliases.get(name, {})) for name in self._versions}

    def versions(self, name: str) -> Sequence[ModelVersion]:
        self._check()
        return self._versions[name][::-1]

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        self._check()
        number = self._aliases.get(name, {}).get(alias)
        return None if number is None else self._versions[name][number - 1]

    def register(self, new: NewVersion, files: Mapping[str, Path]) -> ModelVersion:
        known = self._versions.setdefault(new.name, [])
        made = datetime(2026, 1, 1, tzinfo=UTC)
        known.append(ModelVersion(**dict(new), version=len(known) + 1, created_at=made))
        return known[-1]

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._check()
        self._aliases.setdefault(name, {})[alias] = version

    def remove_alias(self, name: str, alias: str) -> None:
        self._check()
        self._aliases.get(name, {}).pop(alias, None)


_: Registry = MemoryRegistry()


def graph(plus: float) -> bytes:
    """x + y + (red: 10, blue: 20, other: 0) + plus, a null being nan."""
    nodes = [
        helper.make_node("LabelEncoder", ["colour"], ["coded"], domain="ai.onnx.ml",
                         keys_strings=["red", "blue"], values_floats=[10.0, 20.0],
                         default_float=0.0),
        helper.make_node("Sum", ["x", "y", "coded", "plus"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["prediction"]),
    ]  # fmt: skip
    constants = [
        numpy_helper.from_array(np.array([[plus]], dtype=np.float32), "plus"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("colour", TensorProto.STRING, [None, 1]),
    ]
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None])]
    whole = helper.make_graph(nodes, "sum", inputs, outputs, initializer=constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(whole, opset_imports=opsets, ir_version=9).SerializeToString())


def write_bundle(directory: Path, plus: float = 0.0, ignored: Sequence[str] = ()) -> Bundle:
    """Write a bundle that adds up, and knows of columns that it ignores."""
    directory.mkdir(parents=True)
    onnx.checker.check_model(graph(plus))
    (directory / bundles.ONNX).write_bytes(graph(plus))
    signature = SIGNATURE.model_copy(update={"ignored": list(ignored)})
    signature.write(directory / bundles.SIGNATURE)
    number = {"kind": Kind.NUMBER, "rows": 9, "nulls": 0, "distinct": 9, "minimum": 0.0,
              "maximum": 8.0, "quantiles": [0.0, 4.0, 8.0]}  # fmt: skip
    top = [Share(value="red", count=6), Share(value="blue", count=3)]
    columns = [ColumnProfile(name="x", **number), ColumnProfile(name="y", **number),
               ColumnProfile(name="colour", kind=Kind.CATEGORY, rows=9, nulls=0, distinct=2,
                             top=top)]  # fmt: skip
    Profile(rows=9, columns=columns).write(directory / bundles.REFERENCE)
    golden = {
        "rows": [{"x": 1.0, "y": 2.0, "colour": "red"}],
        "answers": [{"prediction": 13.0 + plus}],
    }
    (directory / bundles.GOLDEN).write_text(json.dumps(golden), encoding="utf-8")
    return Bundle.at(directory)


def registered(
    name: str,
    bundle: Bundle,
    store: ObjectStore,
    registry: MemoryRegistry,
    digest: str = "s" * 32,
) -> ModelVersion:
    """Store and register a bundle, learned from the snapshot of this digest."""
    snapshot = Snapshot(digest=digest, rows=9, columns=[], size_bytes=9, source="a.csv")
    split = Split(by="random", column=None, seed=0, train_rows=8, test_rows=1, tuning_rows=1,
                  held_out="h" * 32)  # fmt: skip
    lineage = Lineage(run_id="run", snapshot=snapshot, split=split, spec="{}", family="linear",
                      parameters={}, seed=0, code="1", commit=None, python="3",
                      packages={})  # fmt: skip
    new = NewVersion(
        name=name, semver="1.0.0", digest=bundle.digest, source=bundles.store_bundle(bundle, store),
        signature=bundle.signature, metrics=[], lineage=lineage,
        decision=Decision(passed=True, reasons=[]),
    )  # fmt: skip
    return registry.register(new, {})


class Running:
    """An application with one model, ``sum``, asked in process."""

    def __init__(self, directory: Path, ignored: Sequence[str] = (), **settings: Any) -> None:
        directory.mkdir(exist_ok=True)
        self.directory, self._ignored = directory, ignored
        self.registry = MemoryRegistry()
        self.store = DirectoryStore(directory / "objects")
        self.add("sum", 0.0)
        self.registry.set_alias("sum", "champion", 1)
        self.app = App(Settings(home=directory, **settings), self.registry, self.store)
        self.app.models.refresh()

    def add(self, name: str, plus: float) -> ModelVersion:
        """Register a version that adds ``plus``."""
        place = self.directory / f"{name}-{plus}-{len(list(self.directory.iterdir()))}"
        return registered(name, write_bundle(place, plus, self._ignored), self.store, self.registry)

    def ask(self, *asked: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Send requests at once: each (method, path, httpx's arguments)."""

        async def all_of_them() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                sent = [client.request(method, path, **rest) for method, path, rest in asked]
                return list(await asyncio.gather(*sent))

        return asyncio.run(all_of_them())

    def get(self, path: str, **rest: Any) -> httpx.Response:
        return self.ask(("GET", path, rest))[0]

    def post(self, path: str, **rest: Any) -> httpx.Response:
        return self.ask(("POST", path, rest))[0]

    def predict(self, *rows: dict[str, Any], path: str = "/v1/models/sum/predict") -> Any:
        """Predictions of rows."""
        answer = self.post(path, json={"rows": list(rows)})
        assert answer.status_code == 200, answer.text
        return [found["prediction"] for found in answer.json()["predictions"]]


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind our application: nothing but a life."""
    for state in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{state}.complete"})


class Listening:
    """The same over HTTP, in a thread."""

    def __init__(self, directory: Path) -> None:
        running = Running(directory)
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = listening.getsockname()
        self.server = Server(Front(running.app, lifespan), listening)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=10)

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()
