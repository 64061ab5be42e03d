"""``treadle submit``: choose the back end, start or schedule a run there, follow it to its end."""

import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console

from treadle import runtime
from treadle.errors import (
    EnvironmentFault,
    GateRefused,
    Interrupted,
    SpecError,
    StoreError,
    TreadleError,
    counted,
    nearest,
)
from treadle.section import interval_s
from treadle.spec import Spec
from treadle.writing import written_aside
from treadle_pipelines import job, job_log, job_runs, kfp_runs
from treadle_pipelines.display import shown

GRAPHS = ("training", "loop")


class BackEnd(StrEnum):
    """Where a run may be submitted to."""

    KFP = "kfp"
    JOB = "job"


@dataclass(frozen=True)
class Options:
    """What the command line says. ``every`` and ``cron`` make it recurring; ``graph`` is training
    or, on KFP, loop."""

    to: BackEnd | None = None
    follow: bool = False
    detach: bool = False
    every: str | None = None
    cron: str | None = None
    experiment: str | None = None
    disk: str = "5Gi"
    graph: str = "training"

    def __post_init__(self) -> None:
        """Raise SpecError where they contradict each other or can't be meant."""
        if self.graph not in GRAPHS:
            raise SpecError(f"--graph {self.graph!r} is none of {', '.join(GRAPHS)}"
                            f"{nearest(self.graph, GRAPHS)}")  # fmt: skip
        if self.every and self.cron:
            raise SpecError("--every and --cron both say when: leave one out")
        if self.follow and (self.detach or self.every or self.cron):
            raise SpecError("--follow looks at a run that is under way: it goes with no other flag")
        if self.follow and self.graph != "training":
            raise SpecError("--follow shows a training: a pass of the loop is followed in KFP's UI")
        if self.every and not re.fullmatch(r"[1-9]\d*[mhd]", self.every):
            raise SpecError(f"--every {self.every!r} is no interval: write 30m, 6h or 7d")
        if self.cron and len(self.cron.split()) != 5:
            raise SpecError(
                f"--cron {self.cron!r} has {counted(len(self.cron.split()), 'field')}, cron has "
                "five: minute, hour, day, month, weekday, as in '0 3 * * 1'"
            )
        if not re.fullmatch(r"[1-9]\d*[MGT]i?", self.disk):
            raise SpecError(f"--disk {self.disk!r} is no size: write it as in 5Gi")


def run(spec: Spec, options: Options) -> tuple[dict[str, Any], int]:
    """Do what the command says; return what a machine wants to know of it, and the exit code."""
    if choose(options.to) is BackEnd.KFP:
        return _on_kfp(spec, options)
    if options.graph != "training":
        raise SpecError(
            "--graph loop is for Kubeflow Pipelines (--to kfp): without it the CronJob monitor "
            "keeps all models good (manifests/base/monitor)"
        )
    return _as_job(spec, options)


def say(words: str) -> None:
    """Tell of progress."""
    print(f"  {words}", file=sys.stderr, flush=True)


def choose(asked: BackEnd | None) -> BackEnd:
    """Return the back end: the one asked for, else KFP where it answers, else a Job; say which.
    Raises where the one that was asked for isn't there."""
    url = runtime.settings().kfp_url
    if asked is BackEnd.JOB:
        return BackEnd.JOB
    if url is None:
        if asked is BackEnd.KFP:
            raise SpecError("--to kfp needs TREADLE_KFP_URL, the address of Kubeflow Pipelines; "
                            "--to job needs no more than the cluster")  # fmt: skip
        say("no TREADLE_KFP_URL is set: submitting as a Kubernetes Job")
        return BackEnd.JOB
    if kfp_runs.answers(url):
        say(f"Kubeflow Pipelines answers at {url}")
        return BackEnd.KFP
    if asked is BackEnd.KFP:
        raise EnvironmentFault(
            f"Kubeflow Pipelines doesn't answer at {url} (TREADLE_KFP_URL): start it or mend the "
            "address; --to job needs no more than the cluster"
        )
    say(f"Kubeflow Pipelines doesn't answer at {url}: submitting as a Kubernetes Job")
    return BackEnd.JOB


