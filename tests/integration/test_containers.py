"""Every component as a container, through kfp's DockerRunner."""

import gc
import os
import sys
import warnings
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
from treadle.records import ModelVersion
from treadle.registry import lineage
from treadle.spec import Spec
from treadle_pipelines import graphs, spec_file
from treadle_pipelines.arguments import feedback_arguments, training_arguments

pytestmark = pytest.mark.timeout(1200)
ROOT = Path(__file__).parents[2]
# Whoever runs the tests, so that they own what the steps write; the image's own user for root.
USER, GROUP = (os.getuid(), os.getgid()) if os.getuid() else (10001, 10001)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    """A Docker engine that has the steps' image."""
    client = connected()
    if isinstance(client, str):
        pytest.skip(f"no Docker engine answers: {client}")
    try:
        client.images.get(STEP_IMAGE)
        yield client
    except ImageNotFound:
        pytest.skip(f"Docker has no image {STEP_IMAGE}: build it with components/build-image")
    finally:
        client.close()


def connected() -> docker.DockerClient | str:
    """The engine's client, or why there is none."""
    try:
        return docker.from_env(timeout=30)
    except DockerException as error:
        reason = str(error)
    with warnings.catch_warnings():
        # The client leaves the socket of a refused connection to the garbage collector, whose
        # warning would else fail whichever test runs when it comes round.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return reason


@pytest.fixture(scope="module")
def labels(engine: docker.DockerClient) -> Iterator[dict[str, str]]:
    """A label of these tests alone; at the end every container that carries it is removed."""
    labels = {"treadle-test": uuid4().hex}
    yield labels
    label = f"treadle-test={labels['treadle-test']}"
    for container in engine.containers.list(all=True, filters={"label": label}):
        with suppress(APIError):  # it may be on its way out by itself
            container.remove(force=True)


@pytest.fixture(scope="module")
def spec() -> Spec:
    """The wine example with one trial for each family, so that none is stopped early: which one
    is hangs on who comes first."""
    whole = spec_file.load(ROOT / "examples" / "wine" / "wine.yaml")
    search = whole.training.model_copy(update={"trials": 3, "budget_s": 600.0})
    return whole.model_copy(update={"training": search})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that the steps' user may write to."""
    home = tmp_path_factory.mktemp("containers")
    for directory in (home, home / "steps"):
        directory.mkdir(exist_ok=True)
        os.chown(directory, USER, GROUP)
    return home


@pytest.fixture(scope="module")
def runner(home: Path, labels: dict[str, str]) -> local.DockerRunner:
    """Containers as a careful cluster would run them: nobody's user, no capability, no network,
    nothing writable but the home and /tmp."""
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
        labels=labels,
    )


@pytest.fixture(scope="module")
def champion(runner: local.DockerRunner, home: Path, spec: Spec) -> ModelVersion:
    """The champion that the training graph makes in containers."""
    return trained(spec, runner, home)


def trained(
    spec: Spec, runner: local.DockerRunner | local.SubprocessRunner, home: Path
) -> ModelVersion:
    local.init(runner=runner, pipeline_root=str(home / "steps"))
    seen = fingerprint(spec.source)
    graphs.training_pipeline(**training_arguments(spec, seen, champion="", run_id="containers"))
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    champion = registry.aliased(spec.name, "champion")
    assert champion is not None
    return champion


def test_containers_make_a_champion_that_is_proved_outside_of_them(
    champion: ModelVersion, home: Path
) -> None:
    assert champion.lineage.code == lineage.code()
    Bundle.fetch(champion.digest, DirectoryStore(home / "objects"), verify_key=None).prove()


@pytest.mark.usefixtures("champion")
def test_a_container_watches_over_the_champion(
    runner: local.DockerRunner, home: Path, spec: Spec
) -> None:
    local.init(runner=runner, pipeline_root=str(home / "steps"))
    verdict = graphs.feedback_pipeline(**feedback_arguments(spec)).output
    assert verdict in {"healthy", "watch", "retrain"}


@pytest.mark.usefixtures("champion")
def test_what_containers_write_belongs_to_their_user(home: Path) -> None:
    assert {path.stat().st_uid for path in home.rglob("*")} == {USER}


def test_containers_and_processes_make_the_same_model(
    champion: ModelVersion, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform != "linux" or champion.lineage.packages != lineage.packages():
        pytest.skip("other builds of the libraries differ in the last bits")
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # kfp's: this runner uses no image
        here = trained(spec, local.SubprocessRunner(use_venv=False), tmp_path)
    assert here.digest == champion.digest


def test_the_image_installs_the_versions_that_the_tests_run_with() -> None:
    image, tests = (pins(ROOT / f"requirements{kind}.lock") for kind in ("-run", ""))
    assert image
    assert image <= tests


def pins(lock: Path) -> set[str]:
    lines = lock.read_text("utf-8").splitlines()
    return {line.rstrip(" \\") for line in lines if line[:1].isalnum()}
