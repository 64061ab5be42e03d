"""The real thing: faults of pods as a real API server and kubelet report them, and Jobs that a real
cluster accepts. Needs the kind cluster ``treadle`` (make deploy)."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from treadle.adapters.kubernetes import Cluster, Workload
from treadle.errors import EnvironmentFault, TreadleError
from treadle_pipelines import job, spec_file

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
CONTEXT = "kind-treadle"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def deployed() -> Cluster:
    """The cluster with Treadle in it."""
    cluster = Cluster.connect(CONTEXT, outage_s=0) if has_context() else None
    if cluster is None:
        pytest.skip(f"no kubeconfig has the context {CONTEXT}: make deploy starts that cluster")
    try:
        cluster.version()
        if not cluster.workloads():
            pytest.skip(f"the cluster {CONTEXT} has no Treadle in it: make deploy")
    except TreadleError as error:
        pytest.skip(f"the cluster {CONTEXT} doesn't answer: {error}")
    return cluster


def has_context() -> bool:
    try:
        Cluster.connect(CONTEXT)
    except TreadleError:
        return False
    return True


def kubectl(*arguments: str, body: Object | None = None) -> str:
    command = ["kubectl", "--context", CONTEXT, *arguments]
    given = json.dumps(body) if body else None
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def namespace(deployed: Cluster) -> Iterator[str]:
    """A namespace of these tests alone, under the same rules as Treadle's."""
    name = f"treadle-test-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("apply", "-f", "-", body=made)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def image(deployed: Cluster) -> str:
    """An image that the node has and that has Python."""
    pods = deployed.objects("Pod", "app.kubernetes.io/name=mlflow")
    if not pods:
        pytest.skip("no MLflow server runs, whose image these tests use")
    return str(pods[0]["spec"]["containers"][0]["image"])


def test_the_api_server_accepts_a_job_a_cron_job_and_what_belongs_to_them(
    deployed: Cluster,
) -> None:
    wine = spec_file.load(ROOT / "examples/wine/wine.yaml")
    for made in (
        job.volume("wine-test", "1Gi"),
        job.spec_map("wine-test", wine),
        job.job("wine-test", wine),
        job.cron_job("wine-test", wine, "0 3 * * 1"),
    ):
        assert deployed.apply(made, dry_run=True)["metadata"]["uid"]


def test_the_pod_of_a_job_is_within_pod_security_restricted(deployed: Cluster) -> None:
    wine = spec_file.load(ROOT / "examples/wine/wine.yaml")
    template = job.job("wine-test", wine)["spec"]["template"]
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wine-test"}, **template}
    made["metadata"] = template["metadata"] | {"name": "wine-test"}
    assert deployed.apply(made, dry_run=True)["metadata"]["uid"]


def one_pod_job(name: str, image: str, code: str, memory: str = "64Mi") -> Object:
    """A Job within the rules that runs a line of Python."""
    whole = job.job(name, spec_file.load(ROOT / "examples/wine/wine.yaml"))
    pod = whole["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    keep = ("name", "imagePullPolicy", "securityContext")
    container = {key: container[key] for key in keep}
    container |= {"image": image, "command": ["python3", "-c", code]}
    container["resources"] = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    pod |= {"containers": [container], "volumes": [], "serviceAccountName": "default"}
    whole["spec"]["backoffLimit"] = 3
    whole["metadata"]["labels"] = whole["spec"]["template"]["metadata"]["labels"] = {"test": name}
    return whole


def fault_of(deployed: Cluster, namespace: str, made: Object, timeout_s: float = 90) -> str:
    made["metadata"]["namespace"] = namespace
    deployed.apply(made)
    with pytest.raises(EnvironmentFault) as caught:
        deployed.wait([Workload(made["kind"], made["metadata"]["name"], namespace)], timeout_s)
    return str(caught.value)


def test_an_image_that_is_nowhere_is_named(deployed: Cluster, namespace: str) -> None:
    made = one_pod_job("image", "treadle-step:nowhere", "pass")
    words = fault_of(deployed, namespace, made)
    assert "no image treadle-step:nowhere" in words
    assert "kind load docker-image treadle-step:nowhere" in words


def test_a_pod_that_asks_for_more_than_the_node_has_is_said_to_wait(
    deployed: Cluster, namespace: str, image: str
) -> None:
    words = fault_of(deployed, namespace, one_pod_job("big", image, "pass", memory="900Gi"))
    assert "finds no node" in words
    assert "Insufficient memory" in words
    assert "memory 900Gi" in words


def test_a_pod_that_uses_more_than_its_limit_names_the_limit(
    deployed: Cluster, namespace: str, image: str
) -> None:
    made = one_pod_job("oom", image, "b = bytearray(500_000_000); print(len(b))")
    del made["spec"]["podFailurePolicy"]
    words = fault_of(deployed, namespace, made, timeout_s=60)
    assert "used more memory than its limit of 64Mi" in words


def test_a_pod_that_crashes_again_and_again_shows_its_last_words(
    deployed: Cluster, namespace: str, image: str
) -> None:
    pod = one_pod_job("crash", image, "import sys; sys.exit('no such database')")
    template = pod["spec"]["template"]
    template["spec"]["restartPolicy"] = "Always"
    spec = {"replicas": 1, "selector": {"matchLabels": {"test": "crash"}}, "template": template}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crash"},
            "spec": spec}  # fmt: skip
    words = fault_of(deployed, namespace, made, timeout_s=40)
    assert "exit code 1" in words
    assert "no such database" in words


def test_a_pod_that_the_rules_forbid_is_said_to_be_refused(
    deployed: Cluster, namespace: str, image: str
) -> None:
    made = one_pod_job("root", image, "pass")
    made["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 0}
    words = fault_of(deployed, namespace, made)
    assert 'violates PodSecurity "restricted' in words


def test_a_job_that_is_done_ends_the_wait(deployed: Cluster, namespace: str, image: str) -> None:
    made = one_pod_job("done", image, "print('well')")
    made["metadata"]["namespace"] = namespace
    deployed.apply(made)
    deployed.wait([Workload("Job", "done", namespace)], 120)


def test_an_account_without_rights_is_named_with_the_verb(
    deployed: Cluster, namespace: str
) -> None:
    """The steps' account may do nothing: kubectl asks as it."""
    who = f"system:serviceaccount:{deployed.namespace}:{job.ACCOUNT}"
    asked = ["kubectl", "--context", CONTEXT, "-n", namespace, "--as", who, "get", "pods"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    from treadle.adapters.kubernetes_api import refusal_words

    words = refusal_words(403, done.stderr, deployed.address)
    assert f"{who} may not list pods in namespace {namespace}" in words
