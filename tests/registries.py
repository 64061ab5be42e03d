"""What tests of the registry share: a version to register, a small bundle that answers, and a real
MLflow server."""

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from treadle import bundle as bundles
from treadle.adapters import mlflow_tables
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.model_server import free_port
from treadle.bundle import Bundle
from treadle.ports import ObjectStore
from treadle.records import (
    Decision,
    Feature,
    Kind,
    Lineage,
    Metric,
    NewVersion,
    Profile,
    Signature,
    Snapshot,
    Split,
    Task,
)


def new_version(name: str, semver: str = "1.0.0", digest: str = "d" * 32) -> NewVersion:
    """A version with everything that must come back."""
    return NewVersion(
        name=name,
        semver=semver,
        digest=digest,
        source="s3://models/bundles/" + digest,
        signature=Signature(
            task=Task.BINARY,
            target="gekündigt",
            features=[Feature(name="größe", kind=Kind.NUMBER)],
            classes=["ja", "nein"],
        ),
        metrics=[Metric(name="roc_auc", value=0.8, low=0.7, high=0.9, higher_is_better=True)],
        decision=Decision(passed=True, reasons=["it's 'good'"]),
        lineage=Lineage(
            run_id="run-1",
            snapshot=Snapshot(digest="s" * 32, rows=3, columns=[], size_bytes=9, source="a.csv"),
            split=Split(
                by="random", column=None, seed=0, train_rows=2, test_rows=1, tuning_rows=1,
                held_out="h" * 32,
            ),
            spec='{"name": "x"}',
            family="linear",
            parameters={"regularisation": 0.5},
            seed=0,
            code="0",
            commit=None,
            python="3",
            packages={},
        ),
    )  # fmt: skip


@contextlib.contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """A real MLflow server on loopback."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/server.db",
               "--artifacts-destination", str(directory / "artifacts")]  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=directory, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (directory / "log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url + "/health", timeout=2)
                break
            time.sleep(0.1)
        yield url
    finally:
        # It has nothing to lose, and would wait for its clients' open connections.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)


def stored_bundle(directory: Path, store: ObjectStore, slope: float) -> Bundle:
    """A bundle that answers ``slope`` times its one feature, put into the store."""
    from onnx import TensorProto, helper, save

    numbers = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    by = helper.make_tensor("by", TensorProto.FLOAT, [1], [slope])
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("Mul", ["x", "by"], ["product"]),
        helper.make_node("Reshape", ["product", "flat"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "slope", [numbers], [answer], [by, flat])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    directory.mkdir()
    save(model, str(directory / bundles.ONNX))
    feature = Feature(name="x", kind=Kind.NUMBER)
    signature = Signature(task=Task.REGRESSION, target="y", features=[feature])
    signature.write(directory / bundles.SIGNATURE)
    Profile(rows=1, columns=[]).write(directory / bundles.REFERENCE)
    golden = {"rows": [{"x": 2.0}], "answers": [{"prediction": 2.0 * slope}]}
    (directory / bundles.GOLDEN).write_text(json.dumps(golden), encoding="utf-8")
    made = Bundle.at(directory)
    bundles.store_bundle(made, store)
    return made


class Addressed(DirectoryStore):
    """A directory that says it were S3: an MLflow server takes no version whose bundle lies in a
    directory."""

    def uri(self, key: str) -> str:
        return f"s3://models/{key}"


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a tar file anew with other members."""
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def die_after_inserting_into(table: str) -> None:
    """Have this process killed within the transaction that inserts a row into ``table``."""
    insert = mlflow_tables.insert

    def killed(connection: sqlite3.Connection, into: str, *rest: Any) -> None:
        insert(connection, into, *rest)
        if into == table:
            # What a large transaction does by itself: part of it is in the file already.
            connection.execute("PRAGMA cache_size = 1")
            for number in range(2000):
                row = {"key": str(number), "value": "x" * 999, "run_uuid": "r"}
                insert(connection, "params", row)
            os.kill(os.getpid(), signal.SIGKILL)

    mlflow_tables.insert = killed
