"""`make deploy`: from a machine with Docker to a cluster that answers. `make undeploy`: back."""

from collections.abc import Sequence

from kind_cluster import CLUSTER, CONTEXT, ROOT, airgap, cluster
from kind_cluster.addresses import (
    ADDRESSES,
    FIRST_REQUEST,
    FIRST_RUN,
    PIPELINES,
    table,
    wait_for_answers,
)
from kind_cluster.applying import KFP_NAMESPACE, apply_all
from kind_cluster.engine import find_engine, find_node
from kind_cluster.machine import Machine, examine
from kind_cluster.options import Options
from kind_cluster.programs import run_aloud
from kind_cluster.settings_file import PATH, write_settings
from treadle.adapters.kubernetes import Cluster
from treadle.progress import say

NAMESPACES = ("treadle-system", "treadle", KFP_NAMESPACE)
IMAGE_TIMEOUT_S, READY_TIMEOUT_S = 1800, 900


def deploy(options: Options) -> str:
    """Make or renew the whole, leaving alone what is as it should be; return what to do next."""
    machine = examine(options)
    if machine.airgap:
        airgap.build(machine.engine)
    images = build_own_images(machine)
    node_image = airgap.setting("node_image") if machine.airgap else None
    cluster.bring_up(machine.engine, machine.node, node_image, machine.path)
    services = airgap.service_images() if machine.airgap else []
    cluster.load(machine.engine, [*services, *images], machine.path)
    there = Cluster.connect(CONTEXT)
    say(f"Kubernetes {there.version()} answers")  # a node that was just started takes a while
    apply_all(there, images, machine.kfp, machine.path)
    workloads = [each for namespace in NAMESPACES for each in there.workloads(namespace)]
    there.wait(workloads, READY_TIMEOUT_S)
    addresses = [*ADDRESSES, *([PIPELINES] if machine.kfp else [])]
    wait_for_answers(addresses)
    write_settings(there, images[0], machine.kfp)
    tries = f"  source {PATH.name}\n  {FIRST_RUN}\n  {FIRST_REQUEST}"
    return f"Treadle is up:\n{table(addresses)}\nTry it:\n{tries}"


def build_own_images(machine: Machine) -> Sequence[str]:
    """Build the steps' and the server's image; return their names, tagged by the code's digest."""
    say("building our images")
    base = {"BASE_IMAGE": airgap.BASE_IMAGE} if machine.airgap else {}
    script = str(ROOT / "components" / "build-image")
    return run_aloud([script], IMAGE_TIMEOUT_S, DOCKER=machine.engine.client, **base).split()


def undeploy() -> str:
    """Remove the cluster with all that is in it; images stay."""
    engine = find_engine()
    node = find_node(engine)
    if node is None:
        return f"there is no cluster {CLUSTER!r}"
    PATH.unlink(missing_ok=True)
    cluster.remove(airgap.search_path(node.image.startswith(airgap.NODE_IMAGES)))
    return f"the cluster {CLUSTER!r} is removed, with all that was in it"
