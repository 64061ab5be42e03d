"""Can this machine run the cluster? Every check says what it found and, where that won't do, what
to do; all of them are made, so that nobody mends one thing a run."""

import re
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psutil
import yaml

from kind_cluster import CLUSTER, ROOT
from kind_cluster.engine import Engine, Node
from kind_cluster.programs import run
from treadle.errors import EnvironmentFault

GIB = 1024**3
# What all pods ask for, and the cluster itself.
MEMORY_NEEDED_BYTES, MEMORY_ADVISED_BYTES = 6 * GIB, 8 * GIB
CORES_ADVISED = 2
DISK_NEEDED_BYTES = 15 * GIB
# The first with server-side apply by kustomize components, and the first whose node is 1.34.
KUBECTL_NEEDED, KIND_NEEDED = (1, 28), (0, 30)
CAP_SYS_RESOURCE = 24


class Verdict(StrEnum):
    """How a check ended; the value is how it is printed."""

    GOOD = "✓"
    NOTE = "!"
    FAULT = "✗"


@dataclass(frozen=True)
class Finding:
    """One check's result; where it won't do, ``words`` say what to do."""

    about: str
    words: str
    verdict: Verdict = Verdict.GOOD

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"  {self.verdict} {self.about:<10} {self.words}"


def good(about: str, words: str) -> Finding:
    """Return what is as it should be."""
    return Finding(about, words)


def note(about: str, words: str) -> Finding:
    """Return what a person should know, and which stops nothing."""
    return Finding(about, words, Verdict.NOTE)


def fault(about: str, words: str) -> Finding:
    """Return what makes it impossible to go on."""
    return Finding(about, words, Verdict.FAULT)


def check_memory(engine: Engine) -> Finding:
    """The engine's memory, which may be a virtual machine's."""
    words = f"{engine.memory_bytes / GIB:.1f} GiB, {engine.cores} cores"
    if engine.memory_bytes < MEMORY_NEEDED_BYTES:
        return fault("memory", f"{words}; {MEMORY_NEEDED_BYTES // GIB} GiB are needed: give Docker "
                               "more, or take a bigger machine")  # fmt: skip
    if engine.memory_bytes < MEMORY_ADVISED_BYTES or engine.cores < CORES_ADVISED:
        return note("memory", f"{words}; it is made for {MEMORY_ADVISED_BYTES // GIB} GiB and "
                              f"{CORES_ADVISED} cores, so some pods may have to wait")  # fmt: skip
    return good("memory", words)


def check_disk(free_bytes: int, built: bool) -> Finding:
    """Free space for images, where they are yet to be built."""
    words = f"{free_bytes / GIB:.0f} GiB free"
    if free_bytes < DISK_NEEDED_BYTES and not built:
        return fault("disk", f"{words}; images take up to {DISK_NEEDED_BYTES // GIB} GiB: free "
                             "some (docker system prune)")  # fmt: skip
    return good("disk", words)


def check_cgroup(engine: Engine, airgap: bool) -> Finding:
    """Kubernetes from 1.35 on starts on version 2 only; the air gap's is 1.34."""
    words = f"version {engine.cgroup}"
    if engine.cgroup == 1 and not airgap:
        return fault("cgroups", f"{words}; the node of kind-config.yaml needs 2: start Linux with "
                                "systemd.unified_cgroup_hierarchy=1, or say AIRGAP=1, whose "
                                "Kubernetes still takes 1")  # fmt: skip
    return good("cgroups", words)


