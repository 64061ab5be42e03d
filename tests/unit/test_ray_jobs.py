"""A search as a job of a Ray cluster, where the cluster doesn't do as it should."""

from typing import ClassVar

import pytest
import ray

from json_server import JsonHandler, serving_json
from treadle.adapters import ray_jobs
from treadle.adapters.ray_jobs import RayJobs
from treadle.errors import EnvironmentFault


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
        self.rfile.read(int(self.headers["Content-Length"]))
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
        RayJobs(address, {}).run("refused")


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
        RayJobs(address, {}).run("lost")
    assert len(forgetful.submissions) == 2


def test_a_head_that_is_lost_every_time_is_said(
    forgetful: type[Forgetful], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetful, "lives", 99)
    with (
        serving_json(forgetful) as address,
        pytest.raises(EnvironmentFault, match=r"has lost job treadle-lost 3 times"),
    ):
        RayJobs(address, {}).run("lost")
    assert len(forgetful.submissions) == 3
