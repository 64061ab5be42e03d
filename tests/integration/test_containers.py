"""Every component as a container, through kfp's DockerRunner."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import docker  # type: ignore[import-untyped]
import pytest
from docker.errors import APIError, DockerException, ImageNotFound  # type: ignore[import-untyped]
from docker.types import Mount  # type: ignore[import-untyped]
from kfp import local

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.config import STEP_IMAGE
from treadle.ingestion.sources import fingerprint
from treadle.registry import lineage
from treadle.spec import Spec
from treadle_pipelines import graphs, spec_file
from treadle_pipelines.arguments import feedback_arguments, training_arguments

ROOT = Path(__file__).parents[2]
# Whoever runs the tests, so that they own what the steps write; the image's own user for root.
USER, GROUP = (os.getuid(), os.getgid()) if os.getuid() else (10001, 10001)


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """A Docker engine that has the steps' image."""
    try:
        client = docker.from_env(timeout=30)
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    with_image = f"Docker has no image {STEP_IMAGE}: build it with components/build-image"
    try:
        client.images.get(STEP_IMAGE)
        yield client
    except ImageNotFound:
        pytest.skip(with_image)
    finally:
        client.close()


@pytest.fixture
def label(engine: docker.DockerClient) -> Iterator[str]:
    """A label; at the end every container that carries it is removed."""
    label = f"treadle-test={uuid4().hex}"
    yield label
    for container in engine.containers.list(all=True, filters={"label": label}):
        with suppress(APIError):  # it may be on its way out by itself
            container.remove(force=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that the steps' user may write to."""
    home = tmp_path / "home"
    for directory in (home, home / "steps", home / "workspace"):
        directory.mkdir()
        os.chown(directory, USER, GROUP)
    return home


@pytest.fixture
def runner(engine: docker.DockerClient, label: str, home: Path) -> local.DockerRunner:
    """Containers as a careful cluster would run them: nobody's user, no capability, no network,
    nothing writable but the home and /tmp."""
    name, _, value = label.partition("=")
    return local.DockerRunner(
        mounts=[Mount(target=str(home), source=str(home), type="bind")],
        environment={"TREADLE_HOME": str(home)},
        user=f"{USER}:{GROUP}",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": "rw,exec,size=1g"},
        shm_size="512m",
        labels={name: value},
    )


@pytest.fixture
def spec() -> Spec:
    """The wine example with few trials."""
    whole = spec_file.load(ROOT / "examples" / "wine" / "wine.yaml")
    return whole.model_copy(update={"training": whole.training.model_copy(update={"trials": 3})})


@pytest.mark.timeout(1200)
def test_both_graphs_run_with_each_step_in_a_container(
    runner: local.DockerRunner, home: Path, spec: Spec
) -> None:
    local.init(
        runner=runner,
        pipeline_root=str(home / "steps"),
        workspace_root=str(home / "workspace"),
    )
    arguments = training_arguments(spec, fingerprint(spec.source), champion="", run_id="boxed")
    version = graphs.training_pipeline(**arguments).output

    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    champion = registry.aliased(spec.name, "champion")
    assert champion is not None
    assert champion.version == version
    assert champion.lineage.code == lineage.code()
    Bundle.fetch(champion.digest, DirectoryStore(home / "objects")).prove()

    verdict = graphs.feedback_pipeline(**feedback_arguments(spec)).output
    assert verdict in {"healthy", "watch", "retrain"}
    assert {path.stat().st_uid for path in home.rglob("*")} == {USER}


def test_the_image_installs_the_versions_that_the_tests_run_with() -> None:
    image, tests = (_pins(ROOT / f"requirements{kind}.lock") for kind in ("-run", ""))
    assert image
    assert image <= tests


def _pins(lock: Path) -> set[str]:
    lines = lock.read_text("utf-8").splitlines()
    return {line.rstrip(" \\") for line in lines if line[:1].isalnum()}