def _as_job(spec: Spec, options: Options) -> tuple[dict[str, Any], int]:
    cluster = runtime.cluster(say)
    say(f"Kubernetes {job_runs.check(cluster)} at {cluster.address}, namespace {cluster.namespace}")
    place = {"to": "job", "namespace": cluster.namespace}
    if options.every or options.cron:
        when = options.cron or job.schedule_of(options.every or "")
        name = job_runs.schedule(cluster, spec, options.disk, when, say)
        return place | {"cron_job": name, "schedule": when}, 0
    if options.follow:
        name = job_runs.attach(cluster, spec.name)
    else:
        name = job_runs.start(cluster, spec, options.disk, say)
    if options.detach:
        return place | {"job": name}, 0
    say(f"Job {name}; Ctrl-C leaves it to itself")
    with shown(Console(stderr=True)) as show:
        done = job_runs.watch(cluster, name, show, say)
    if done.summary is None:
        failed = TreadleError(f"Job {name}: {done.error}")
        failed.exit_code = done.exit_code
        raise failed
    report = _fetched_report(done.summary)
    return place | {"job": name} | done.summary | {"report": report}, done.exit_code


def _fetched_report(summary: dict[str, Any]) -> str:
    """Bring the run's report here, where the settings name the cluster's object store; return its
    path, else its address."""
    store, home = runtime.object_store(), runtime.settings().home
    key = job_log.report_key(summary["run"])
    if store.uri(key) != summary["report"]:
        return str(summary["report"])
    path = home / "reports" / f"{summary['model']}-{summary['version']}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(store.get_bytes(key))
    except (StoreError, OSError) as error:
        say(f"the report stays at {summary['report']}: {error}")
        return str(summary["report"])
    return str(path)


def _on_kfp(spec: Spec, options: Options) -> tuple[dict[str, Any], int]:
    kfp = kfp_runs.Kfp(runtime.settings().kfp_url or "")
    experiment = options.experiment or spec.name
    if options.every or options.cron:
        every_s = interval_s(options.every) if options.every else None
        made = kfp.schedule(spec, options.graph, experiment, say, options.cron, every_s)
        link = kfp.recurring_link(made)
        return {"to": "kfp", "recurring_run": made, "experiment": experiment, "link": link}, 0
    if options.follow:
        run_id, name = kfp.under_way(spec.name, experiment)
    else:
        run_id, name = kfp.start(spec, options.graph, experiment, say)
    found = {"to": "kfp", "run": name, "run_id": run_id, "link": kfp.link(run_id)}
    if options.detach:
        return found, 0
    say(f"run {name}: {kfp.link(run_id)}; Ctrl-C leaves it to itself")
    try:
        state = kfp.follow(run_id, say)
    except KeyboardInterrupt:
        raise Interrupted(
            f"detached: run {name} goes on; --follow shows it again, {kfp.link(run_id)} ends it"
        ) from None
    if state != "SUCCEEDED":
        raise kfp.failure(run_id, name)
    if options.graph == "loop":
        return found, 0
    done = kfp_runs.outcome(name)
    return found | done.model_dump(), 0 if done.promoted else GateRefused.exit_code


def words(model: str, found: dict[str, Any]) -> str:
    """Return what a person wants to know of what was done."""
    if "cron_job" in found:
        return (
            f"CronJob {found['cron_job']} runs {model} by {found['schedule']!r} (UTC)\n"
            f"end it: kubectl -n {found['namespace']} delete cronjob {found['cron_job']}"
        )
    if "recurring_run" in found:
        return f"recurring run of {model} in experiment {found['experiment']}: {found['link']}"
    if "version" not in found:
        return str(found.get("link") or f"Job {found['job']} is started")
    state = "champion" if found["promoted"] else "challenger; the champion stays"
    lines = [f"{model} version {found['version']} is the {state}"]
    lines += [f"  {reason}" for reason in found["reasons"]]
    answered = found.get("prediction") or found
    if found["promoted"]:
        # Its address here: the cluster's own is of no use to a reader.
        server = runtime.settings().server_url or answered["server"]
        lines += [f"asked over HTTP:  POST {server}/v1/models/{model}/predict",
                  f"  {answered['request']}", "answered:", f"  {answered['answer']}"]  # fmt: skip
    lines += [f"report:   {found['report']}"] if "report" in found else []
    return "\n".join(lines)
