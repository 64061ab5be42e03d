"""The kind cluster itself: made, started, removed, images brought into its node."""

import json
from collections.abc import Iterable

from kind_cluster import CLUSTER, NODE, ROOT
from kind_cluster.engine import Engine, Node
from kind_cluster.programs import run, run_aloud
from treadle.errors import EnvironmentFault
from treadle.progress import say

CREATE_TIMEOUT_S, LOAD_TIMEOUT_S = 600, 900


def bring_up(engine: Engine, node: Node | None, image: str | None, path: str) -> None:
    """Make the cluster, or start the one that is there; write its address to the kubeconfig.

    ``image`` is the node's where it isn't that of kind-config.yaml, ``path`` has kind on it.
    """
    if node is None:
        arguments = ["--config", str(ROOT / "kind-config.yaml"), "--wait", "120s"]
        arguments += ["--image", image] if image else []
        run_aloud(["kind", "create", "cluster", *arguments], CREATE_TIMEOUT_S, PATH=path)
        return
    if not node.running:
        say(f"starting {NODE}")
        run([engine.client, "start", NODE], 60)
    # Another kubeconfig, or a port that changed with a restart.
    run(["kind", "export", "kubeconfig", "--name", CLUSTER], 60, PATH=path)


def remove(path: str) -> None:
    """Remove the cluster and all that is in it; no error where there is none."""
    run_aloud(["kind", "delete", "cluster", "--name", CLUSTER], 180, PATH=path)


def load(engine: Engine, images: Iterable[str], path: str) -> None:
    """Bring images into the node that it doesn't have, all in one archive: they share layers."""
    there = node_digests(engine)
    missing = [image for image in images if _digest(engine, image) not in there]
    if not missing:
        return
    say(f"loading into the node: {', '.join(missing)}")
    run(["kind", "load", "docker-image", "--name", CLUSTER, *missing], LOAD_TIMEOUT_S, PATH=path)


def node_digests(engine: Engine) -> set[str]:
    """Return the digests of the images in the node, of their configuration and of their manifest:
    which of them is Docker's image ID depends on its image store."""
    said = run([engine.client, "exec", NODE, "crictl", "images", "--output", "json"], 60)
    images = json.loads(said)["images"]
    digests = {str(image["id"]) for image in images}
    return digests | {name.partition("@")[2] for i in images for name in i.get("repoDigests") or []}


def _digest(engine: Engine, image: str) -> str:
    try:
        return run([engine.client, "image", "inspect", "--format", "{{.Id}}", image], 30).strip()
    except EnvironmentFault as error:
        raise EnvironmentFault(f"there is no image {image}: was it built?") from error
