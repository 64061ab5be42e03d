"""Follow a Job's log to its end, whatever happens to the connection or to its pods meanwhile."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from urllib3.exceptions import HTTPError

from treadle.adapters.kubernetes import Cluster, Workload
from treadle.adapters.kubernetes_api import Refused
from treadle.errors import EnvironmentFault
from treadle_pipelines import job_log
from treadle_pipelines.job import CONTAINER

Object = dict[str, Any]
POLL_S = 1.0
# How long a pod may take to begin (an image of a gigabyte, a volume, a new node) without a fault.
BEGIN_S = 900.0


@dataclass
class Outcome:
    """How a Job ended: with a summary, or with words and an exit code."""

    summary: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 1


@dataclass
class _PodLog:
    """Where the reading of a pod's log is: the time of the last line seen, and what was not an
    event."""

    pod: str
    last: str = ""
    other: list[str] = field(default_factory=list)
    ended: dict[str, Any] | None = None


def follow(cluster: Cluster, name: str, show: Callable[[dict[str, Any]], None],
           say: Callable[[str], None]) -> Outcome:  # fmt: skip
    """Show a Job's events as they come, until the Job has ended; return its outcome.

    Raises EnvironmentFault where its pod can't begin, with the reason; the Job is left as it is.
    """
    followed = _Followed(cluster, name, show, say)
    while True:
        found = cluster.get("Job", name)
        if found is None:
            return Outcome(error=f"Job {name} is gone: somebody has deleted it")
        pod = followed.next_pod()
        if pod is not None:
            followed.read(pod)
        elif _is_over(found):
            return followed.outcome(found)
        time.sleep(POLL_S)


def _is_over(found: Object) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


class _Followed:
    """A Job that is followed: which pods were read to their end, and how the last one ended."""

    def __init__(self, cluster: Cluster, name: str, show: Callable[[dict[str, Any]], None],
                 say: Callable[[str], None]) -> None:  # fmt: skip
        self._cluster = cluster
        self._job = Workload("Job", name, cluster.namespace)
        self._show = show
        self._say = say
        self._read: dict[str, _PodLog] = {}
        self._since: dict[str, float] = {}
        self._told = ""
        self._exit_code: int | None = None
        self._words = ""

    def next_pod(self) -> Object | None:
        """Return the oldest pod whose log is yet to be read and has begun; tell what one that
        hasn't begun is at. Raises EnvironmentFault where it can't begin."""
        pods = self._cluster.objects("Pod", f"job-name={self._job.name}")
        unread = [pod for pod in pods if pod["metadata"]["name"] not in self._read]
        if not unread:
            return None
        if unread[0].get("status", {}).get("phase") in ("Running", "Succeeded", "Failed"):
            self._since.clear()
            return unread[0]
        self._wait_to_begin()
        return None

    def _wait_to_begin(self) -> None:
        look = self._cluster.look(self._job)
        now = time.monotonic()
        if look.words and look.words != self._told:
            self._told = look.words
            self._say(look.words)
        patience = {fault.name: (fault.patience_s, fault.words) for fault in look.faults}
        patience["slow"] = (BEGIN_S, look.words)
        self._since = {name: self._since.get(name, now) for name in patience}
        for name, (patience_s, words) in patience.items():
            if now - self._since[name] >= patience_s:
                raise EnvironmentFault(
                    f"{words}. Job {self._job.name} is left as it is, and begins when that is "
                    f"mended; kubectl -n {self._job.namespace} delete job {self._job.name} ends it"
                )

    def read(self, pod: Object) -> None:
        """Show a pod's events until it has ended."""
        name = pod["metadata"]["name"]
        log = _PodLog(name)
        while True:
            for line in self._lines(log):
                event = job_log.parse(line)
                if event is None:
                    log.other = [*log.other, line][-5:]
                elif event["kind"] == "ended":
                    log.ended = event
                else:
                    self._show(event)
            now = self._cluster.get("Pod", name)
            if now is None or now["status"].get("phase") in ("Succeeded", "Failed"):
                break
            time.sleep(POLL_S)
        self._read[name] = log
        self._take_in(log, now)

    def _lines(self, log: _PodLog) -> Iterator[str]:
        """Yield the lines that weren't seen yet; a lost connection ends them like the end does."""
        rest = b""
        try:
            # The API server takes times to the second: what was seen of that second is left out.
            with self._cluster.log(log.pod, CONTAINER, f"{log.last[:19]}Z" * bool(log.last)) as new:
                for chunk in new:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        at, _, text = line.decode(errors="replace").partition(" ")
                        if at > log.last:
                            log.last = at
                            yield text
        except HTTPError:
            return  # a half line is read again
        except Refused as error:
            if error.status not in (400, 404):  # it never began, or is gone
                raise

    def _take_in(self, log: _PodLog, pod: Object | None) -> None:
        ended = _terminated(pod) if pod else {}
        self._exit_code = ended.get("exitCode")
        if log.ended:
            self._words = str(log.ended.get("error", ""))
        elif pod is None:
            self._words = f"pod {log.pod} is gone: its node is, or somebody has deleted it"
        elif ended.get("reason") == "OOMKilled":
            limits = pod["spec"]["containers"][0].get("resources", {}).get("limits", {})
            self._words = (
                f"the run used more memory than its limit of {limits.get('memory')}: raise "
                "resources.memory in the spec, or give it a smaller table"
            )
        else:
            reason = pod["status"].get("message") or f"exit code {self._exit_code}"
            last = f"; its last words: {' | '.join(log.other)}" if log.other else ""
            self._words = f"pod {log.pod} ended ({reason}){last}"
        found = self._cluster.get(self._job.kind, self._job.name)
        if self._exit_code not in (0, 1, 2, 3) and found and not _is_over(found):
            self._say(f"{self._words}; the Job tries again, and goes on from what was finished")

    def outcome(self, found: Object) -> Outcome:
        """Return how the Job ended, as its last pod told."""
        summaries = [log.ended["summary"] for log in self._read.values()
                     if log.ended and "summary" in log.ended]  # fmt: skip
        if summaries:
            return Outcome(summaries[-1], exit_code=0 if summaries[-1]["promoted"] else 3)
        conditions = found.get("status", {}).get("conditions") or []
        failed = next((c.get("message", "") for c in conditions if c["type"] == "Failed"), "")
        words = self._words or f"Job {self._job.name} ended without a word: {failed}"
        code = self._exit_code if self._exit_code in (2, 3) else 1
        return Outcome(error=words, exit_code=code)


def _terminated(pod: Object) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return dict(statuses[0].get("state", {}).get("terminated") or {})
