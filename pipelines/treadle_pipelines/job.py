"""The Kubernetes objects of a run: a Job that runs the whole graph in one pod, by the launcher that
laptops use, or a CronJob that does so again and again.

The home is on a volume that lasts, one for each model: a pod that is replaced goes on from the
steps that were finished, and so does the next run.
"""

from datetime import UTC, datetime
from typing import Any

import yaml

from treadle.config import STEP_IMAGE
from treadle.errors import SpecError
from treadle.spec import Resources, Spec, Stage

Object = dict[str, Any]
CONTAINER = "run"
SETTINGS, SECRET, ACCOUNT = "treadle-settings", "treadle-s3", "treadle-steps"
# Holds TREADLE_SIGNING_KEY, where bundles are to be signed.
SIGNING = "treadle-signing"
HOME, SPEC_FILE = "/home/treadle", "spec.yaml"
USER = 10001
# A finished Job and its log stay for three days.
KEEP_S = 3 * 24 * 3600


def run_name(model: str) -> str:
    """Return a name for a run that no other has, short enough for a label."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{model[:40].rstrip('-')}-{stamp}"


def labels(model: str) -> dict[str, str]:
    """Return the labels by which a model's objects are found."""
    return {
        "app.kubernetes.io/name": "run",
        "app.kubernetes.io/part-of": "treadle",
        "treadle/model": model,
    }


def whole_run(resources: Resources) -> Resources:
    """Return what a pod needs that runs every step: the most that any of them asks for."""
    each = [resources.of(stage) for stage in Stage]
    return Resources(
        cpu=max(asked.cpu for asked in each),
        cpu_limit=max(asked.cpu_limit for asked in each),
        memory=max((asked.memory for asked in each), key=size_bytes),
        retries=max(asked.retries for asked in each),
    )


def size_bytes(quantity: str) -> float:
    """Return a Kubernetes quantity such as ``3Gi`` as a number of bytes."""
    number = quantity.rstrip("kMGTi")
    unit = quantity.removeprefix(number)
    power = ["", "k", "M", "G", "T"].index(unit.rstrip("i"))
    return float(number) * float((1024 if unit.endswith("i") else 1000) ** power)


def volume(model: str, size: str) -> Object:
    """Return the claim of a model's home."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return _object("v1", "PersistentVolumeClaim", volume_name(model), model) | {"spec": spec}


def volume_name(model: str) -> str:
    """Return the name of the claim of a model's home."""
    return f"treadle-home-{model}"


def spec_map(name: str, spec: Spec, owner: Object | None = None) -> Object:
    """Return the ConfigMap that carries the spec; it goes when its owner does."""
    # What a person wrote, no more: an image of other code has defaults of its own.
    whole = spec.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    made = _object("v1", "ConfigMap", name, spec.name) | {"data": {SPEC_FILE: text}}
    if owner is not None:
        made["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    return made


def job(name: str, spec: Spec) -> Object:
    """Return the Job that runs a spec once."""
    return _object("batch/v1", "Job", name, spec.name) | {"spec": _job_spec(name, spec)}


def cron_job(name: str, spec: Spec, schedule: str) -> Object:
    """Return the CronJob that runs a spec by a schedule (cron's five fields, UTC)."""
    template = {"metadata": {"labels": labels(spec.name)}, "spec": _job_spec(name, spec)}
    return _object("batch/v1", "CronJob", name, spec.name) | {
        "spec": {
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            # One that couldn't start in time (the cluster was down) is made up for within the hour.
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": template,
        }
    }


def _object(version: str, kind: str, name: str, model: str) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels(model)},
    }


def _job_spec(name: str, spec: Spec) -> Object:
    asked = whole_run(spec.resources)
    return {
        "backoffLimit": asked.retries,
        "ttlSecondsAfterFinished": KEEP_S,
        # Two pods must never share the home: the next one comes when the last is gone.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                # A gate's no, misuse and what is sure to fail again are not tried again.
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [1, 2, 3],
                    },
                },
                # A drained node and the like are no fault of the run's.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]
        },
        "template": {"metadata": {"labels": labels(spec.name)}, "spec": _pod(name, spec, asked)},
    }


def _pod(name: str, spec: Spec, asked: Resources) -> Object:
    return {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        # Else every Service adds variables, some of them called TREADLE_.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(asked)],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": volume_name(spec.name)}},
            {"name": "spec", "configMap": {"name": name}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
            # Ray keeps its objects in shared memory.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        ],
    }


def _container(asked: Resources) -> Object:
    return {
        "name": CONTAINER,
        "image": STEP_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["treadle", "run", f"/etc/treadle/{SPEC_FILE}", "--events"],
        "envFrom": [
            {"configMapRef": {"name": SETTINGS}},
            {"secretRef": {"name": SECRET}},
            {"secretRef": {"name": SIGNING, "optional": True}},
        ],
        "env": [
            {"name": "TREADLE_HOME", "value": HOME},
            {"name": "TREADLE_STEP_IMAGE", "value": STEP_IMAGE},
        ],
        "resources": {
            "requests": {"cpu": f"{asked.cpu:g}", "memory": asked.memory},
            "limits": {"cpu": f"{asked.cpu_limit:g}", "memory": asked.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "spec", "mountPath": "/etc/treadle", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }


def schedule_of(every: str) -> str:
    """Return cron's five fields (UTC) for an interval such as ``30m``, ``6h``, ``1d`` or ``7d``.
    Raises SpecError for one that cron can't keep."""
    now = datetime.now(UTC)
    number, unit = every[:-1], every[-1:]
    count = int(number) if number.isdecimal() else 0
    if unit == "m" and count and 60 % count == 0:
        return f"*/{count} * * * *" if count < 60 else f"{now.minute} * * * *"
    if unit == "h" and count and 24 % count == 0:
        return f"{now.minute} */{count} * * *" if count < 24 else schedule_of("1d")
    if every == "1d":
        return f"{now.minute} {now.hour} * * *"
    if every == "7d":
        return f"{now.minute} {now.hour} * * {now.isoweekday() % 7}"
    raise SpecError(
        f"--every {every!r} is no interval that a CronJob keeps: minutes that divide an hour "
        "(30m), hours that divide a day (6h), 1d or 7d; --cron takes cron's five fields"
    )
