"""This machine, examined: every check of the preflight made and told, and what deploying needs to
know of it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from kind_cluster import airgap, preflight
from kind_cluster.engine import Engine, Node, find_engine, find_node
from kind_cluster.options import Options
from kind_cluster.preflight import Finding, Verdict, fault, good, note
from treadle.errors import EnvironmentFault
from treadle.progress import say


@dataclass(frozen=True)
class Machine:
    """A machine that can run the cluster. ``path`` has kind and kubectl on it once the air gap, if
    it is used, is built."""

    engine: Engine
    node: Node | None
    airgap: bool
    kfp: bool
    path: str


def examine(options: Options) -> Machine:
    """Make every check and tell how each ended. Raises EnvironmentFault where one won't do."""
    ports = preflight.host_ports()
    try:
        engine = find_engine()
    except EnvironmentFault as error:
        # The others can't be asked, but what else is missing may as well be told at once.
        _tell([fault("docker", str(error)), *preflight.check_ports(ports, None, None)])
        raise AssertionError("a fault was told") from error
    node = find_node(engine)
    use_airgap = airgap.chosen(options, engine, node)
    path = airgap.search_path(use_airgap)
    _tell(
        [
            good("docker", f"{engine.version}, by {engine.client}"),
            *_of_engine(engine, use_airgap),
            *_of_programs(use_airgap, path),
            *preflight.check_ports(ports, engine, node),
            preflight.check_former(node, _node_image(use_airgap), ports),
            _of_kfp(options, use_airgap),
        ]
    )
    kfp = not use_airgap if options.kfp is None else options.kfp
    return Machine(engine, node, use_airgap, kfp, path)


def _of_engine(engine: Engine, use_airgap: bool) -> list[Finding]:
    status = Path("/proc/self/status")
    # Elsewhere the engine runs in a Linux of its own, with everything.
    text = status.read_text(encoding="utf-8") if status.exists() else ""
    bounding = preflight.bounding_capabilities(text)
    built = use_airgap and airgap.is_built(engine)
    place = Path("/var/lib/docker")
    free_bytes = shutil.disk_usage(place if place.is_dir() else Path.home()).free
    return [
        preflight.check_memory(engine),
        preflight.check_disk(free_bytes, built),
        preflight.check_cgroup(engine, use_airgap),
        preflight.check_capability(engine, bounding, use_airgap),
    ]


def _of_programs(use_airgap: bool, path: str) -> list[Finding]:
    if use_airgap:
        return [good("images", "built here, from package registries; so are kind and kubectl")]
    return [
        good("images", "from their registries"),
        preflight.check_program("kind", preflight.KIND_NEEDED, path),
        preflight.check_program("kubectl", preflight.KUBECTL_NEEDED, path),
    ]


def _of_kfp(options: Options, use_airgap: bool) -> Finding:
    if not use_airgap or options.kfp is False:
        return good("pipelines", "left out (KFP=0)" if options.kfp is False else "come with it")
    words = "no registry, no Kubeflow Pipelines: its images can't be built from packages"
    if options.kfp:
        return fault("pipelines", f"{words}; say KFP=0: the same graph runs as a Kubernetes Job")
    return note("pipelines", f"{words}; the same graph runs as a Kubernetes Job")


def _node_image(use_airgap: bool) -> str:
    return airgap.setting("node_image") if use_airgap else preflight.configured_image()


def _tell(findings: list[Finding]) -> None:
    say("can this machine run it?")
    for finding in findings:
        say(str(finding))
    faults = sum(each.verdict is Verdict.FAULT for each in findings)
    if faults:
        raise EnvironmentFault(
            f"this machine isn't ready: {faults} of {len(findings)} checks failed, marked "
            f"{Verdict.FAULT} above"
        )
