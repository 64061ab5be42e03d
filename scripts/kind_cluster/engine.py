"""The Docker engine of this machine: which client talks to it, and what it is."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kind_cluster import NODE, ROOT
from kind_cluster.programs import run
from treadle.errors import EnvironmentFault


@dataclass(frozen=True)
class Engine:
    """An engine that answers, through a client that can build."""

    client: str
    version: str
    cgroup: int
    memory_bytes: int
    cores: int
    default_runtime: str

    @property
    def major(self) -> int:
        """Return the first number of its version."""
        found = re.match(r"\d+", self.version)
        return int(found[0]) if found else 0


@dataclass(frozen=True)
class Node:
    """The cluster's one node: a container."""

    image: str
    running: bool
    ports: frozenset[int]


def find_engine() -> Engine:
    """Return the engine. Raises EnvironmentFault where there is none that answers and builds, with
    how to get one."""
    try:
        client = run([str(ROOT / "scripts/docker-client")], 120).strip()
    except EnvironmentFault as error:
        said = str(error).splitlines()[-1].strip()
        raise EnvironmentFault(said + _how_to_start(said)) from error
    said = json.loads(run([client, "info", "--format", "{{json .}}"], 30))
    return Engine(
        client=client,
        version=str(said.get("ServerVersion", "")),
        cgroup=int(said.get("CgroupVersion") or 1),
        memory_bytes=int(said.get("MemTotal", 0)),
        cores=int(said.get("NCPU", 0)),
        default_runtime=str(said.get("DefaultRuntime", "runc")),
    )


def _how_to_start(said: str) -> str:
    if "permission denied" in said:
        return ": join the group docker (usermod -aG docker $USER, then log in again), or be root"
    if "doesn't answer" not in said:
        return ""
    if Path("/run/systemd/system").is_dir():
        return ": start it with systemctl start docker"
    if os.geteuid() == 0 and shutil.which("dockerd"):
        return ": start it with airgap/start-docker"
    return ": start Docker"


def find_node(engine: Engine) -> Node | None:
    """Return the node of the cluster, or None where there is none."""
    try:
        found = json.loads(run([engine.client, "container", "inspect", NODE], 30))[0]
    except EnvironmentFault as error:
        if "No such container" in str(error):
            return None
        raise
    bindings = found["HostConfig"].get("PortBindings") or {}
    ports = {int(each["HostPort"]) for binding in bindings.values() for each in binding or []}
    return Node(found["Config"]["Image"], bool(found["State"]["Running"]), frozenset(ports))


def registry_answers(engine: Engine) -> bool:
    """Say whether the engine can pull an image, by pulling a very small one. Takes 20 s at most."""
    try:
        run([engine.client, "pull", "--quiet", "hello-world"], 20)
    except EnvironmentFault:
        return False
    return True
