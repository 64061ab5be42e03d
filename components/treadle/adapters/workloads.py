"""What Kubernetes objects say of themselves, in words: how far a workload is, and what is wrong
with its pods. Objects are dicts, as the API server prints them.

What each field means: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
# The last lines of a container's log: (container, whether of the instance before this one).
Tail = Callable[[str, bool], list[str]]
_PULL = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_MOUNT = {"FailedMount", "FailedAttachVolume"}


@dataclass(frozen=True)
class Fault:
    """Something wrong with a workload. After ``patience_s`` of it there is no use in waiting: a
    crash may be a start before the database's, a missing image doesn't come by itself."""

    name: str
    words: str
    patience_s: float


@dataclass(frozen=True)
class State:
    """How far a workload is: ``words`` say it, ``fault`` is one that it reports itself."""

    ready: bool
    words: str
    fault: Fault | None = None


def state_of(workload: Object) -> State:
    """Say how far a Deployment, StatefulSet, Job or RayCluster is."""
    match workload["kind"]:
        case "Deployment" | "StatefulSet":
            return _replicas(workload)
        case "Job":
            return _job(workload)
        case "RayCluster":
            return _ray_cluster(workload)
        case kind:
            raise ValueError(f"no one waits for a {kind}")


def _replicas(workload: Object) -> State:
    status = workload.get("status", {})
    wanted = workload["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 1)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    left_over = status.get("replicas", 0) - updated
    if workload["kind"] == "Deployment":
        ready = min(ready, status.get("availableReplicas", 0))
    elif wanted and status.get("currentRevision") != status.get("updateRevision"):
        left_over = max(left_over, 1)
    words = f"{min(ready, updated) if seen else 0} of {wanted} ready"
    words += f", {left_over} of the former version still there" if seen and left_over > 0 else ""
    done = seen and updated >= wanted and ready >= wanted and left_over <= 0
    return State(done, words, _refused_pods(workload))


def _refused_pods(workload: Object) -> Fault | None:
    for condition in _conditions(workload):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Fault("refused", refusal(condition.get("message", "")), 20)
    return None


def refusal(message: str) -> str:
    """Say why the API server lets no pod be made: a quota, Pod Security, a missing account."""
    reason = message.partition("forbidden: ")[2] or message
    if "violates PodSecurity" in reason:
        return f"its pods are refused: {reason}: mend the pod's securityContext"
    if "exceeded quota" in reason:
        return f"its pods are refused: {reason}: ask for less, or raise the quota"
    return f"its pods can't be made: {reason}"


def _job(workload: Object) -> State:
    status = workload.get("status", {})
    for condition in _conditions(workload):
        if condition["status"] == "True" and condition["type"] in ("Failed", "FailureTarget"):
            words = f"failed: {condition.get('message') or condition.get('reason', '')}"
            return State(False, words, Fault("failed", words, 0))
        if condition["status"] == "True" and condition["type"] == "Complete":
            return State(True, "done")
    if workload["spec"].get("suspend"):
        return State(False, "suspended", Fault("suspended", "it is suspended: resume it", 20))
    tried = status.get("failed", 0)
    words = "running" if status.get("ready") else "starting"
    return State(False, words + (f", {tried} tries failed" if tried else ""))


def _ray_cluster(workload: Object) -> State:
    status = workload.get("status", {})
    conditions = {c["type"]: c for c in _conditions(workload)}
    head = conditions.get("HeadPodReady", {}).get("status") == "True"
    provisioned = conditions.get("RayClusterProvisioned", {}).get("status") == "True"
    wanted = status.get("desiredWorkerReplicas", 0)
    there = status.get("readyWorkerReplicas", status.get("availableWorkerReplicas", 0))
    words = f"head {'ready' if head or status.get('state') == 'ready' else 'not ready'}"
    words += f", {there} of {wanted} workers ready" if wanted else ""
    failure = conditions.get("ReplicaFailure", {})
    message = status.get("reason") or failure.get("message", "")
    broken = status.get("state") == "failed" or failure.get("status") == "True"
    fault = Fault("refused", f"KubeRay reports: {message}", 30) if broken else None
    there_is_operator = bool(status)
    if not there_is_operator:
        words = "the KubeRay operator hasn't looked at it yet"
        fault = Fault("unseen", f"{words}: is the operator running?", 90)
    ready = (provisioned or status.get("state") == "ready") and there >= wanted
    return State(ready, words, fault)


def _conditions(thing: Object) -> list[dict[str, Any]]:
    return list(thing.get("status", {}).get("conditions") or [])


def selector_of(workload: Object) -> str:
    """Return the label selector of a workload's pods."""
    name = workload["metadata"]["name"]
    match workload["kind"]:
        case "Job":
            return f"job-name={name}"
        case "RayCluster":
            return f"ray.io/cluster={name}"
        case _:
            labels = workload["spec"]["selector"]["matchLabels"]
            return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def pod_faults(pod: Object, events: Iterable[Object], tail: Tail) -> list[Fault]:
    """Return what is wrong with a pod; ``events`` are those about it, oldest first."""
    if pod["metadata"].get("deletionTimestamp") or is_ready(pod):
        return []
    name, status = pod["metadata"]["name"], pod.get("status", {})
    faults = []
    if status.get("reason") == "Evicted":
        words = f"pod {name} was evicted: {one_line(status.get('message', ''))}"
        faults.append(Fault("evicted", words, 60))
    if words := _unschedulable(pod):
        faults.append(Fault("unschedulable", f"pod {name} finds no node: {words}", 60))
    found = (_container_fault(pod, container, tail) for container in _statuses(pod))
    faults += [fault for fault in found if fault]
    mounts = [event for event in events if event.get("reason") in _MOUNT]
    if mounts and status.get("phase") == "Pending" and not faults:
        words = f"pod {name} doesn't get its volume: {one_line(mounts[-1].get('message', ''))}"
        faults.append(Fault("mount", words, 60))
    return faults


