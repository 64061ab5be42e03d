"""How far the steps of a run on Kubeflow Pipelines are, read from its Argo workflow: only there do
pods say why they wait and how they ended.

A step is a task of the graph: its driver is a pod, then comes a DAG of its own around an executor,
which is a pod for each try, or is skipped where the cache has the outputs. KFP has Argo try all of
them again where the surroundings fail, so each is a node for the whole and one for each try, called
``name(0)`` and so on.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from treadle import last_words

Node = Mapping[str, Any]
_STEP, _DRIVER = "system-container-executor", "system-container-driver"
_FAILED = ("Failed", "Error")
# How long a pod may wait for what is wrong with it: an image or a secret that isn't there doesn't
# come by itself, a node may be on its way. All else (a volume, a large image) has the last.
_PATIENCE_S = {
    "ErrImagePull": 60.0,
    "ImagePullBackOff": 60.0,
    "InvalidImageName": 60.0,
    "ErrImageNeverPull": 60.0,
    "CreateContainerConfigError": 60.0,
    "CreateContainerError": 60.0,
    "Unschedulable": 300.0,
}
SLOW_S = 900.0
_NOT_BEGUN = (
    f"nothing of the run has begun within {SLOW_S:.0f} s: does KFP's workflow controller run?"
)
_WAYS_OUT = {
    "Unschedulable": "give the cluster more, end what holds it, or ask for less (resources in the "
                     "spec)",
    "CreateContainerConfigError": "make it in the namespace where KFP runs its pods",
}  # fmt: skip
_IMAGE_WAY_OUT = "push the image to where the nodes pull from, or load it into them"


@dataclass(frozen=True)
class Step:
    """A step of a run. ``words`` say how far it is; ``waits`` why its pod can't begin, if it can't,
    and ``patience_s`` for how long that may be; ``fault`` what ended it, with the exit code."""

    name: str
    words: str
    waits: str = ""
    patience_s: float = SLOW_S
    fault: str = ""
    exit_code: int = 1


def steps(workflow: Mapping[str, Any]) -> list[Step]:
    """Return the steps that have begun, in the order in which they did."""
    nodes = list(((workflow.get("status") or {}).get("nodes") or {}).values())
    # What comes after a failure is there too, as left out.
    nodes = [node for node in nodes if node.get("phase") != "Omitted"]
    nodes.sort(key=lambda node: str(node.get("startedAt") or "9"))
    drivers = {_name(node): node for node in nodes if _is(node, "Pod", _DRIVER)}
    wholes = {_name(node): node for node in nodes if _is(node, "DAG", _STEP)}
    return [
        _step(name, wholes[name], _inside(nodes, wholes[name]))
        if name in wholes
        else _prepared(name, driver)
        for name, driver in drivers.items()
    ]


def _is(node: Node, kind: str, template: str) -> bool:
    return node["type"] == kind and str(node.get("templateName")).endswith(template)


def _name(node: Node) -> str:
    return re.sub(r"(-driver)?(\(\d+\))?$", "", str(node["displayName"]))


def _inside(nodes: Iterable[Node], whole: Node) -> list[Node]:
    """Return the tries of a step, or the node that stands for what the cache had."""
    within = (node for node in nodes if node.get("boundaryID") == whole["id"])
    return [node for node in within if node["type"] in ("Pod", "Skipped")]


def _prepared(name: str, driver: Node) -> Step:
    """Return a step that KFP's driver is at."""
    if driver.get("phase") in _FAILED:
        message = str(driver.get("message", "")).strip()
        return Step(name, "failed", fault=f"{name}: KFP's driver failed ({message})")
    words = "is being prepared"
    return _waiting(name, driver) or Step(name, words, waits="KFP's driver doesn't get on")


def _step(name: str, whole: Node, tries: list[Node]) -> Step:
    if not tries:
        return Step(name, "starts")
    last = tries[-1]
    match whole.get("phase"):
        case "Succeeded" if last["type"] == "Skipped":
            return Step(name, "from the cache")
        case "Succeeded":
            return Step(name, f"done after {_seconds(last):.0f} s")
        case "Failed" | "Error":
            fault, exit_code = _fault(name, last)
            return Step(name, f"failed after {_seconds(last):.0f} s", fault=fault,
                        exit_code=exit_code)  # fmt: skip
    failed = [node for node in tries if node.get("phase") in _FAILED]
    if not failed:
        return _waiting(name, last) or Step(name, "runs")
    said, _ = _fault(name, failed[-1])
    again = f"try {len(failed) + 1}" if last not in failed else "is tried again"
    return _waiting(name, last) or Step(name, f"{again}, after: {said}")


def _waiting(name: str, pod: Node) -> Step | None:
    """Return the step where its pod has a reason not to begin."""
    message = " ".join(str(pod.get("message", "")).split())
    if pod.get("phase") != "Pending" or not message:
        return None
    reason = message.partition(":")[0]
    # What the scheduler says of evicting others comes after the reasons.
    told = re.split(r" preemption:| no new claims to deallocate", message)[0].rstrip(". ")
    if reason not in _PATIENCE_S:
        return Step(name, "starts", waits=f"its pod waits: {told}")
    way_out = _WAYS_OUT.get(reason, _IMAGE_WAY_OUT)
    waits = f"its pod can't begin ({told}): {way_out}"
    return Step(name, waits, waits=waits, patience_s=_PATIENCE_S[reason])


def _fault(name: str, pod: Node) -> tuple[str, int]:
    """Return why a try failed, in the step's own words where it left some, and its exit code."""
    message = str(pod.get("message", "")).strip()
    if left := last_words.read(message):
        # Before the step's words stands what Argo says of the container.
        words, exit_code = left
        return re.sub(r"^main: \w+ \(exit code \d+\): ", "", words), exit_code
    if "OOMKilled" in message or "exit code 137" in message:
        return (
            f"{name} used more memory than its limit: raise memory (resources in the spec), or "
            "give it a smaller table"
        ), 1
    return f"{name} ended without a word of its own ({message or 'nor any of Argo'})", 1


def _seconds(node: Node) -> float:
    begun, ended = node.get("startedAt"), node.get("finishedAt")
    if not begun or not ended:
        return 0.0
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


class Patience:
    """Since when steps have been waiting for the same thing."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def ended(self, steps: Sequence[Step]) -> str:
        """Return why there is no use in waiting any longer; empty while there is."""
        now = time.monotonic()
        waits = {f"{step.name}: {step.waits}": step.patience_s for step in steps if step.waits}
        if not steps:
            waits = {_NOT_BEGUN: SLOW_S}
        self._since = {words: self._since.get(words, now) for words in waits}
        over = (w for w, patience_s in waits.items() if now - self._since[w] >= patience_s)
        return next(over, "")


def named(run: Any) -> list[Step]:
    """Return the steps by what KFP's newer interface tells of them: name and state. It gives nodes
    of Argo; a step is one that has a driver."""
    details = (run.run_details.task_details if run.run_details else None) or []
    drivers = {task.display_name for task in details}
    return [
        Step(
            task.display_name,
            str(task.state or "pending").lower(),
            fault=f"{task.display_name} failed" if task.state == "FAILED" else "",
        )
        for task in details
        if f"{task.display_name}-driver" in drivers and task.display_name != "root"
    ]
