"""What is wrong with a workload is said in words, and no wait is without an end. The objects are
as an API server 1.34 prints them, cut to what is read."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_cluster import FakeCluster, start_fake_cluster
from treadle.adapters.kubernetes import Cluster, Workload
from treadle.adapters.kubernetes_api import Refused, Unreachable, refusal_words
from treadle.adapters.workloads import pod_doing, pod_faults, state_of
from treadle.errors import EnvironmentFault, SpecError

Object = dict[str, Any]
IMAGE = "treadle-step:0123456789ab"


def pod(name: str = "mlflow-7d9-x2x", phase: str = "Pending", **status: Any) -> Object:
    container = {
        "name": "main",
        "image": IMAGE,
        "resources": {"requests": {"cpu": "500m", "memory": "64Gi"}, "limits": {"memory": "2Gi"}},
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-postgres-0"}}],
    }
    metadata = {"name": name, "namespace": "treadle", "labels": {"app": "mlflow"}}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase, **status}}


def waiting(reason: str, message: str = "") -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "main", "image": IMAGE, "restartCount": 0, "state": state}


def crashed(reason: str, code: int, restarts: int = 3) -> Object:
    return {
        "name": "main",
        "image": IMAGE,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}},
        "lastState": {"terminated": {"reason": reason, "exitCode": code}},
    }


def unschedulable(message: str) -> list[Object]:
    return [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": message}]  # fmt: skip


def no_log(_container: str, _previous: bool) -> list[str]:
    return []


def words_of(sick: Object, events: list[Object] | None = None) -> str:
    (fault,) = pod_faults(sick, events or [], no_log)
    return fault.words


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("failed to resolve image: docker.io/library/treadle-step:0123: not found",
         "there is no such image"),
        ("dial tcp: lookup registry-1.docker.io: no such host", "can't be reached from the node"),
        ("pull access denied, repository does not exist or may require authorization",
         "there is no such image"),
        ("unexpected status: 401 Unauthorized", "imagePullSecrets"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_an_image_that_cannot_be_pulled_is_named_with_what_to_do(
    reason: str, message: str, said: str
) -> None:
    words = words_of(pod(containerStatuses=[waiting(reason, message)]))
    assert IMAGE in words
    assert said in words
    assert f"kind load docker-image {IMAGE}" in words


def test_a_pod_that_asks_for_too_much_says_what_it_asks_for() -> None:
    message = ("0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, "
               "preemption: 0/1 nodes are available: 1 No preemption victims found.")  # fmt: skip
    words = words_of(pod(conditions=unschedulable(message)))
    assert "1 Insufficient memory" in words
    assert "memory 64Gi" in words
    assert "preemption" not in words


def test_an_unbound_claim_is_named() -> None:
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    words = words_of(pod(conditions=unschedulable(message)))
    assert "data-postgres-0" in words
    assert "StorageClass" in words


def test_a_pod_out_of_memory_names_its_limit() -> None:
    words = words_of(pod(phase="Running", containerStatuses=[crashed("OOMKilled", 137)]))
    assert "limit of 2Gi" in words
    assert "raise the limit" in words


def test_a_crash_loop_shows_the_last_lines_of_the_log_before_it() -> None:
    asked = []

    def tail(container: str, previous: bool) -> list[str]:
        asked.append((container, previous))
        return ["connecting to postgres", "password authentication failed"]

    sick = pod(phase="Running", containerStatuses=[crashed("Error", 1)])
    (fault,) = pod_faults(sick, [], tail)
    assert asked == [("main", True)]
    assert "exit code 1" in fault.words
    assert "3 times" in fault.words
    assert "password authentication failed" in fault.words


@pytest.mark.parametrize(
    ("status", "events", "said"),
    [
        ({"containerStatuses": [waiting("CreateContainerConfigError", 'secret "s3" not found')]},
         [], 'can\'t start: secret "s3" not found'),
        ({"containerStatuses": [waiting("InvalidImageName", "")]}, [], "is no image's name"),
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory. "},
         [], "evicted: The node was low on memory"),
        ({"conditions": unschedulable("0/1 nodes: 1 had untolerated taint {spot: x}.")},
         [], "add a node"),
        ({"containerStatuses": [waiting("ContainerCreating")]},
         [{"reason": "FailedMount", "message": 'configmap "treadle-settings" not found'}],
         "doesn't get its volume"),
    ],
)  # fmt: skip
def test_other_faults_of_a_pod_are_put_into_words(
    status: Object, events: list[Object], said: str
) -> None:
    sick = pod()
    sick["status"] |= status
    assert said in words_of(sick, events)


def test_a_pod_that_is_well_or_on_its_way_has_no_fault() -> None:
    ready = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert pod_faults(ready, [], no_log) == []
    assert pod_doing(ready) == ""
    made = pod(containerStatuses=[waiting("ContainerCreating")],
               conditions=[{"type": "PodScheduled", "status": "True"}])  # fmt: skip
    assert pod_faults(made, [], no_log) == []
    assert pod_doing(made) == "pod mlflow-7d9-x2x is being made"
    pulling = [{"reason": "Pulling", "message": f'Pulling image "{IMAGE}"'}]
    assert pod_doing(made, pulling) == f'pod mlflow-7d9-x2x: pulling image "{IMAGE}"'
    probed = [{"reason": "Unhealthy", "message": "Readiness probe failed: HTTP probe failed: 503"}]
    assert "503" in pod_doing(pod(phase="Running"), probed)


def deployment(wanted: int, **status: Any) -> Object:
    spec = {"replicas": wanted, "selector": {"matchLabels": {"app": "mlflow"}}}
    metadata = {"name": "mlflow", "namespace": "treadle", "generation": 3}
    return {"kind": "Deployment", "metadata": metadata, "spec": spec,
            "status": {"observedGeneration": 3, **status}}  # fmt: skip


def test_a_deployment_is_ready_when_every_replica_is_of_the_new_version() -> None:
    done = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    assert state_of(deployment(2, **done)).ready
    assert not state_of(deployment(2, **done | {"observedGeneration": 2})).ready
    rolling = state_of(deployment(2, **done | {"replicas": 3, "updatedReplicas": 1}))
    assert not rolling.ready
    assert rolling.words == "1 of 2 ready, 2 of the former version still there"
    assert state_of(deployment(2)).words == "0 of 2 ready"


def test_pods_that_the_api_server_refuses_to_make_are_a_fault_of_the_deployment() -> None:
    message = ('pods "mlflow-7d9-x" is forbidden: violates PodSecurity "restricted:latest": '
               "allowPrivilegeEscalation != false")  # fmt: skip
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    fault = state_of(deployment(2, conditions=[failure])).fault
    assert fault
    assert 'violates PodSecurity "restricted:latest"' in fault.words
    assert "securityContext" in fault.words


def test_a_stateful_set_a_job_and_a_ray_cluster_say_how_far_they_are() -> None:
    stateful = deployment(1, replicas=1, updatedReplicas=1, readyReplicas=1,
                          currentRevision="a", updateRevision="a")  # fmt: skip
    stateful["kind"] = "StatefulSet"
    assert state_of(stateful).ready
    stateful["status"]["updateRevision"] = "b"
    assert not state_of(stateful).ready
    job = {
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {},
        "status": {"active": 1, "ready": 1, "failed": 2},
    }
    assert state_of(job).words == "running, 2 tries failed"
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert state_of(job).ready
    job["status"] = {"conditions": [{"type": "Failed", "status": "True",
                                     "message": "it has reached the backoff limit"}]}  # fmt: skip
    fault = state_of(job).fault
    assert fault
    assert fault.patience_s == 0
    ray = {"kind": "RayCluster", "metadata": {"name": "ray"}, "spec": {}}
    assert "operator" in (state_of(ray).fault or pytest.fail("no fault")).words
    conditions = [
        {"type": name, "status": "True"} for name in ("HeadPodReady", "RayClusterProvisioned")
    ]
    ray["status"] = {"desiredWorkerReplicas": 2, "readyWorkerReplicas": 1, "conditions": conditions}
    assert state_of(ray).words == "head ready, 1 of 2 workers ready"
    assert not state_of(ray).ready


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with start_fake_cluster() as running:
        yield running


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def connected(
    fake: FakeCluster, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cluster]:
    use_kubeconfig(fake.kubeconfig(tmp_path / "config"), monkeypatch)
    return lambda **more: Cluster.connect("kind-treadle", say=said.append, **more)


def use_kubeconfig(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


MLFLOW = Workload("Deployment", "mlflow")


def test_waiting_tells_how_a_workload_gets_on_and_ends_when_it_is_ready(
    fake: FakeCluster, connected: Callable[..., Cluster], said: list[str]
) -> None:
    found = fake.add(**deployed(deployment(1)))
    fake.add(**deployed(pod()))
    looked = []

    def get_ready(method: str, path: str) -> None:
        looked.append(path)
        if len(looked) == 5:
            found["status"] |= {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
                                "availableReplicas": 1}  # fmt: skip

    fake.answer = get_ready
    connected().wait([MLFLOW], timeout_s=20, poll_s=0.01)
    assert said == ["Deployment mlflow: 0 of 1 ready", "Deployment mlflow: 1 of 1 ready"]


def deployed(thing: Object) -> Object:
    api = "api/v1" if thing["kind"] == "Pod" else "apis/apps/v1"
    return {"name": thing["metadata"]["name"], "api": api, **thing}


def test_a_fault_that_stands_ends_the_wait_early_with_its_words(
    fake: FakeCluster, connected: Callable[..., Cluster], said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr("treadle.adapters.kubernetes.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("treadle.adapters.kubernetes.time.sleep", lambda _: None)
    fake.add(**deployed(deployment(1)))
    fake.add(**deployed(pod(containerStatuses=[waiting("ErrImagePull", "not found")])))
    with pytest.raises(EnvironmentFault, match=f"Deployment mlflow: pod mlflow.*no image {IMAGE}"):
        connected().wait([MLFLOW], timeout_s=10_000, poll_s=0)
    assert any(IMAGE in words for words in said)


def test_a_wait_that_is_over_says_what_the_pods_are_at(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    fake.add(**deployed(deployment(1)))
    fake.add(**deployed(pod(phase="Running")))
    fake.add("Event", "e", reason="Unhealthy", lastTimestamp="2026-11-26T07:00:00Z",
             message="Readiness probe failed: connection refused",
             involvedObject={"name": "mlflow-7d9-x2x"})  # fmt: skip
    with pytest.raises(EnvironmentFault, match=r"not ready after 0 s.*connection refused"):
        connected().wait([MLFLOW], timeout_s=0.2, poll_s=0.05)


def test_a_workload_that_is_not_there_is_said_to_be_missing(
    connected: Callable[..., Cluster],
) -> None:
    with pytest.raises(EnvironmentFault, match="there is no RayCluster ray in namespace treadle"):
        connected().wait([Workload("RayCluster", "ray")], timeout_s=0.1, poll_s=0.05)


def test_an_api_server_that_goes_away_for_a_moment_is_waited_for(
    fake: FakeCluster, connected: Callable[..., Cluster], said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("treadle.adapters.kubernetes_api.AGAIN_S", 0.05)
    answers: list[tuple[int, object] | None] = [(0, None), (503, {"message": "etcd is away"}), None]
    fake.answer = lambda method, path: answers.pop(0)
    assert connected().version() == "v1.34.4"
    assert len(said) == 1
    assert "doesn't answer" in said[0]


def test_an_api_server_that_stays_away_is_given_up_in_words(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    fake.answer = lambda method, path: (0, None)
    with pytest.raises(Unreachable, match=rf"{fake.url} doesn't answer .*tried for 0 s"):
        connected(outage_s=0).version()
    fake.answer = lambda method, path: (500, {"message": "etcdserver: no leader"})
    with pytest.raises(Unreachable, match=r"in trouble .500: etcdserver: no leader."):
        connected(outage_s=0).version()


def test_what_is_forbidden_names_the_verb_and_the_account(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    message = ('pods is forbidden: User "system:serviceaccount:treadle:treadle-steps" cannot list '
               'resource "pods" in API group "" in the namespace "treadle"')  # fmt: skip
    fake.answer = lambda method, path: (403, {"message": message})
    with pytest.raises(Refused) as caught:
        connected().objects("Pod")
    words = str(caught.value)
    assert "system:serviceaccount:treadle:treadle-steps may not list pods" in words
    assert "verb 'list' on pods" in words


def test_expired_credentials_and_a_missing_namespace_are_put_into_words() -> None:
    assert "expired" in refusal_words(401, "Unauthorized", "https://a")
    missing = refusal_words(404, 'namespaces "treadle" not found', "https://a")
    assert missing == "there is no namespace treadle at https://a: make deploy makes it"


def test_an_unknown_context_and_a_missing_kubeconfig_are_put_into_words(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kubeconfig(fake.kubeconfig(tmp_path / "config"), monkeypatch)
    with pytest.raises(SpecError, match=r"no context 'kind-tredle'; did you mean 'kind-treadle'\?"):
        Cluster.connect("kind-tredle")
    use_kubeconfig(tmp_path / "none", monkeypatch)
    with pytest.raises(EnvironmentFault, match=r"there is no cluster to talk to.*make deploy"):
        Cluster.connect()


def test_applying_twice_changes_and_deleting_twice_is_no_fault(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    cluster = connected()
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    cluster.apply(settings | {"data": {"x": "1"}}, dry_run=True)
    assert cluster.get("ConfigMap", "a") is None
    cluster.apply(settings | {"data": {"x": "1"}})
    cluster.apply(settings | {"data": {"x": "2"}})
    assert (cluster.get("ConfigMap", "a") or {})["data"] == {"x": "2"}
    cluster.delete("ConfigMap", "a")
    cluster.delete("ConfigMap", "a")
    assert cluster.objects("ConfigMap") == []


def test_a_pod_that_is_ready_between_two_crashes_is_not_believed(
    fake: FakeCluster, connected: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("treadle.adapters.kubernetes.STEADY_S", 600.0)
    found = fake.add(**deployed(deployment(1)))
    sick = fake.add(**deployed(pod(phase="Running", containerStatuses=[crashed("Error", 1)])))
    ready = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}

    def come_and_go(method: str, path: str) -> None:
        if path.endswith("/deployments/mlflow"):
            well = len(fake.requests) % 2 == 0
            found["status"] = {"observedGeneration": 3} | (ready if well else {})
            sick["status"]["conditions"] = [{"type": "Ready", "status": "True"}] if well else []

    fake.answer = come_and_go
    with pytest.raises(EnvironmentFault, match="exit code 1"):
        connected().wait([MLFLOW], timeout_s=0.3, poll_s=0.01)
