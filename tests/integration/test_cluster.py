"""A long-lived Ray cluster of real processes: a head and a worker, as on two machines.

The search is submitted through the job API; data, reports and result go through the object store.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from integration.conftest import free_port, wait_for
from treadle import prepared
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.optuna import TpeProposer
from treadle.adapters.ray_jobs import RayJobs
from treadle.errors import EnvironmentFault, ModelError
from treadle.halving import Crew
from treadle.ledger import SegmentLedger
from treadle.records import How, Recipe, Signature, Split, Task, Trial
from treadle.spec import Family, TrainingOptions
from treadle.training import remote, remote_segments, segments, train
from treadle.training.families import Objective
from treadle.training.segment_models import Choice, Segment, Shared

BIN = Path(sys.executable).parent
# Ray's job API wants a token unless it is told otherwise. It reads that once, when it is imported,
# and other tests import it too; this cluster is on the loopback for a minute.
AUTH = {"RAY_AUTH_MODE": "disabled"}
FOREST = TrainingOptions(families=[Family.FOREST], trials=12, budget_s=200, seed=3)


@dataclass
class RayCluster:
    """Two `ray start --block` processes, each with its children in a group of its own."""

    address: str
    gcs: str
    scratch: Path
    environment: dict[str, str]
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        log = (self.scratch / f"node-{len(self.nodes)}.log").open("wb")
        with log:
            node = subprocess.Popen(
                [str(BIN / "ray"), "start", "--block", "--disable-usage-stats",
                 "--object-store-memory=100000000",
                 # An agent whose port another Ray of this machine has takes no jobs.
                 f"--dashboard-agent-listen-port={free_port()}", *arguments],
                stdout=log, stderr=subprocess.STDOUT, env=self.environment,
                start_new_session=True, cwd=self.scratch,
            )  # fmt: skip
        self.nodes.append(node)
        return node

    def start_worker(self) -> "subprocess.Popen[bytes]":
        return self.start(f"--address={self.gcs}", "--num-cpus=2")

    def cores(self) -> int:
        code = (
            "import ray; ray.init(address='auto', log_to_driver=False, logging_level='ERROR');"
            "print(int(ray.cluster_resources().get('CPU', 0)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True,
            env=self.environment | {"RAY_ADDRESS": self.gcs}, timeout=60,
        )  # fmt: skip
        return int(done.stdout.strip() or 0)


def end(node: "subprocess.Popen[bytes]", how: signal.Signals = signal.SIGKILL) -> None:
    """End a node with all that it started, as when its machine is gone."""
    family = []
    if node.poll() is None:
        family = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
    for process in family:
        try:
            process.send_signal(how)
        except psutil.Error:
            continue
    psutil.wait_procs(family, timeout=10)
    node.wait(10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    scratch = Path(tempfile.mkdtemp(prefix="treadle-cluster-", dir="/tmp"))
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("TREADLE_", "RAY_"))}
    port, dashboard = free_port(), free_port()
    environment = plain | AUTH | {"PATH": f"{BIN}:{plain['PATH']}"}
    made = RayCluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", scratch, environment)
    try:
        made.start(
            "--head", "--num-cpus=1", f"--port={port}", "--node-ip-address=127.0.0.1",
            f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
            f"--temp-dir={scratch / 'ray'}", "--include-dashboard=true",
            f"--ray-client-server-port={free_port()}",
        )  # fmt: skip
        wait_for(lambda: _answers(made), 90, "the head answers")
        made.start_worker()
        wait_for(lambda: made.cores() == 3, 60, "head and worker are there")
        yield made
    finally:
        for node in reversed(made.nodes):
            end(node)
        shutil.rmtree(scratch, ignore_errors=True)


def _answers(made: RayCluster) -> bool:
    assert made.nodes[0].poll() is None, (made.scratch / "node-0.log").read_text()
    try:
        return bool(RayJobs(made.address, {}).versions())
    except EnvironmentFault:
        return False


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A prepared directory whose forests take a moment to grow."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    random = np.random.default_rng(0)
    for name, count in (("fit", 30_000), ("tuning", 5_000)):
        x = random.normal(size=(count, 8)).astype(np.float32)
        np.save(directory / f"{name}_x.npy", x)
        np.save(directory / f"{name}_y.npy", np.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2])
    Signature(task=Task.REGRESSION, target="y", features=[]).write(directory / prepared.SIGNATURE)
    Recipe(
        task=Task.REGRESSION,
        seed=0,
        features={f"x{i}": How.NUMBER for i in range(8)},
        treatments={},
    ).write(directory / prepared.RECIPE)
    Split(
        by="random", column=None, seed=0, train_rows=35_000, test_rows=0, tuning_rows=5_000,
        held_out="", shared_rows=0,
    ).write(directory / prepared.SPLIT)  # fmt: skip
    return directory


def submit(
    cluster: RayCluster, rows: Path, objects: Path, options: TrainingOptions = FOREST
) -> tuple[list[Trial], list[str]]:
    problem, _ = train.pose("deep", rows, options)
    # "local": whether Ray pays is not the question here.
    environment = {"TREADLE_OBJECT_STORE": str(objects), "TREADLE_RAY_ADDRESS": "local"}
    jobs = RayJobs(cluster.address, environment)
    return remote.submit(problem, "deep", options, jobs, DirectoryStore(objects))


def found(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.model_dump(exclude={"seconds"}) for trial in trials]


def here(rows: Path, store: DirectoryStore) -> list[Trial]:
    problem, _ = train.pose("deep", rows, FOREST)
    crew = Crew(lambda _: pytest.fail("Ray was started"), start_s=1e9, cores=1)
    return train.search(problem, TpeProposer, crew, store, 2)[0]


def test_a_worker_and_the_submitter_killed_in_mid_run_take_nothing_with_them(
    cluster: RayCluster, rows: Path, tmp_path: Path
) -> None:
    objects = tmp_path / "objects"
    code = (
        "import sys; from pathlib import Path; from integration.test_cluster import *\n"
        "c = RayCluster(sys.argv[1], '', Path('.'), {})\n"
        "submit(c, Path(sys.argv[2]), Path(sys.argv[3]))\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, cluster.address, str(rows), str(objects)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: len(list(objects.rglob("reports/*.json"))) >= 2, 150, "two reports")
    finally:
        first.kill()  # no chance to say goodbye
        first.wait()
    worker = cluster.nodes[-1]
    end(worker)
    known = {path: path.stat().st_mtime_ns for path in objects.rglob("reports/*.json")}
    cluster.start_worker()
    trials, notes = submit(cluster, rows, objects)
    assert worker.poll() is not None
    assert not [trial.fault for trial in trials if trial.fault]
    assert len(trials) == 12
    assert any("Ray Tune did the work" in note for note in notes)
    for path, written in known.items():
        assert path.stat().st_mtime_ns == written, "grown once only"
    # And what a laptop finds is the same, to the last bit.
    assert found(trials) == found(here(rows, DirectoryStore(tmp_path / "laptop")))


def parted() -> tuple[Shared, list[Segment]]:
    """Twenty segments whose slopes differ; one has too few rows, and one can't be fitted."""
    random = np.random.default_rng(0)
    x = random.normal(size=(20 * 150, 3)).astype(np.float32)
    y = x[:, 0] * np.repeat(np.arange(20) - 7, 150) + 0.1 * random.normal(size=len(x))
    y[3 * 150 : 4 * 150] = np.nan
    choices = [Choice("linear", {"regularisation": 1.0}, 9)]
    shared = Shared(
        Objective(Task.REGRESSION, 0, "rmse", 0), choices, 100, 60.0, fit_x=x, fit_y=y, fit_w=None,
        tuning_x=x, tuning_y=y, pooled=np.zeros(len(y)), whole_x=x, whole_y=y, whole_w=None,
    )  # fmt: skip
    places = [slice(150 * i, 150 * i + (150 if i else 50)) for i in range(20)]
    return shared, [Segment((f"{i:02}",), p, p, p) for i, p in enumerate(places)]


