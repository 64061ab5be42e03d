"""One contract over the registry: SQLite read directly, SQLite through MLflow's client, and a real
MLflow server."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle.adapters.mlflow import MlflowRegistry
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.adapters.model_server import free_port
from treadle.errors import RegistryError
from treadle.ports import Registry
from treadle.records import (
    Decision,
    Feature,
    Kind,
    Lineage,
    Metric,
    NewVersion,
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
        os.killpg(process.pid, 15)
        process.wait(timeout=20)


@pytest.fixture(scope="module", params=["read directly", "mlflow's client", "mlflow server"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry")
    if request.param == "read directly":
        yield SqliteMlflowRegistry(directory / "mlflow.db", directory / "artifacts")
    elif request.param == "mlflow's client":
        yield MlflowRegistry(f"sqlite:///{directory}/mlflow.db", (directory / "a").as_uri())
    else:
        with mlflow_server(directory) as url:
            yield MlflowRegistry(url)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text("<p>größer</p>", encoding="utf-8")
    return path


def test_an_empty_registry_has_no_models_and_says_so(registry: Registry) -> None:
    assert "nobody" not in registry.names()
    assert registry.aliased("nobody", "champion") is None
    with pytest.raises(RegistryError, match="no model 'nobody'"):
        registry.versions("nobody")


def test_a_version_comes_back_as_it_was_registered(registry: Registry, page: Path) -> None:
    new = new_version("whole")
    kept = registry.register(new, {"page.html": page})
    assert kept.version == 1
    (found,) = registry.versions("whole")
    assert NewVersion(**{f: getattr(found, f) for f in NewVersion.model_fields}) == new
    assert found.version == 1
    assert found.aliases == []
    assert abs(found.created_at.timestamp() - time.time()) < 120


def test_versions_are_numbered_and_come_newest_first(registry: Registry, page: Path) -> None:
    for semver in ("1.0.0", "1.1.0", "2.0.0"):
        registry.register(new_version("counted", semver), {"page.html": page})
    found = [(v.version, v.semver) for v in registry.versions("counted")]
    assert found == [(3, "2.0.0"), (2, "1.1.0"), (1, "1.0.0")]
    assert "counted" in registry.names()


def test_an_alias_points_at_one_version_and_moves(registry: Registry, page: Path) -> None:
    for digest in ("1" * 32, "2" * 32):
        registry.register(new_version("moved", digest=digest), {"page.html": page})
    assert registry.aliased("moved", "champion") is None
    for version in (1, 2):
        registry.set_alias("moved", "champion", version)
        found = registry.aliased("moved", "champion")
        assert found is not None
        assert found.version == version
        assert found.digest == str(version) * 32
        assert found.aliases == ["champion"]
    registry.set_alias("moved", "challenger", 2)
    assert registry.versions("moved")[0].aliases == ["challenger", "champion"]
    registry.remove_alias("moved", "champion")
    registry.remove_alias("moved", "champion")
    assert registry.aliased("moved", "champion") is None


def test_a_near_miss_is_named(registry: Registry, page: Path) -> None:
    registry.register(new_version("churn"), {"page.html": page})
    with pytest.raises(RegistryError, match="did you mean 'churn'"):
        registry.versions("chrun")


def test_an_alias_on_a_version_that_is_not_there_is_refused(registry: Registry, page: Path) -> None:
    registry.register(new_version("short"), {"page.html": page})
    with pytest.raises(RegistryError, match="refused"):
        registry.set_alias("short", "champion", 9)
    assert registry.aliased("short", "champion") is None


def test_a_database_that_is_no_database_is_put_into_words(tmp_path: Path) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"garbage" * 1000)
    with pytest.raises(RegistryError, match="can't be read"):
        SqliteMlflowRegistry(broken, tmp_path).names()


def test_a_server_that_does_not_answer_is_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1"):
        MlflowRegistry(f"http://127.0.0.1:{free_port()}").names()
