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
        node("treadle-training-x7k2p", "DAG", "Running", "entrypoint"),
        node("root-driver", "Pod", "Succeeded", "system-dag-driver"),
        node("root", "DAG", "Running", "root"),
        *(each for step in steps for each in step),
    ]
    return {"status": {"nodes": {each["id"]: each for each in nodes}}}


def step(
    name: str, phase: str, *tries: tuple[str, str], driver: str = "Succeeded", said: str = ""
) -> list[Object]:
    """A step's nodes; ``tries`` are phases and messages of its pods, ``driver`` and ``said`` the
    driver's. Without a phase the driver is still at it."""
    first = node(f"{name}-driver", "Pod", driver, "system-container-driver", message=said)
    if not phase:
        return [first]
    whole = node(name, "DAG", phase, EXECUTOR)
    retry = node("executor", "Retry", phase, EXECUTOR.replace("executor", "impl"), within=whole)
    pods = [
        node(f"executor({n})", "Pod", phase, retry["templateName"], message, whole)
        for n, (phase, message) in enumerate(tries)
    ]
    return [first, whole, retry, *pods]


def cached(name: str) -> list[Object]:
    """A step whose outputs the cache had."""
    first, whole, *_ = step(name, "Succeeded")
    why = "when 'true != true' evaluated false"
    return [first, whole, node("executor", "Skipped", "Skipped", "impl", why, whole)]


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
