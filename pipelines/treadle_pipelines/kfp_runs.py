"""Runs on a Kubeflow Pipelines back end, by KFP's own client."""

import contextlib
import io
import json
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from urllib3.exceptions import HTTPError

from treadle import runtime
from treadle.errors import EnvironmentFault, StoreError, TreadleError
from treadle.records import Rollout
from treadle.spec import Spec
from treadle_pipelines import compiling, uploads
from treadle_pipelines.job import run_name

Say = Callable[[str], None]
PROBE_S = 5.0
POLL_S = 5.0
# How long the API server may stay away while a run is followed.
OUTAGE_S = 120.0
_OVER = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


class _Pending(EnvironmentFault):
    """KFP didn't answer this time."""


class Kfp:
    """A Kubeflow Pipelines API at ``url``. Every method raises EnvironmentFault in words where it
    doesn't answer or refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._in_words("connect"):
            import kfp

            self._client = kfp.Client(host=self.url)

    def start(self, spec: Spec, experiment: str, say: Say) -> tuple[str, str]:
        """Start a run of the training graph; return its id at KFP and its name."""
        name = run_name(spec.name)
        there = uploads.uploaded(spec, runtime.object_store, say)
        with self._compiled(there) as package, self._in_words(f"run {name}"):
            run = self._client.run_pipeline(
                self._experiment(experiment),
                name,
                pipeline_package_path=str(package),
                params=compiling.cluster_arguments(there, name),
            )
        return str(run.run_id), name

    def schedule(
        self, spec: Spec, experiment: str, say: Say, cron: str | None, interval_s: int | None
    ) -> str:
        """Start a recurring run in place of the model's former ones; return its id. ``cron`` has
        five fields, KFP's begins with the seconds."""
        there = uploads.uploaded(spec, runtime.object_store, say)
        name = f"treadle-{spec.name}"
        with self._compiled(there) as package, self._in_words(f"recurring run {name}"):
            place = self._experiment(experiment)
            found = self._client.list_recurring_runs(page_size=100, experiment_id=place)
            former = [r for r in found.recurring_runs or [] if r.display_name == name]
            made = self._client.create_recurring_run(
                place,
                name,
                cron_expression=f"0 {cron}" if cron else None,
                interval_second=interval_s,
                no_catchup=True,
                pipeline_package_path=str(package),
                # KFP puts the time of each run in.
                params=compiling.cluster_arguments(there, f"{spec.name}-[[ScheduledTime]]"),
            )
            for each in former:
                self._client.delete_recurring_run(each.recurring_run_id)
        return str(made.recurring_run_id)

    def link(self, run_id: str) -> str:
        """Return the address of a run in the UI."""
        return f"{self.url}/#/runs/details/{run_id}"

    def follow(self, run_id: str, say: Say) -> str:
        """Tell of each step as it gets on, until the run is over; return its state. A short outage
        is waited for."""
        told: dict[str, str] = {}
        away_since: float | None = None
        while True:
            try:
                with self._in_words(f"run {run_id}"):
                    run = self._client.get_run(run_id)
                away_since = None
            except _Pending as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > OUTAGE_S:
                    raise EnvironmentFault(
                        f"{error}; the run goes on: {self.link(run_id)}"
                    ) from None
                time.sleep(POLL_S)
                continue
            for task, words in _steps(run):
                if told.get(task) != words:
                    told[task] = words
                    say(f"{task}: {words}")
            if run.state in _OVER:
                return str(run.state)
            time.sleep(POLL_S)

    def fault(self, run_id: str) -> str:
        """Return what KFP says of the steps that failed."""
        with self._in_words(f"run {run_id}"):
            run = self._client.get_run(run_id)
        details = (run.run_details.task_details if run.run_details else None) or []
        failed = [t for t in details if t.state == "FAILED" and t.pod_name]
        words = [f"{t.display_name} failed" + (f" ({t.error.message})" if t.error else "")
                 for t in failed or [t for t in details if t.state == "FAILED"]]  # fmt: skip
        words += [run.error.message] if run.error and run.error.message else []
        return "; ".join(dict.fromkeys(words)) or f"the run is {str(run.state).lower()}"

    def _experiment(self, name: str) -> str:
        return str(self._client.create_experiment(name).experiment_id)

    @contextlib.contextmanager
    def _compiled(self, spec: Spec) -> Iterator[Path]:
        with TemporaryDirectory(prefix="treadle-") as scratch:
            package = Path(scratch) / "pipeline.yaml"
            compiling.write(spec, "training", package)
            yield package

    @contextlib.contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        """Keep KFP's client quiet (it prints links and warns of its own Python), and put its faults
        into words."""
        import kfp_server_api

        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            said = _said(error)
            if error.status and error.status < 500:
                raise EnvironmentFault(
                    f"Kubeflow Pipelines at {self.url} refuses ({what}; {error.status}): {said}"
                ) from error
            raise _Pending(f"Kubeflow Pipelines at {self.url} is in trouble: {said}") from error
        except (HTTPError, OSError) as error:
            raise _Pending(
                f"Kubeflow Pipelines at {self.url} doesn't answer ({type(error).__name__}): does "
                "it run, and is TREADLE_KFP_URL its address?"
            ) from error


def _said(error: Any) -> str:
    """Return the message in KFP's answer."""
    try:
        body = json.loads(error.body)
        return str(body.get("message") or body.get("error") or body)[:400]
    except (TypeError, ValueError, AttributeError):
        return str(error.body or error.reason)[:400]


def _steps(run: Any) -> Iterator[tuple[str, str]]:
    """Yield each step and its state in words; drivers, which prepare a step, and the graph itself
    are left out."""
    details = (run.run_details.task_details if run.run_details else None) or []
    for task in details:
        name = task.display_name or ""
        if not name or name.endswith("-driver") or name in ("root", run.display_name):
            continue
        words = str(task.state or "pending").lower()
        if task.state in _OVER and task.start_time and task.end_time:
            words += f" after {(task.end_time - task.start_time).total_seconds():.0f} s"
        yield name, words


def answers(url: str) -> bool:
    """Say whether Kubeflow Pipelines answers at ``url``, within seconds."""
    probe = f"{url.rstrip('/')}/apis/v2beta1/healthz"
    try:
        with urllib.request.urlopen(probe, timeout=PROBE_S) as answer:  # noqa: S310 - http(s) only
            return isinstance(json.load(answer), dict)
    except (OSError, ValueError):
        return False


def outcome(name: str) -> Rollout:
    """Return what deployment did in a run, as it left it in the object store."""
    try:
        return Rollout.model_validate_json(runtime.object_store().get_bytes(Rollout.key(name)))
    except StoreError as error:
        raise TreadleError(
            f"the run is done, but what it decided can't be read here ({error}): treadle models "
            "shows it"
        ) from error
