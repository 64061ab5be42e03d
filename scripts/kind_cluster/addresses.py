"""Where the cluster answers on this machine, and whether it does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from treadle.errors import EnvironmentFault

ANSWER_TIMEOUT_S, POLL_S = 60, 1


@dataclass(frozen=True)
class Address:
    """A service on this machine's loopback; ``path`` answers without an error when it is up."""

    name: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """Return what to open in a browser."""
        return f"http://127.0.0.1:{self.port}"


MODEL_SERVER = Address("model server", 3000, "/healthz")
MLFLOW = Address("MLflow", 5000, "/health")
S3 = Address("S3", 8333, "/healthz")
ADDRESSES = (MODEL_SERVER, MLFLOW, Address("Ray dashboard", 8265, "/api/version"), S3)
PIPELINES = Address("Kubeflow Pipelines", 8080, "/apis/v2beta1/healthz")
# On Kubeflow Pipelines where they are there, else as a Job.
FIRST_RUN = ".venv/bin/treadle submit examples/wine/wine.yaml"
FIRST_REQUEST = f"curl {MODEL_SERVER.url}/v1/models"


def answers(address: Address, timeout_s: float = 5) -> bool:
    """Ask once."""
    url = address.url + address.path
    try:
        return urllib3.request("GET", url, timeout=timeout_s, retries=False).status < 400
    except HTTPError:
        return False


def wait_for_answers(addresses: Sequence[Address], timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """Wait until all answer. Raises EnvironmentFault with those that don't."""
    deadline = time.monotonic() + timeout_s
    while silent := [each for each in addresses if not answers(each)]:
        if time.monotonic() > deadline:
            words = ", ".join(f"{each.name} ({each.url}{each.path})" for each in silent)
            raise EnvironmentFault(
                f"the pods are ready, but from this machine these don't answer within "
                f"{timeout_s:.0f} s: {words}: kind-config.yaml's ports lead to the NodePorts of "
                "manifests/overlays/kind; make undeploy and make deploy renew both"
            )
        time.sleep(POLL_S)


def table(addresses: Sequence[Address]) -> str:
    """Return the addresses, one a line."""
    return "\n".join(f"  {each.name:<20} {each.url}" for each in addresses)
