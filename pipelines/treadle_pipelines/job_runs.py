"""Runs as one Kubernetes Job each, or as a CronJob."""

from collections.abc import Callable
from typing import Any

from treadle import runtime
from treadle.adapters.kubernetes import Cluster
from treadle.adapters.kubernetes_api import Unreachable
from treadle.errors import EnvironmentFault, Interrupted, SpecError
from treadle.spec import Spec
from treadle_pipelines import job, uploads
from treadle_pipelines.following import Outcome, follow

Say = Callable[[str], None]
Show = Callable[[dict[str, Any]], None]


def check(cluster: Cluster) -> str:
    """Make sure that the cluster answers and has what runs need; return its version. Raises
    EnvironmentFault in words where it hasn't."""
    version = cluster.version()
    for kind, name in (("ConfigMap", job.SETTINGS), ("ServiceAccount", job.ACCOUNT)):
        if cluster.get(kind, name) is None:
            raise EnvironmentFault(
                f"namespace {cluster.namespace} at {cluster.address} has no {kind} {name}: make "
                "deploy makes it; TREADLE_NAMESPACE and TREADLE_KUBE_CONTEXT say where to look"
            )
    return version


def under_way(cluster: Cluster, model: str) -> str | None:
    """Return the name of the Job that runs a model now, or None."""
    for found in reversed(cluster.objects("Job", f"treadle/model={model}")):
        conditions = found.get("status", {}).get("conditions") or []
        if not any(c["type"] in ("Complete", "Failed") for c in conditions):
            return str(found["metadata"]["name"])
    return None


def start(cluster: Cluster, spec: Spec, disk: str, say: Say) -> str:
    """Start a Job that runs the spec; return its name. Raises EnvironmentFault where one of this
    model is under way: both would write to the same home."""
    running = under_way(cluster, spec.name)
    if running:
        raise EnvironmentFault(
            f"a run of {spec.name} is under way, Job {running}: --follow shows it, "
            f"kubectl -n {cluster.namespace} delete job {running} ends it"
        )
    name = job.run_name(spec.name)
    _make(cluster, name, spec, disk, job.job, say)
    return name


def schedule(cluster: Cluster, spec: Spec, disk: str, when: str, say: Say) -> str:
    """Start a CronJob for the model, or change the one there is; return its name."""
    name = f"treadle-{spec.name}"[:52].rstrip("-")  # what Kubernetes leaves room for
    _make(cluster, name, spec, disk, lambda n, s: job.cron_job(n, s, when), say)
    return name


def _make(cluster: Cluster, name: str, spec: Spec, disk: str,
          build: Callable[[str, Spec], dict[str, Any]], say: Say) -> None:  # fmt: skip
    there = uploads.uploaded(spec, runtime.object_store, say)
    if cluster.get("PersistentVolumeClaim", job.volume_name(spec.name)) is None:
        cluster.apply(job.volume(spec.name, disk))
    cluster.apply(job.spec_map(name, there))
    try:
        made = cluster.apply(build(name, there))
    except BaseException:
        cluster.delete("ConfigMap", name)
        raise
    cluster.apply(job.spec_map(name, there, owner=made))


def attach(cluster: Cluster, model: str) -> str:
    """Return the Job of a model that runs now. Raises SpecError where there is none."""
    running = under_way(cluster, model)
    if running is None:
        raise SpecError(f"no run of {model} is under way in namespace {cluster.namespace}: leave "
                        "--follow out to start one")  # fmt: skip
    return running


def watch(cluster: Cluster, name: str, show: Show, say: Say) -> Outcome:
    """Follow a Job to its end. Ctrl-C detaches: the Job goes on."""
    try:
        return follow(cluster, name, show, say)
    except KeyboardInterrupt:
        raise Interrupted(f"detached: {_goes_on(cluster, name)}") from None
    except Unreachable as error:
        raise EnvironmentFault(f"{error}. {_goes_on(cluster, name)}") from error


def _goes_on(cluster: Cluster, name: str) -> str:
    return (
        f"Job {name} goes on in the cluster; --follow shows it again, "
        f"kubectl -n {cluster.namespace} delete job {name} ends it"
    )
