"""Runs on a Kubeflow Pipelines back end, by KFP's own client."""

import contextlib
import io
import json
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from urllib3.exceptions import HTTPError

from treadle import runtime
from treadle.errors import EnvironmentFault, SpecError, StoreError, TreadleError
from treadle.records import Rollout
from treadle.spec import Spec
from treadle_pipelines import compiling, kfp_steps, uploads
from treadle_pipelines.job import run_name
from treadle_pipelines.kfp_steps import Step

Say = Callable[[str], None]
PROBE_S = 5.0
POLL_S = 5.0
# For each of the four tries that its client makes of a request.
REQUEST_S = (5, 15)
# How long the API server may stay away while a run is followed.
OUTAGE_S = 120.0
_OVER = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
# KFP puts a run's id in its place in all of a workflow. Its own macros, [[ScheduledTime]] and the
# like, stay as they are in recurring runs of compiled graphs (2.17).
_RUN_ID = "{{workflow.uid}}"
_UNDER_WAY = {"PENDING", "RUNNING", "PAUSED"}


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
        self._api = self._client._run_api.api_client
        self._bound_requests()

    def start(self, spec: Spec, graph: str, experiment: str, say: Say) -> tuple[str, str]:
        """Start a run of a graph; return its id at KFP and its name."""
        name = run_name(spec.name)
        there = _there(spec, graph, say)
        with self._compiled(there, graph) as package, self._in_words(f"run {name}"):
            run = self._client.run_pipeline(
                self._experiment(experiment),
                name,
                pipeline_package_path=str(package),
                params=compiling.arguments(there, graph, name),
            )
        return str(run.run_id), name

    def schedule(
        self, spec: Spec, graph: str, experiment: str, say: Say, cron: str | None,
        interval_s: int | None,
    ) -> str:  # fmt: skip
        """Start a recurring run in place of the model's former ones of that graph; return its id.
        ``cron`` has five fields, KFP's begins with the seconds."""
        there = _there(spec, graph, say)
        name = f"treadle-{spec.name}" if graph == "training" else f"treadle-{graph}-{spec.name}"
        with self._compiled(there, graph) as package, self._in_words(f"recurring run {name}"):
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
                params=compiling.arguments(there, graph, f"{spec.name}-{_RUN_ID}"),
            )
            self._end(former, place)
        return str(made.recurring_run_id)

    def _end(self, former: Sequence[Any], experiment_id: str) -> None:
        """End recurring runs. Kubernetes removes with one the workflow that it has started: where a
        run of it is under way, it is only switched off, and removed another time."""
        runs = (
            self._client.list_runs(
                page_size=100, sort_by="created_at desc", experiment_id=experiment_id
            ).runs
            or []
        )
        busy = {run.recurring_run_id for run in runs if run.state in _UNDER_WAY}
        for each in former:
            self._client.disable_recurring_run(each.recurring_run_id)
            if each.recurring_run_id not in busy:
                self._client.delete_recurring_run(each.recurring_run_id)

    def link(self, run_id: str) -> str:
        """Return the address of a run in the UI."""
        return f"{self.url}/#/runs/details/{run_id}"

    def recurring_link(self, recurring_run_id: str) -> str:
        """Return the address of a recurring run in the UI, where it can be ended too."""
        return f"{self.url}/#/recurringrun/details/{recurring_run_id}"

    def under_way(self, model: str, experiment: str) -> tuple[str, str]:
        """Return the id at KFP and the name of the run of a model that is under way. Raises
        SpecError where there is none."""
        with self._in_words(f"runs of {model}"):
            place = self._experiment(experiment)
            found = self._client.list_runs(
                page_size=50, sort_by="created_at desc", experiment_id=place
            )
        for run in found.runs or []:
            arguments = (run.runtime_config.parameters if run.runtime_config else None) or {}
            is_training = "run_id" in arguments  # a pass of the loop has none
            if run.state in _UNDER_WAY and arguments.get("model") == model and is_training:
                name = str(arguments["run_id"]).replace(_RUN_ID, str(run.run_id))
                return str(run.run_id), name
        raise SpecError(
            f"no run of {model} is under way in experiment {experiment!r} at {self.url}: leave "
            "--follow out to start one"
        )

    def follow(self, run_id: str, say: Say) -> str:
        """Tell of each step as it gets on, until the run is over; return its state. A short outage
        is waited for. Raises EnvironmentFault where a pod can't begin, with the reason; the run is
        left as it is."""
        told: dict[str, str] = {}
        patience = kfp_steps.Patience()
        away_since: float | None = None
        while True:
            try:
                state, steps = self._look(run_id)
                away_since = None
            except _Pending as error:
                if away_since is None:
                    away_since = time.monotonic()
                    say(f"{error}; waiting for it, {OUTAGE_S:.0f} s at most")
                if time.monotonic() - away_since > OUTAGE_S:
                    raise EnvironmentFault(
                        f"{error}; the run goes on: {self.link(run_id)}"
                    ) from None
                time.sleep(POLL_S)
                continue
            for step in steps:
                if told.get(step.name) != step.words:
                    told[step.name] = step.words
                    say(f"{step.name}: {step.words}")
            if state in _OVER:
                return state
            if stuck := patience.ended(steps):
                raise EnvironmentFault(
                    f"{stuck}. The run is left as it is, and goes on when that is mended: "
                    f"{self.link(run_id)}"
                )
            time.sleep(POLL_S)

    def failure(self, run_id: str, name: str) -> TreadleError:
        """Return what ended a run, in the words of the step that failed and with its exit code."""
        state, steps = self._look(run_id)
        failed = [step for step in steps if step.fault]
        words = "; ".join(step.fault for step in failed)
        if not failed:
            words = f"it is {state.lower()}, and none of its steps says why"
        if state == "CANCELED":
            words = "somebody has ended it"
        error = TreadleError(f"run {name}: {words}; its log: {self.link(run_id)}")
        error.exit_code = failed[0].exit_code if failed else error.exit_code
        return error

    def _look(self, run_id: str) -> tuple[str, Sequence[Step]]:
        with self._in_words(f"run {run_id}"):
            run = self._client.get_run(run_id)
            workflow = self._workflow(run_id)
        found = kfp_steps.steps(workflow) if workflow else kfp_steps.named(run)
        return str(run.state), found

    def _workflow(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's Argo workflow, which only KFP's older interface gives; None where it
        isn't served, or not yet."""
        import kfp_server_api

        try:
            found = self._api.call_api(
                "/apis/v1beta1/runs/{run_id}",
                "GET",
                {"run_id": run_id},
                response_type="object",
                auth_settings=["Bearer"],
                _return_http_data_only=True,
            )
        except kfp_server_api.ApiException as error:
            if error.status in (404, 405, 501):
                return None
            raise
        manifest = (found.get("pipeline_runtime") or {}).get("workflow_manifest")
        return json.loads(manifest) if manifest else None

    def _experiment(self, name: str) -> str:
        return str(self._client.create_experiment(name).experiment_id)

    def _bound_requests(self) -> None:
        """See that every request ends: KFP's client waits for ever where it isn't told with each
        one how long."""
        rest = self._api.rest_client
        unbounded = rest.request

        def request(*arguments: Any, **named: Any) -> Any:
            return unbounded(*arguments, **named | {"_request_timeout": REQUEST_S})

        rest.request = request

    @contextlib.contextmanager
    def _compiled(self, spec: Spec, graph: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="treadle-") as scratch:
            package = Path(scratch) / "pipeline.yaml"
            compiling.write(spec, graph, package)
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
            if _is_refusal(error):
                raise EnvironmentFault(
                    f"Kubeflow Pipelines at {self.url} refuses ({what}; {error.status}): {said}"
                ) from error
            raise _Pending(f"Kubeflow Pipelines at {self.url} is in trouble: {said}") from error
        except (HTTPError, OSError) as error:
            raise _Pending(
                f"Kubeflow Pipelines at {self.url} doesn't answer ({type(error).__name__}): does "
                "it run, and is TREADLE_KFP_URL its address?"
            ) from error


def _there(spec: Spec, graph: str, say: Say) -> Spec:
    """Return the spec with its files where the cluster can read them, if the graph reads any."""
    return uploads.uploaded(spec, runtime.object_store, say) if graph == "training" else spec


def _is_refusal(error: Any) -> bool:
    """Say whether KFP itself has said no. What is in front of it (its page, an ingress) has words
    of its own while KFP is away, such as 404 in plain text."""
    if not error.status or error.status >= 500:
        return False
    return error.status in (401, 403) or _answer(error) is not None


def _said(error: Any) -> str:
    """Return the message in KFP's answer."""
    body = _answer(error)
    if body is None:
        return f"{error.status} {str(error.body or error.reason)[:400]}"
    return str(body.get("message") or body.get("error") or body)[:400]


def _answer(error: Any) -> dict[str, Any] | None:
    """Return what KFP's API says of a fault; None where it isn't KFP that speaks."""
    try:
        body = json.loads(error.body)
    except (TypeError, ValueError):
        return None
    return body if isinstance(body, dict) else None


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