def is_ready(pod: Object) -> bool:
    """Say whether a pod is ready, or has done what it was for."""
    if pod.get("status", {}).get("phase") == "Succeeded":
        return True
    return any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(pod))


def pod_doing(pod: Object, events: Iterable[Object] = ()) -> str:
    """Say what a pod that isn't ready is at; empty for one that is."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return f"pod {name} is ending"
    if is_ready(pod):
        return ""
    if status.get("phase") == "Failed":
        return f"pod {name} failed"
    if status.get("phase") == "Running":
        failing = [e for e in events if "probe failed" in e.get("message", "")]
        if failing:
            return f"pod {name} runs, but: {one_line(failing[-1]['message'])}"
        return f"pod {name} runs, and isn't ready yet"
    scheduled = any(c["type"] == "PodScheduled" and c["status"] == "True" for c in _conditions(pod))
    if not scheduled:
        return f"pod {name} waits for a node"
    waiting = [c for c in _statuses(pod) if "waiting" in c.get("state", {})]
    pulling = [e for e in events if e.get("reason") in ("Pulling", "Pulled")]
    if pulling and pulling[-1]["reason"] == "Pulling":
        return f"pod {name}: {pulling[-1]['message'][:1].lower()}{pulling[-1]['message'][1:]}"
    return f"pod {name} is being made" if waiting or not _statuses(pod) else f"pod {name} starts"


def _statuses(pod: Object) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _unschedulable(pod: Object) -> str:
    refused = [c for c in _conditions(pod) if c["type"] == "PodScheduled"]
    if not refused or refused[0].get("reason") != "Unschedulable":
        return ""
    # What the scheduler says of evicting others comes after the reasons.
    message = refused[0].get("message", "").partition(" preemption:")[0]
    message = message.partition(" no new claims to deallocate")[0]
    if "PersistentVolumeClaim" in message or "persistentvolumeclaim" in message:
        volumes = pod["spec"].get("volumes") or []
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes
                  if "persistentVolumeClaim" in v]  # fmt: skip
        return (
            f"{one_line(message)}: look at kubectl describe pvc {' '.join(claims)} and at whether "
            "the cluster has a default StorageClass"
        )
    if "Insufficient" in message:
        return (
            f"{one_line(message)} (it asks for {_requests(pod)}): give the cluster more, end what "
            "holds it, or ask for less"
        )
    if "taint" in message or "node affinity" in message or "node selector" in message:
        return f"{one_line(message)}: add a node that it may use, or let it use others"
    return one_line(message)


def _requests(pod: Object) -> str:
    requests = [c.get("resources", {}).get("requests", {}) for c in pod["spec"]["containers"]]
    asked = [f"{key} {value}" for request in requests for key, value in sorted(request.items())]
    return ", ".join(asked) or "nothing in particular"


def _container_fault(pod: Object, container: Object, tail: Tail) -> Fault | None:
    name, state = pod["metadata"]["name"], container.get("state", {})
    waiting = state.get("waiting", {})
    reason, message = waiting.get("reason", ""), one_line(waiting.get("message", ""))
    image = container.get("image") or _image(pod, container["name"])
    place = f"pod {name}"
    if reason in _PULL:
        return Fault("image", f"{place}: {_image_words(image, message)}", 30)
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        why = "is no image's name" if reason == "InvalidImageName" else "isn't on the node"
        return Fault("image", f"{place}: {image!r} {why}: correct the image in its manifest", 10)
    if reason in _CONFIG:
        return Fault("config", f"{place} can't start: {message or reason}", 30)
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    if not ended or ended.get("exitCode") == 0:
        return None
    if ended.get("reason") == "OOMKilled":
        limit = _limit(pod, container["name"])
        words = f"{place} was ended because it used more memory than its limit of {limit}: raise "
        return Fault("memory", words + "the limit, or give it less to do", 60)
    previous = "terminated" not in state
    lines = tail(container["name"], previous)
    said = f"; its last words: {' | '.join(lines)}" if lines else ""
    times = container.get("restartCount", 0)
    again = f" again and again ({times} times by now)" if times > 1 else ""
    words = f"{place} ends{again} with exit code {ended.get('exitCode')}{said}"
    return Fault("crash", words, 150)


def _image(pod: Object, name: str) -> str:
    spec = pod["spec"]
    every = [*(spec.get("initContainers") or []), *spec["containers"]]
    return next((str(c.get("image", "")) for c in every if c["name"] == name), "")


def _image_words(image: str, message: str) -> str:
    if re.search(r"not found|does not exist|manifest unknown", message):
        why = "there is no such image where the node looks for it"
    elif re.search(r"denied|unauthorized|401|403", message):
        why = "the image registry refuses: its secret belongs in imagePullSecrets"
    elif re.search(r"no such host|timeout|refused|unreachable|dial tcp", message):
        why = "the image registry can't be reached from the node"
    else:
        why = message or "the node can't pull it"
    return (
        f"no image {image}: {why}. Build it and push it to where the nodes pull from, or, on kind, "
        f"load it: kind load docker-image {image} --name treadle"
    )


def _limit(pod: Object, name: str) -> str:
    for container in pod["spec"]["containers"]:
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "the node's"))
    return "the node's"


def one_line(text: object) -> str:
    """Return a text on one line of bearable length, without its full stop."""
    words = " ".join(str(text).split()).rstrip(".")
    return words if len(words) <= 400 else f"{words[:399]}…"
