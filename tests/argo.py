"""Argo workflows as KFP 2.17 makes them of a graph, as far as their nodes tell of steps."""

from typing import Any

Object = dict[str, Any]
BEGUN = "2026-11-26T07:00:00Z"
ENDED = "2026-11-26T07:00:12Z"
# A step with retries and a label has this; others have fewer words before it.
EXECUTOR = "metadata-0-1-retry-system-container-executor"


def workflow(*steps: list[Object]) -> Object:
    """A run of these steps."""
    nodes = [
        *retried("treadle-training-x7k2p", "DAG", "Running", "entrypoint"),
        *retried("root-driver", "Pod", "Succeeded", "system-dag-driver"),
        *retried("root", "DAG", "Running", "root"),
        *(each for step in steps for each in step),
        # What is left out after a failure.
        node("later-driver", "Skipped", "Omitted", "system-container-driver"),
        node("later", "Skipped", "Omitted", EXECUTOR),
    ]
    return {"status": {"nodes": {each["id"]: each for each in nodes}}}


def step(
    name: str, phase: str, *tries: tuple[str, str], driver: str = "Succeeded", said: str = ""
) -> list[Object]:
    """A step's nodes; ``tries`` are phases and messages of its pods, ``driver`` and ``said`` the
    driver's. Without a phase the driver is still at it."""
    first = retried(f"{name}-driver", "Pod", driver, "system-container-driver", said)
    if not phase:
        return first
    outer, whole = retried(name, "DAG", phase, EXECUTOR)
    impl = EXECUTOR.replace("executor", "impl")
    pods = [
        node(f"executor({n})", "Pod", phase, impl, message, whole)
        for n, (phase, message) in enumerate(tries)
    ]
    return [*first, outer, whole, node("executor", "Retry", phase, impl, within=whole), *pods]


def cached(name: str) -> list[Object]:
    """A step whose outputs the cache had."""
    *before, _ = step(name, "Succeeded")
    why = "when 'true != true' evaluated false"
    return [*before, node("executor", "Skipped", "Skipped", "impl", why, before[-1])]


def retried(name: str, kind: str, phase: str, template: str, message: str = "") -> list[Object]:
    """A node that KFP has Argo try again: the whole, and its first try."""
    return [
        node(name, "Retry", phase, template),
        node(f"{name}(0)", kind, phase, template, message),
    ]


def node(
    name: str, kind: str, phase: str, template: str, message: str = "", within: Object | None = None
) -> Object:
    """One node of a workflow."""
    place = f"{within['id']}." if within else "x."
    made = {
        "id": place + name,
        "displayName": name,
        "type": kind,
        "phase": phase,
        "templateName": template,
        "startedAt": BEGUN,
        "message": message,
    }
    if within:
        made["boundaryID"] = within["id"]
    if phase not in ("Running", "Pending"):
        made["finishedAt"] = ENDED
    return made