def test_segments_are_the_same_from_the_cluster_and_from_here(
    cluster: RayCluster, tmp_path: Path
) -> None:
    shared, places = parted()
    there, laptop = DirectoryStore(tmp_path / "there"), DirectoryStore(tmp_path / "laptop")
    environment = {"TREADLE_OBJECT_STORE": str(tmp_path / "there"), "TREADLE_RAY_ADDRESS": "local"}
    ledger = SegmentLedger(there, "parted", "of-this")
    jobs = RayJobs(cluster.address, environment)
    found = remote_segments.submit(shared, places, ledger, 600, jobs, there)
    means = segments.Means(None, lambda *_: pytest.fail("Ray was started"), cores=1)
    expected = segments.fit_all(
        shared, places, means, SegmentLedger(laptop, "parted", "of-this"), 600
    )
    assert found == expected
    assert [one.model.key for one in found] == [list(place.key) for place in places]
    assert "fewer than segment_rows" in str(found[0].model.why)
    assert found[3].failed
    assert "NaN" in str(found[3].model.why)
    assert sum(one.graph is not None for one in found) >= 17


def test_an_interruption_cancels_the_job(
    cluster: RayCluster, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = tmp_path / "objects"
    problem, _ = train.pose("deep", rows, FOREST)
    asked = RayJobs._follow

    def interrupted(self: RayJobs, client: Any, job: str) -> Any:
        wait_for(lambda: str(client.get_job_status(job)) == "RUNNING", 60, "it runs")
        raise KeyboardInterrupt

    monkeypatch.setattr(RayJobs, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit(cluster, rows, objects)
    monkeypatch.setattr(RayJobs, "_follow", asked)
    from ray.job_submission import JobSubmissionClient

    status = JobSubmissionClient(cluster.address).get_job_status(f"treadle-{problem.name}")
    assert str(status) == "STOPPED"


def test_a_cluster_that_can_not_read_the_object_store_says_so(
    cluster: RayCluster, rows: Path, tmp_path: Path
) -> None:
    problem, _ = train.pose("blind", rows, FOREST)
    jobs = RayJobs(cluster.address, {"TREADLE_OBJECT_STORE": str(tmp_path / "elsewhere")})
    with pytest.raises(ModelError, match="use an object store that both sides reach"):
        remote.submit(problem, "blind", FOREST, jobs, DirectoryStore(tmp_path / "objects"))


def test_an_address_that_does_not_answer_is_named(rows: Path, tmp_path: Path) -> None:
    nobody = RayCluster(f"http://127.0.0.1:{free_port()}", "", tmp_path, {})
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"no Ray cluster answers at .*TREADLE_RAY_ADDRESS"):
        submit(nobody, rows, tmp_path / "objects")
    assert time.monotonic() - began < 15


def test_another_python_is_refused_in_words() -> None:
    ours = remote.own_versions()
    with pytest.raises(EnvironmentFault, match=r"the cluster has Python 3\.9, and the search was"):
        remote.check_versions(ours, ours | {"Python": "3.9"})
    remote.check_versions(ours, ours)
