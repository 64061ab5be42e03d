"""Servers that the contract suites share, started once a session."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from treadle.adapters import mlflow_database
from treadle.adapters.mlflow import MlflowRegistry
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.ports import Registry

sys.path.append(str(Path(__file__).parents[1]))  # for what other suites use too

from registries import mlflow_server
from seaweed import S3Server, start_seaweedfs

BUCKET = "contract"


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[S3Server]:
    """A running S3 server with an empty bucket named ``contract``."""
    # Not pytest's own: it keeps the directories of three sessions, and this one gets large.
    with (
        TemporaryDirectory(prefix="seaweedfs-") as directory,
        start_seaweedfs(Path(directory)) as server,
    ):
        server.client().make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running MLflow server: yours, where TEST_MLFLOW_URL says which (an empty
    one, as on a database other than SQLite)."""
    if yours := os.environ.get("TEST_MLFLOW_URL"):
        yield yours
        return
    with mlflow_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="session", params=["read directly", "mlflow's client", "mlflow server"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry")
    if request.param == "read directly":
        yield SqliteMlflowRegistry(directory / "mlflow.db", directory / "artifacts")
    elif request.param == "mlflow's client":
        yield MlflowRegistry(f"sqlite:///{directory}/mlflow.db", (directory / "a").as_uri())
    else:
        yield MlflowRegistry(request.getfixturevalue("server"))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text("<p>größer</p>", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with nothing in it, made once: it takes seconds."""
    directory = tmp_path_factory.mktemp("blank")
    mlflow_database.create(directory / "mlflow.db", directory / "artifacts")
    return directory / "mlflow.db"


@pytest.fixture
def embedded(tmp_path: Path, blank_database: Path) -> SqliteMlflowRegistry:
    shutil.copyfile(blank_database, tmp_path / "mlflow.db")
    return SqliteMlflowRegistry(tmp_path / "mlflow.db", tmp_path / "artifacts")
