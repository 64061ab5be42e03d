"""A long-lived Ray cluster, through Ray's job API: a search is submitted, followed and, where the
person goes away, cancelled. Ray Client is not used: KubeRay's maintainers advise against it, and
its connection takes the search down with it."""

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle.errors import EnvironmentFault, ModelError
from treadle.progress import EVENTS_VARIABLE, emit, say
from treadle.search import ClusterWork, SearchCluster

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

POLL_S = 1.0
# How long the cluster may be out of reach before the search is given up here; there it goes on.
PATIENCE_S = 300.0
# How long a cluster that refuses the job is asked again; one refusal takes Ray itself some seconds.
START_S = 30.0
STOP_S = 20.0
CONNECT_S = 10.0
ANSWER_S = 30.0
# How often the head may be lost, and with it the job.
HEADS_LOST = 2
# What the client says of a job that the cluster doesn't know; a head that starts anew knows none.
_UNKNOWN = "status code 404"
_UNDER_WAY = (JobStatus.PENDING, JobStatus.RUNNING)
# What may pass: no connection, no answer, a head that is starting, a token that is being changed.
_OUT_OF_REACH = (RuntimeError, OSError, AuthenticationError)


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which by itself would wait for a silent address for ever."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, **({"timeout": (CONNECT_S, ANSWER_S)} | options))


class RayJobs:
    """The job API at ``address``; jobs get ``environment`` on top of their nodes' own."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self._address = address.rstrip("/")
        # A job's log is all that we see of it: its events go there too.
        self._environment = dict(environment) | {EVENTS_VARIABLE: "/dev/stdout"}

    def versions(self) -> dict[str, str]:
        """Return Ray's version. Raises EnvironmentFault where the cluster's is another, or where
        nothing answers."""
        try:
            # Ray's public interface doesn't say which Ray answers.
            found = str(_Client(self._address)._server_ray_version)
        except AuthenticationError as error:
            raise EnvironmentFault(
                f"the cluster at {self._address} wants a token: give it in RAY_AUTH_TOKEN, as to "
                "Ray's own tools"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise EnvironmentFault(
                f"no Ray cluster answers at {self._address} (TREADLE_RAY_ADDRESS): {error}; it "
                "must be the address of the dashboard, as in http://head:8265"
            ) from error
        if found != ray.__version__:
            raise EnvironmentFault(
                f"the cluster at {self._address} has Ray {found}, and this is Ray "
                f"{ray.__version__}: run both from the same image (TREADLE_STEP_IMAGE)"
            )
        return {"Ray": found}

    def run(self, name: str, work: ClusterWork) -> None:
        """Do the work and follow its log to the end; a job that is under way there already, from a
        run that lost sight of it, is followed and not begun again."""
        client = _Client(self._address)
        job = f"treadle-{name}"
        if work is not ClusterWork.SEARCH:
            job += f"-{work}"
        try:
            for lost in range(1 + HEADS_LOST):
                if lost:
                    say(f"train: the cluster has lost job {job}, with its head: beginning it again")
                self._begin(client, job, f"{work} {name}")
                status, log = self._follow(client, job)
                if status is not None:
                    break
        except KeyboardInterrupt:
            _stop(client, job)
            raise
        if status is None:
            raise EnvironmentFault(
                f"the cluster at {self._address} has lost job {job} {1 + HEADS_LOST} times: see "
                "why its head ends; what was tried is kept, and run again it goes on from there"
            )
        if status is not JobStatus.SUCCEEDED:
            last = next((line for line in reversed(log) if line.strip()), "it left no word")
            raise ModelError(f"the {work} failed on the cluster (job {job}, {status}): {last}")

    def _begin(self, client: Any, job: str, arguments: str) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                status = _status(client, job)
                if status in _UNDER_WAY:
                    say(f"train: following job {job}, which is under way on {self._address}")
                    return
                if status is not None:
                    client.delete_job(job)
                # No core is asked for the job itself: it runs beside the head, and leads.
                client.submit_job(
                    entrypoint=f"python -m treadle.training.cluster_job {arguments}",
                    submission_id=job,
                    runtime_env={"env_vars": self._environment},
                )
                break
            except _OUT_OF_REACH as error:
                # A head that has just started answers before its agent takes jobs.
                if time.monotonic() > deadline:
                    raise EnvironmentFault(
                        f"the cluster at {self._address} takes no job ({error}): look at the "
                        "head's dashboard_agent.log (its port may be taken by another Ray)"
                    ) from error
                time.sleep(POLL_S)
        say(f"train: job {job} on {self._address}")

    def _follow(self, client: Any, job: str) -> tuple[Any, list[str]]:
        """Pass on a job's log until it ends; return how, None where the cluster knows no such job
        any more, and the lines that were for people."""
        seen, words = 0, list[str]()
        lost: float | None = None
        while True:
            try:
                status = client.get_job_status(job)
                log = client.get_job_logs(job)
                lost = None
            except _OUT_OF_REACH as error:
                if _UNKNOWN in str(error):
                    return None, words
                if lost is None:
                    say(f"train: {self._address} doesn't answer; the search goes on there")
                    lost = time.monotonic()
                if time.monotonic() - lost > PATIENCE_S:
                    raise EnvironmentFault(
                        f"the cluster at {self._address} can't be reached any more ({error}). Job "
                        f"{job} may still be running there: run this again, and it is followed"
                    ) from error
                time.sleep(POLL_S)
                continue
            whole = log[: log.rfind("\n") + 1] if status in _UNDER_WAY else log
            words += [line for line in whole[seen:].splitlines() if not _passed_on(line)]
            seen = len(whole)
            if status not in _UNDER_WAY:
                return status, words
            time.sleep(POLL_S)


def _passed_on(line: str) -> bool:
    """Pass an event of the job's on; say whether the line is one."""
    if not line.startswith('{"at":'):
        return False
    try:
        event = json.loads(line)
    except ValueError:
        return False
    event.pop("at")
    emit(event.pop("kind"), **event)
    return True


def _status(client: Any, job: str) -> Any:
    """Return a job's status, or None where there is no such job."""
    try:
        return client.get_job_status(job)
    except RuntimeError:
        return None


def _stop(client: Any, job: str) -> None:
    """Cancel a job, and see that it ends."""
    deadline = time.monotonic() + STOP_S
    try:
        client.stop_job(job)
        while client.get_job_status(job) in _UNDER_WAY and time.monotonic() < deadline:
            time.sleep(0.3)
    except _OUT_OF_REACH as error:
        say(f"train: job {job} could not be cancelled: {error}")


if TYPE_CHECKING:
    _: type[SearchCluster] = RayJobs
