"""The air gap: whether to use it, and what it has built."""

import os
from pathlib import Path

from kind_cluster import ROOT
from kind_cluster.engine import Engine, Node, registry_answers
from kind_cluster.options import Options
from kind_cluster.programs import run, run_aloud
from treadle.progress import say

BASE_IMAGE = "treadle-airgap/python:3.11"
NODE_IMAGES = "treadle-airgap/node:"
BUILD_TIMEOUT_S = 3600


def chosen(options: Options, engine: Engine, node: Node | None) -> bool:
    """Say whether to use it: as AIRGAP says, else as the cluster that is there was made, else where
    no image registry answers."""
    if options.airgap is not None:
        return options.airgap
    if node is not None:
        return node.image.startswith(NODE_IMAGES)
    say("asking for an image registry (20 s at most; AIRGAP=0 or 1 says which way without asking)")
    return not registry_answers(engine)


def build(engine: Engine) -> None:
    """Build what isn't built yet; prints its progress. The first time takes half an hour."""
    run_aloud([str(ROOT / "airgap/build")], BUILD_TIMEOUT_S, DOCKER=engine.client)


def setting(name: str) -> str:
    """Return what airgap/lib.sh calls ``name``: ``node_image``, ``cache`` and the like."""
    script = f'source "{ROOT}/airgap/lib.sh"; printf %s "${name}"'
    return run(["bash", "-c", script], 30)


def is_built(engine: Engine) -> bool:
    """Say whether a node image is there, of whichever content."""
    return bool(run([engine.client, "image", "ls", "--quiet", setting("node_image")], 30).strip())


def service_images() -> list[str]:
    """Return the images that manifests ask for and that no registry has here."""
    return [setting(name) for name in ("seaweedfs_image", "postgres_image", "operator_image")]


def search_path(airgap: bool) -> str:
    """Return the PATH on which kind and kubectl are looked for: the air gap's own come first."""
    path = os.environ.get("PATH", os.defpath)
    return f"{Path(setting('cache')) / 'bin'}{os.pathsep}{path}" if airgap else path
