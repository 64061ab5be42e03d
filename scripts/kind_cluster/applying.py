"""What goes onto the cluster: the manifests with our images' tags, and secrets made for it."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from kind_cluster import CONTEXT, ROOT
from kind_cluster.addresses import MLFLOW, PIPELINES
from kind_cluster.programs import run
from treadle.adapters.kubernetes import Cluster
from treadle.progress import say

# kustomize fetches Kubeflow Pipelines' own manifests from GitHub.
APPLY_TIMEOUT_S = 300
OVERLAY = ROOT / "manifests" / "overlays" / "kind"
CRDS = ROOT / "manifests" / "crds"
KFP = ROOT / "manifests" / "components" / "kfp"
NAMESPACE = ROOT / "manifests" / "base" / "namespace.yaml"
# In the tree, for kustomize reads no directory by an absolute path; git ignores it.
TAGGED = ROOT / "build" / "deploy"
KFP_NAMESPACE = "kubeflow"
KFP_CONFIG = {"kind": "ConfigMap", "name": "ml-pipeline-config", "namespace": KFP_NAMESPACE}


def apply_all(cluster: Cluster, images: Sequence[str], kfp: bool, path: str) -> None:
    """Bring the cluster to what the manifests say, with our images in their present version."""
    say("applying the manifests")
    _apply(["-f", str(NAMESPACE)], path)
    make_secrets(cluster)
    _apply(["-k", str(CRDS)], path)
    if kfp:
        _apply(["-k", str(KFP / "cluster-scoped")], path)
        copy_secret(cluster, "treadle-s3", KFP_NAMESPACE)
    _kubectl(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"], path)
    write_tagged(images, kfp, TAGGED)
    _apply(["-k", str(TAGGED)], path)
    renew_ray(cluster)


def _apply(what: Sequence[str], path: str) -> None:
    _kubectl(["apply", "--server-side", "--force-conflicts", *what], path)


def _kubectl(arguments: Sequence[str], path: str) -> None:
    # On the kind cluster, whichever is the kubeconfig's current one.
    run(["kubectl", "--context", CONTEXT, *arguments], APPLY_TIMEOUT_S, PATH=path)


def write_tagged(images: Sequence[str], kfp: bool, directory: Path) -> None:
    """Write a kustomization that is the overlay with these images (``name:tag``) and, with ``kfp``,
    Kubeflow Pipelines in the size of one machine."""
    up = "../" * len(directory.relative_to(ROOT).parts)
    tagged = [dict(zip(("name", "newTag"), each.rsplit(":", 1), strict=True)) for each in images]
    kustomization: dict[str, object] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [up + str(OVERLAY.relative_to(ROOT))],
        "images": tagged,
    }
    if kfp:
        kustomization["components"] = [
            up + str(each.relative_to(ROOT)) for each in (KFP, KFP / "one-machine")
        ]
        kustomization["patches"] = [
            {"target": KFP_CONFIG, "patch": yaml.safe_dump([_with_addresses()])}
        ]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")


def _with_addresses() -> dict[str, str]:
    """Return the patch that puts this machine's addresses into KFP's settings, so that its page
    leads to MLflow's runs, and those to its page."""
    config = json.loads((KFP / "treadle" / "config.json").read_text(encoding="utf-8"))
    links = {"kfpBaseURL": PIPELINES.url, "mlflowBaseURL": MLFLOW.url}
    config["plugins"]["mlflow"]["settings"] |= links
    return {"op": "replace", "path": "/data/config.json", "value": json.dumps(config)}


def renew_ray(cluster: Cluster) -> None:
    """Replace Ray's pods of another image. KubeRay makes new ones as the manifest says, and leaves
    those that are there alone; but steps and Ray must run the same code."""
    for ray in cluster.objects("RayCluster"):
        wanted = ray["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
        for pod in cluster.objects("Pod", f"ray.io/cluster={ray['metadata']['name']}"):
            images = {container["image"] for container in pod["spec"]["containers"]}
            if wanted not in images:
                name = pod["metadata"]["name"]
                say(f"replacing {name}: it runs another image than {wanted}")
                cluster.delete("Pod", name)


def make_secrets(cluster: Cluster) -> None:
    """Make the secrets that aren't there yet. One that is there is never changed: the database and
    the object store were made with it."""
    for name, values in new_secrets().items():
        if cluster.get("Secret", name) is None:
            say(f"making the secret {name}")
            metadata = {"name": name, "namespace": cluster.namespace}
            cluster.apply(
                {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
            )


def copy_secret(cluster: Cluster, name: str, namespace: str) -> None:
    """Give another namespace the same secret."""
    secret = cluster.get("Secret", name) or {}
    metadata = {"name": name, "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]}
    )


def new_secrets() -> Mapping[str, Mapping[str, str]]:
    """Return the secrets of a new cluster by name, with passwords that nobody has had before."""
    password = secrets.token_urlsafe(24)
    return {
        "treadle-s3": {
            "TREADLE_S3_ACCESS_KEY": "treadle",
            "TREADLE_S3_SECRET_KEY": secrets.token_urlsafe(24),
        },
        "treadle-database": {
            "POSTGRES_USER": "treadle",
            "POSTGRES_PASSWORD": password,
            "MLFLOW_BACKEND_STORE_URI": f"postgresql://treadle:{password}@postgres:5432/mlflow",
        },
    }
