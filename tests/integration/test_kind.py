"""The real thing: faults of pods as a real API server and kubelet report them, and Jobs that a real
cluster accepts. Needs the kind cluster ``treadle`` (make deploy)."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture(scope="module")
def faults(deployed: Cluster, namespace: str, image: str) -> dict[str, str]:
    """What is said of workloads in trouble; all are waited for at once."""
    oom = one_pod_job("oom", image, "b = bytearray(500_000_000); print(len(b))")
    del oom["spec"]["podFailurePolicy"]  # it is tried again
    root = one_pod_job("root", image, "pass")
    root["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 0}
    pod = one_pod_job("crash", image, "import sys; sys.exit('no such database')")
    template = pod["spec"]["template"]
    template["spec"]["restartPolicy"] = "Always"
    # Without a probe it would be ready for a moment, as Kubernetes sees it.
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 5}
    template["spec"]["containers"][0]["readinessProbe"] = probe
    spec = {"replicas": 1, "selector": {"matchLabels": {"test": "crash"}}, "template": template}
    crash = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crash"},
             "spec": spec}  # fmt: skip
    made = [
        one_pod_job("image", "treadle-step:nowhere", "pass"),
        one_pod_job("big", image, "pass", memory="900Gi"),
        *(oom, root, crash),
    ]

    def words(each: Object) -> str:
        each["metadata"]["namespace"] = namespace
        deployed.apply(each)
        workload = Workload(each["kind"], each["metadata"]["name"], namespace)
        with pytest.raises(EnvironmentFault) as caught:
            deployed.wait([workload], timeout_s=45)
        return str(caught.value)

    with ThreadPoolExecutor(len(made)) as pool:
        return dict(zip([m["metadata"]["name"] for m in made], pool.map(words, made), strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image", ["no image treadle-step:nowhere", "kind load docker-image treadle-step:nowhere"]),
        ("big", ["finds no node", "Insufficient memory", "memory 900Gi"]),
        ("oom", ["used more memory than its limit of 64Mi"]),
        ("crash", ["exit code 1", "no such database"]),
        ("root", ['violates PodSecurity "restricted', "mend the pod's securityContext"]),
    ],
)
def test_what_is_wrong_is_said_in_words(faults: dict[str, str], name: str, said: list[str]) -> None:
    for words in said:
        assert words in faults[name]


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
