"""``.kind.env``: the settings with which this machine works with the cluster, for a shell to
source. It holds credentials, so only its owner reads it and git ignores it."""

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path

from kind_cluster import CONTEXT, ROOT
from kind_cluster.addresses import MLFLOW, MODEL_SERVER, PIPELINES, S3
from treadle.adapters.kubernetes import Cluster
from treadle.errors import EnvironmentFault
from treadle.writing import written_aside

PATH = ROOT / ".kind.env"
HEADER = "# Made by make deploy: source it to work with the kind cluster.\n"


def write_settings(cluster: Cluster, step_image: str, kfp: bool, path: Path = PATH) -> None:
    """Write the file anew, whole: the addresses of this machine, the cluster's credentials."""
    values = settings(cluster, step_image, kfp)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    with written_aside(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text("".join([HEADER, *lines]), encoding="utf-8")


def settings(cluster: Cluster, step_image: str, kfp: bool) -> Mapping[str, str]:
    """Return Treadle's settings as seen from this machine."""
    secret = cluster.get("Secret", "treadle-s3")
    shared = cluster.get("ConfigMap", "treadle-settings")
    if secret is None or shared is None:
        raise EnvironmentFault(f"namespace {cluster.namespace} has no settings: make deploy again")
    return {
        "TREADLE_OBJECT_STORE": shared["data"]["TREADLE_OBJECT_STORE"],
        "TREADLE_S3_ENDPOINT": S3.url,
        **{name: base64.b64decode(value).decode() for name, value in secret["data"].items()},
        "TREADLE_MLFLOW_URI": MLFLOW.url,
        "TREADLE_SERVER_URL": MODEL_SERVER.url,
        **({"TREADLE_KFP_URL": PIPELINES.url} if kfp else {}),
        "TREADLE_KUBE_CONTEXT": CONTEXT,
        "TREADLE_NAMESPACE": cluster.namespace,
        "TREADLE_STEP_IMAGE": step_image,
    }
