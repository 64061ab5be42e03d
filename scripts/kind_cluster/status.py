"""`make status`: what runs, what doesn't and why, and what answers."""

from kind_cluster import CLUSTER, CONTEXT
from kind_cluster.addresses import ADDRESSES, PIPELINES, answers
from kind_cluster.applying import KFP_NAMESPACE
from kind_cluster.deploying import NAMESPACES
from kind_cluster.engine import find_engine, find_node
from treadle.adapters.kubernetes import Cluster
from treadle.errors import EnvironmentFault

API_OUTAGE_S = 10


def status() -> str:
    """Return a table. Raises EnvironmentFault, with the table, where something isn't ready."""
    node = find_node(find_engine())
    if node is None:
        raise EnvironmentFault(f"there is no cluster {CLUSTER!r}: make deploy makes one")
    if not node.running:
        raise EnvironmentFault(f"the cluster {CLUSTER!r} is stopped: make deploy starts it")
    there = Cluster.connect(CONTEXT, outage_s=API_OUTAGE_S)
    lines, faults = [f"Kubernetes {there.version()} on {node.image}"], 0
    for namespace in NAMESPACES:
        for workload in there.workloads(namespace):
            look = there.look(workload)
            why = f" ({look.words})" if look.words and not look.state.ready else ""
            lines.append(f"  {_mark(look.state.ready)} {workload}: {look.state.words}{why}")
            faults += not look.state.ready
    pipelines = [PIPELINES] if there.workloads(KFP_NAMESPACE) else []
    for address in [*ADDRESSES, *pipelines]:
        up = answers(address)
        lines.append(f"  {_mark(up)} {address.name}: {address.url}")
        faults += not up
    if faults:
        raise EnvironmentFault("\n".join([*lines, f"{faults} of these are not ready"]))
    return "\n".join(lines)


def _mark(ready: bool) -> str:
    return "✓" if ready else "✗"
