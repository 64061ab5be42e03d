"""A Kubernetes cluster: makes and reads objects, follows logs, waits for workloads within a bound,
and says what is wrong with them."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from treadle.adapters.kubernetes_api import APPLY, Api, Refused, Request, connect
from treadle.adapters.workloads import (
    Fault,
    State,
    pod_doing,
    pod_faults,
    refusal,
    selector_of,
    state_of,
)
from treadle.errors import EnvironmentFault
from treadle.progress import say

Object = dict[str, Any]
# How long an API server may stay away before we give up: a restart takes less.
OUTAGE_S = 60.0
POLL_S = 1.0
MISSING_S = 30.0
# What was in trouble must be ready for so long: between two crashes a pod is ready for a moment.
STEADY_S = 15.0
LOG_LINES = 5
_API = {
    "Deployment": "apis/apps/v1",
    "StatefulSet": "apis/apps/v1",
    "Job": "apis/batch/v1",
    "CronJob": "apis/batch/v1",
    "RayCluster": "apis/ray.io/v1",
}


@dataclass(frozen=True)
class Workload:
    """Something to wait for: a Deployment, StatefulSet, Job or RayCluster."""

    kind: str
    name: str
    namespace: str = "treadle"

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Look:
    """What one look at a workload saw: ``doing`` is what its unfinished pods are at."""

    state: State
    faults: Sequence[Fault] = ()
    doing: Sequence[str] = ()

    @property
    def words(self) -> str:
        """Say it all in one line; what is wrong comes first."""
        return "; ".join(dict.fromkeys([*(f.words for f in self.faults), *self.doing]))


class Cluster:
    """A cluster as one account sees it. ``namespace`` is where objects are that name none.

    Every method raises Unreachable where the API server stays away, and Refused where it says no.
    """

    def __init__(self, api: Api, namespace: str, say: Callable[[str], None] = say) -> None:
        self.address = api.address
        self.namespace = namespace
        self._api = api
        self._say = say

    @classmethod
    def connect(
        cls,
        context: str | None = None,
        namespace: str = "treadle",
        say: Callable[[str], None] = say,
        outage_s: float = OUTAGE_S,
    ) -> "Cluster":
        """Use the kubeconfig's context (None: its current one), or the pod's own account where
        there is no kubeconfig. ``say`` is told of progress and outages. Opens no connection.

        Raises SpecError for an unknown context, EnvironmentFault where there is no cluster.
        """
        return cls(connect(context, say, outage_s), namespace, say)

    def version(self) -> str:
        """Return the API server's version, as in ``v1.34.4``."""
        return str(self._api.json(Request("GET", "/version"))["gitVersion"])

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object, or None where there is none."""
        try:
            return self._api.json(Request("GET", self._path(kind, name, namespace)))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def objects(
        self, kind: str, labels: str = "", namespace: str | None = None, fields: str = ""
    ) -> list[Object]:
        """Return the objects of a kind, oldest first; none where the cluster doesn't know the kind.
        ``labels`` and ``fields`` are selectors (``a=b,c=d``)."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in query.items() if value}
        try:
            found = self._api.json(Request("GET", self._path(kind, "", namespace), query))
        except Refused as error:
            if error.status == 404:
                return []
            raise
        objects = [{"kind": kind, **each} for each in found["items"]]
        return sorted(objects, key=lambda each: each["metadata"].get("creationTimestamp") or "")

    def apply(self, body: Object, dry_run: bool = False) -> Object:
        """Make an object, or change the one of that name to this (server-side apply)."""
        metadata = body["metadata"]
        path = self._path(body["kind"], metadata["name"], metadata.get("namespace"))
        query = {"fieldManager": "treadle", "force": "true"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        return self._api.json(Request("PATCH", path, query, body, APPLY))

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Remove an object and what belongs to it; no error where there is none."""
        path = self._path(kind, name, namespace)
        try:
            self._api.send(Request("DELETE", path, body={"propagationPolicy": "Background"}))
        except Refused as error:
            if error.status != 404:
                raise

    def workloads(self, namespace: str | None = None, labels: str = "") -> list[Workload]:
        """Return every Deployment, StatefulSet and RayCluster of a namespace."""
        place = namespace or self.namespace
        kinds = ("StatefulSet", "Deployment", "RayCluster")
        found = [each for kind in kinds for each in self.objects(kind, labels, place)]
        return [Workload(each["kind"], each["metadata"]["name"], place) for each in found]

    def tail(self, pod: str, namespace: str | None, container: str, previous: bool) -> list[str]:
        """Return the last lines of a container's log, or of the instance's before it; none where
        there is no log."""
        query = {"container": container, "tailLines": str(LOG_LINES)}
        query |= {"previous": "true"} if previous else {}
        try:
            answer = self._api.send(
                Request("GET", f"{self._path('Pod', pod, namespace)}/log", query)
            )
        except Refused:
            return []  # it was never started, or its log is gone
        lines = answer.data.decode(errors="replace").splitlines()
        return [" ".join(line.split())[:200] for line in lines if line.strip()]

    @contextmanager
    def log(self, pod: str, container: str, since: str = "") -> Iterator[Iterator[bytes]]:
        """Yield what a container writes, in chunks as it comes, each line after its time (RFC
        3339). ``since`` is such a time, to the second. It ends with the container; a connection
        that is lost meanwhile raises urllib3's HTTPError."""
        query = {"container": container, "follow": "true", "timestamps": "true"}
        query |= {"sinceTime": since} if since else {}
        path = f"{self._path('Pod', pod, None)}/log"
        answer = self._api.send(Request("GET", path, query, stream=True))
        try:
            yield answer.stream(4096)
        finally:
            answer.close()

    def look(self, workload: Workload) -> Look:
        """Return how far a workload is, what is wrong with it and what its pods are at."""
        place = workload.namespace
        found = self.get(workload.kind, workload.name, place)
        if found is None:
            words = f"there is no {workload} in namespace {place}"
            return Look(State(False, words), [Fault("missing", words, MISSING_S)])
        found = {"kind": workload.kind, **found}
        state = state_of(found)
        if state.ready:
            return Look(state)
        faults, doing = [state.fault] if state.fault else [], []
        pods = self.objects("Pod", selector_of(found), place)
        for pod in pods:
            events = self._events(pod)
            tail = partial(self.tail, pod["metadata"]["name"], place)
            found_wrong = pod_faults(pod, events, tail)
            faults += found_wrong
            doing += [] if found_wrong else [pod_doing(pod, events)]
        refused = [e for e in self._events(found) if e.get("reason") == "FailedCreate"]
        if refused and not pods and not faults:
            faults.append(Fault("refused", refusal(refused[-1]["message"]), 20))
        return Look(state, faults, [words for words in doing if words])

    def wait(self, workloads: Sequence[Workload], timeout_s: float, poll_s: float = POLL_S) -> None:
        """Wait until every workload is ready (a Job: done), and tell how they get on.

        Raises EnvironmentFault with what is wrong with each that isn't: after ``timeout_s``, or
        earlier where a fault has stood for so long that waiting has no use.
        """
        watches = [_Watch(each, self, self._say) for each in workloads]
        deadline = time.monotonic() + timeout_s
        while watches := [watch for watch in watches if not watch.is_ready()]:
            if hopeless := [words for watch in watches for words in watch.hopeless()]:
                raise EnvironmentFault("; ".join(hopeless))
            if time.monotonic() > deadline:
                why = "; ".join(watch.words for watch in watches)
                raise EnvironmentFault(f"not ready after {timeout_s:.0f} s: {why}")
            time.sleep(poll_s)

    def _events(self, about: Object) -> list[Object]:
        metadata = about["metadata"]
        wanted = f"involvedObject.name={metadata['name']},involvedObject.kind={about['kind']}"
        found = self.objects("Event", "", metadata["namespace"], wanted)
        return sorted(found, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")

    def _path(self, kind: str, name: str, namespace: str | None) -> str:
        place = quote(namespace or self.namespace)
        path = f"/{_API.get(kind, 'api/v1')}/namespaces/{place}/{kind.lower()}s"
        return f"{path}/{quote(name)}" if name else path


class _Watch:
    """Looks at one workload, remembers since when each fault stands, and tells only what is new."""

    def __init__(self, workload: Workload, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._workload = workload
        self._cluster = cluster
        self._say = say
        self._since: dict[str, float] = {}
        self._trouble_at, self._trouble = -math.inf, ""
        # A Job that is done stays done.
        self._steady_s = 0.0 if workload.kind == "Job" else STEADY_S
        self._seen = Look(State(False, ""))
        self._told = ""

    def is_ready(self) -> bool:
        """Look, tell what is new, and say whether it is ready."""
        self._seen = self._cluster.look(self._workload)
        now = time.monotonic()
        names = {fault.name for fault in self._seen.faults}
        self._since = {name: self._since.get(name, now) for name in names}
        if names - {"missing", "unseen"}:
            self._trouble_at, self._trouble = now, self._seen.words
        told = "; ".join([self._seen.state.words, *(f.words for f in self._seen.faults)])
        if told != self._told:
            self._told = told
            self._say(f"{self._workload}: {told}")
        return self._seen.state.ready and now - self._trouble_at >= self._steady_s

    def hopeless(self) -> list[str]:
        """Return what is wrong, once one of the faults has stood for longer than its patience;
        several pods may have the same fault, of which one is told."""
        now = time.monotonic()
        if all(now - self._since[f.name] < f.patience_s for f in self._seen.faults):
            return []
        faults = {fault.name: fault.words for fault in self._seen.faults}
        return [f"{self._workload}: {'; '.join(faults.values())}"]

    @property
    def words(self) -> str:
        """Say why it isn't ready."""
        if self._seen.state.ready:
            return f"{self._workload}: ready just now, but a moment ago: {self._trouble}"
        return f"{self._workload}: {self._seen.words or self._seen.state.words}"
