"""A search as a job of a Ray cluster, where the cluster doesn't do as it should."""

import json
import time
from typing import Any, ClassVar

import pytest
import ray

from json_server import JsonHandler, serving_json
from treadle.adapters import ray_jobs
from treadle.adapters.ray_jobs import RayJobs
from treadle.errors import EnvironmentFault
from treadle.search import ClusterWork


class Head(JsonHandler):
    """A head's dashboard that knows no job and takes none: its agent never came up."""

    version = ray.__version__

    def do_GET(self) -> None:
        if self.path.startswith("/api/version"):
            self.reply(200, {"ray_version": self.version})
        else:
            self.job()

    def job(self) -> None:
        self.reply(404, "Job does not exist")

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.submitted()

    def submitted(self) -> None:
        self.reply(500, "No available agent to submit job, please try again later.")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_jobs, "POLL_S", 0.01)
    monkeypatch.setattr(ray_jobs, "START_S", 0.2)


def test_a_cluster_with_another_ray_is_refused_before_anything_is_sent() -> None:
    class Older(Head):
        version = "2.9.3"

    with (
        serving_json(Older) as address,
        pytest.raises(EnvironmentFault, match=r"has Ray 2\.9\.3, and this is Ray"),
    ):
        RayJobs(address, {}).versions()


def test_a_head_that_takes_no_job_is_asked_for_a_while_and_then_named() -> None:
    with (
        serving_json(Head) as address,
        pytest.raises(EnvironmentFault, match=r"takes no job \(.*No available agent.*agent\.log"),
    ):
        RayJobs(address, {}).run("refused", ClusterWork.SEARCH)


class Forgetful(Head):
    """A head that is lost with each of its jobs, ``lives`` times; then the job succeeds."""

    lives = 1
    submissions: ClassVar[list[str]] = []
    answers: ClassVar[list[str]] = []

    def submitted(self) -> None:
        self.submissions.append(self.path)
        self.answers[:] = ["RUNNING"] if len(self.submissions) <= self.lives else ["SUCCEEDED"]
        self.reply(200, {"job_id": "1", "submission_id": "1"})

    def job(self) -> None:
        if not self.answers:
            self.reply(404, "Job does not exist")
        elif self.path.endswith("/logs"):
            status = self.answers[0]
            if status == "RUNNING":
                self.answers.clear()  # the head is gone, and another comes
            self.reply(200, {"logs": "trial 1\n"})
        else:
            self.reply(
                200,
                {"type": "SUBMISSION", "entrypoint": "", "submission_id": "1"}
                | {"status": self.answers[0]},
            )


@pytest.fixture
def forgetful() -> type[Forgetful]:
    Forgetful.submissions.clear()
    Forgetful.answers.clear()
    return Forgetful


def test_a_job_that_is_lost_with_its_head_is_begun_again(forgetful: type[Forgetful]) -> None:
    with serving_json(forgetful) as address:
        RayJobs(address, {}).run("lost", ClusterWork.SEARCH)
    assert len(forgetful.submissions) == 2


def test_a_head_that_is_lost_every_time_is_said(
    forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetful, "lives", 99)
    with (
        serving_json(forgetful) as address,
        pytest.raises(EnvironmentFault, match=r"has lost job treadle-lost 3 times"),
    ):
        RayJobs(address, {}).run("lost", ClusterWork.SEARCH)
    assert len(forgetful.submissions) == 3


class Unsteady(Head):
    """A head that takes a job, is out of reach for some questions, and then says how it ended."""

    silent = False
    away = 4
    asked = 0
    taken: ClassVar[list[dict[str, Any]]] = []

    def submitted(self) -> None:
        self.taken.append(self.body)
        self.reply(200, {"job_id": "1", "submission_id": "1"})

    def job(self) -> None:
        kind = type(self)
        if not self.taken:
            self.reply(404, "Job does not exist")
            return
        kind.asked += 1
        if 2 < self.asked <= 2 + self.away:
            if self.silent:
                time.sleep(0.3)
            self.break_off()
        elif self.path.endswith("/logs"):
            self.reply(200, {"logs": "trial 1\n"})
        else:
            status = "RUNNING" if self.asked <= 2 else "SUCCEEDED"
            self.reply(
                200,
                {"type": "SUBMISSION", "entrypoint": "", "submission_id": "1", "status": status},
            )


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> type[Unsteady]:
    Unsteady.taken.clear()
    for name in ("silent", "away", "asked"):
        monkeypatch.setattr(Unsteady, name, getattr(Unsteady, name))
    return Unsteady


@pytest.mark.parametrize("silent", [False, True])
def test_an_outage_while_a_job_is_followed_is_waited_for_and_nothing_begun_again(
    unsteady: type[Unsteady],
    silent: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unsteady.silent, unsteady.away = silent, 2 if silent else 4
    with serving_json(unsteady) as address:
        jobs = RayJobs(address, {})
        monkeypatch.setattr(ray_jobs, "ANSWER_S", 0.1 if silent else 10)
        jobs.run("steady", ClusterWork.SEARCH)
    assert len(unsteady.taken) == 1
    assert unsteady.asked > 4, "it came back and asked on"
    assert capsys.readouterr().err.count("doesn't answer; the search goes on there") == 1


def test_an_outage_that_lasts_ends_in_words_that_say_the_search_goes_on(
    unsteady: type[Unsteady], monkeypatch: pytest.MonkeyPatch
) -> None:
    unsteady.away = 10**9
    monkeypatch.setattr(ray_jobs, "PATIENCE_S", 0.2)
    with (
        serving_json(unsteady) as address,
        pytest.raises(EnvironmentFault, match=r"can't be reached any more.*Job treadle-steady may"),
    ):
        RayJobs(address, {}).run("steady", ClusterWork.SEARCH)
    assert len(unsteady.taken) == 1


def test_a_job_asks_no_core_for_itself_and_names_its_work(unsteady: type[Unsteady]) -> None:
    # With cores asked for, Ray would put what leads onto a worker that may go away.
    unsteady.away = 0
    with serving_json(unsteady) as address:
        RayJobs(address, {"A": "b"}).run("steady", ClusterWork.SEGMENTS)
    (taken,) = unsteady.taken
    assert not taken.get("entrypoint_num_cpus")
    assert not taken.get("entrypoint_resources")
    assert taken["submission_id"] == "treadle-steady-segments"
    assert taken["entrypoint"].endswith("cluster_job segments steady")
    assert taken["runtime_env"]["env_vars"]["A"] == "b"
