"""What a kustomization comes to: its documents, and the pods that they lead to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml"))
# What kustomize fetches from elsewhere can't be built without a network.
REMOTE = {"kfp"}
Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that a document leads to. ``lasting`` is one that isn't meant to end."""

    owner: str
    namespace: str
    labels: Mapping[str, str]
    spec: Document
    lasting: bool = True

    @property
    def containers(self) -> list[Document]:
        """Those that run side by side."""
        return list(self.spec["containers"])

    @property
    def all_containers(self) -> list[Document]:
        """Those that prepare too."""
        return [*self.spec.get("initContainers", []), *self.containers]

    def port(self, name: int | str) -> int | None:
        """The number of a container's port, by name or number."""
        ports = [port for each in self.containers for port in each.get("ports", [])]
        return next(
            (p["containerPort"] for p in ports if name in (p.get("name"), p["containerPort"])), None
        )


@dataclass(frozen=True)
class Build:
    """What one kustomization comes to."""

    name: str
    documents: Sequence[Document]

    def of(self, *kinds: str) -> list[Document]:
        """The documents of some kinds."""
        return [document for document in self.documents if document["kind"] in kinds]

    def named(self, kind: str, name: str) -> Document:
        """One document."""
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @cached_property
    def pods(self) -> list[Pod]:
        """Every pod that this leads to."""
        return list(chain.from_iterable(map(_pods, self.documents)))

    def pod(self, owner: str) -> Pod:
        """The pod of one owner."""
        (found,) = (pod for pod in self.pods if pod.owner == owner)
        return found


def _pods(document: Document) -> Iterator[Pod]:
    kind, metadata, spec = document["kind"], document["metadata"], document.get("spec", {})
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    if kind in ("Deployment", "StatefulSet", "Job"):
        yield _pod(name, namespace, spec["template"], lasting=kind != "Job")
    elif kind == "CronJob":
        yield _pod(name, namespace, spec["jobTemplate"]["spec"]["template"], lasting=False)
    elif kind == "RayCluster":
        yield _ray_head(name, namespace, spec)
        for group in spec["workerGroupSpecs"]:
            labels = _ray_labels(name, "worker")
            yield _pod(f"{name}-{group['groupName']}", namespace, group["template"], labels)


def _pod(
    owner: str,
    namespace: str,
    template: Document,
    labels: Mapping[str, str] = {},
    lasting: bool = True,
) -> Pod:
    own = template.get("metadata", {}).get("labels", {})
    return Pod(owner, namespace, {**labels, **own}, template["spec"], lasting)


def _ray_labels(cluster: str, node: str) -> dict[str, str]:
    # What KubeRay adds to its pods.
    return {
        "app.kubernetes.io/name": "kuberay",
        "ray.io/cluster": cluster,
        "ray.io/node-type": node,
    }


def _ray_head(name: str, namespace: str, spec: Document) -> Pod:
    head = _pod(
        f"{name}-head", namespace, spec["headGroupSpec"]["template"], _ray_labels(name, "head")
    )
    options = spec["autoscalerOptions"]
    # KubeRay puts the autoscaler beside the head, in the head's image.
    autoscaler = {
        "name": "autoscaler",
        "image": head.containers[0]["image"],
        **{key: options[key] for key in ("imagePullPolicy", "securityContext", "resources")},
        "volumeMounts": options["volumeMounts"],
    }
    return Pod(
        head.owner,
        namespace,
        head.labels,
        {**head.spec, "containers": [*head.containers, autoscaler]},
    )


def choices() -> list[tuple[str, ...]]:
    """None of the components, each, each pair, and all: those that go together. What others patch
    comes first, as their READMEs ask."""
    ordered = sorted(set(COMPONENTS) - REMOTE, key=lambda name: (name != "network-policies", name))
    few = chain.from_iterable(combinations(ordered, count) for count in (0, 1, 2))
    return sorted({*few, tuple(ordered)})