def bounding_capabilities(status: str) -> int:
    """Return the bits of CapBnd in the text of /proc/self/status; all where it isn't told."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else ~0


def check_capability(engine: Engine, bounding: int, airgap: bool) -> Finding:
    """A host may withhold CAP_SYS_RESOURCE even from root, as some sandboxes do."""
    if bounding >> CAP_SYS_RESOURCE & 1:
        return good("privilege", "nothing is withheld")
    if not airgap:
        return fault("privilege", "this host withholds CAP_SYS_RESOURCE, without which kind's own "
                                  "node doesn't start: say AIRGAP=1, whose node does")  # fmt: skip
    if engine.major < 23 and engine.default_runtime == "runc":
        return fault("privilege", f"this host withholds CAP_SYS_RESOURCE and Docker "
                                  f"{engine.version} asks for it: end dockerd and start it with "
                                  "airgap/start-docker")  # fmt: skip
    return note("privilege", "this host withholds CAP_SYS_RESOURCE; the node goes without")


def check_program(name: str, wanted: tuple[int, int], path: str) -> Finding:
    """``kind`` or ``kubectl`` as ``path`` (a PATH) has it."""
    least = f"{wanted[0]}.{wanted[1]}"
    if shutil.which(name, path=path) is None:
        return fault(name, f"is not on PATH; install {least} or newer, or say AIRGAP=1, which "
                           "builds it")  # fmt: skip
    arguments = ["version"] if name == "kind" else ["version", "--client"]
    try:
        said = run([name, *arguments], 30, PATH=path)
    except EnvironmentFault as error:
        return fault(name, str(error))
    found = re.search(r"v(\d+)\.(\d+)\.\d+", said)
    if found is None:
        return fault(name, f"tells no version but {said.strip()!r}: is it the right program?")
    if (int(found[1]), int(found[2])) < wanted:
        return fault(name, f"{found[0]} is too old; install {least} or newer, or say AIRGAP=1, "
                           "which builds it")  # fmt: skip
    return good(name, found[0])


def host_ports() -> list[int]:
    """Return the ports of this machine that the cluster takes."""
    return [int(mapping["hostPort"]) for mapping in _configured_node()["extraPortMappings"]]


def configured_image() -> str:
    """Return the node's image as kind-config.yaml has it."""
    return str(_configured_node()["image"])


def _configured_node() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))
    node: dict[str, Any] = config["nodes"][0]
    return node


def check_ports(ports: Iterable[int], engine: Engine | None, node: Node | None) -> list[Finding]:
    """Each port must be free, or the running cluster's own."""
    ours = node.ports if node and node.running else frozenset()
    taken = [port for port in ports if port not in ours and not _is_free(port)]
    words = ", ".join(map(str, ports))
    if not taken:
        return [good("ports", f"{words} are {'the cluster’s' if ours else 'free'}")]
    return [fault("ports", f"{port} is taken{_holder(port, engine)}") for port in taken]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int, engine: Engine | None) -> str:
    if engine is not None:
        format_ = ["--filter", f"publish={port}", "--format", "{{.Names}}"]
        names = run([engine.client, "ps", *format_], 30).split()
        if names:
            return f" by the container {names[0]}: stop it (docker stop {names[0]})"
    for connection in _listening():
        if connection.laddr.port == port and connection.pid:
            name = psutil.Process(connection.pid).name()
            return f" by {name} (process {connection.pid}): end it"
    return ": find out by whom with ss -ltnp, and end it"


def _listening() -> list[Any]:
    try:
        return [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:  # others' processes are only shown to root
        return []


def check_former(node: Node | None, image: str, ports: Iterable[int]) -> Finding:
    """A cluster of the same name: ours of now, ours of before, or someone else's."""
    if node is None:
        return good("cluster", "none yet")
    if missing := sorted(set(ports) - node.ports):
        words = ", ".join(map(str, missing))
        return fault("cluster", f"there is another cluster {CLUSTER!r}, which has no port {words}: "
                                "make undeploy removes it with all that is in it")  # fmt: skip
    if node.image != image:
        words = f"it runs on {node.image}, now it would be {image}"
        return note("cluster", f"{words}; make undeploy (which removes all that is in it) and make "
                               "deploy change that")  # fmt: skip
    return good("cluster", "is there" if node.running else "is there, stopped")
