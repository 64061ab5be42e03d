"""The launcher for this machine: runs the graphs with ``kfp.local``, each step a process of its
own, and shows how they get on.

Steps whose inputs haven't changed are taken from kfp.local's cache, so an interrupted run goes on
from what was finished. What kfp and the steps print goes to the run's log; people see the events
that the steps report.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from treadle import runtime
from treadle.config import Settings
from treadle.errors import HOME_WAY_OUT, EnvironmentFault, TreadleError, from_os_error
from treadle.progress import EVENTS_VARIABLE
from treadle.spec import Spec, Stage
from treadle.step import INTERRUPTED, LAUNCHER_VARIABLE
from treadle.training.boosters import check_installed
from treadle.writing import written_aside
from treadle_pipelines import processes
from treadle_pipelines.arguments import feedback_arguments, training_arguments

STAGES = tuple(stage.value for stage in Stage)
RUN_VARIABLE = "TREADLE_RUN_ID"
FAMILY_EVERY_S = 1.0
Event = dict[str, Any]


class StepFailed(TreadleError):
    """A step ended with a fault that it put into words itself."""

    def __init__(self, stage: str, words: str, exit_code: int, may_pass: bool = False) -> None:
        super().__init__(f"{stage}: {words}")
        self.exit_code = exit_code
        self.may_pass = may_pass


@dataclass
class StepTimes:
    """What a step cost. ``overhead_s`` is all that isn't its own work: starting a process,
    imports, kfp's bookkeeping."""

    stage: str
    work_s: float
    overhead_s: float


@dataclass
class Run:
    """A run under way or done: its directory, what each stage reported, what each step cost."""

    run_id: str
    directory: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    times: list[StepTimes] = field(default_factory=list)
    under_way: str | None = None
    failure: Event | None = None
    seconds: float = 0.0
    begin_registry: Callable[[], None] = lambda: None


def run(spec: Spec, show: Callable[[Event], None]) -> Run:
    """Run the training graph and, where it promoted, the feedback graph.

    ``show`` gets every event as it comes. Raises StepFailed with the step's own words and exit
    code, KeyboardInterrupt when interrupted; either way no process is left behind.
    """
    from treadle.ingestion.sources import fingerprint

    check_installed(spec.training.families)
    settings = runtime.settings()
    check_home(settings)
    runtime.object_store()  # raises where its settings can't be meant
    seen = fingerprint(spec.source, runtime.outside())
    with _only_run(settings, spec.name):
        started = time.monotonic()
        current = _new_run(settings, spec)
        champion = runtime.registry().aliased(spec.name, "champion")
        digest = champion.digest if champion else ""
        arguments = training_arguments(spec, seen, digest, current.run_id)
        with _observed(current, show), _no_process_left(current):
            _execute(current, settings, "training_pipeline", arguments)
            if current.results.get("deploy", {}).get("promoted"):
                _execute(current, settings, "feedback_pipeline", feedback_arguments(spec))
        current.seconds = time.monotonic() - started
    return current


def check_home(settings: Settings) -> None:
    """Make sure that the home can be written to. Raises EnvironmentFault in words."""
    probe = settings.home / f".writable-{os.getpid()}"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"treadle" * 1024)
    except OSError as error:
        raise _home_fault(settings, error) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _home_fault(settings: Settings, error: OSError) -> TreadleError:
    error.filename = str(settings.home)
    return from_os_error(error) or EnvironmentFault(
        f"the home {settings.home} can't be used: {(error.strerror or str(error)).lower()}: "
        f"{HOME_WAY_OUT}"
    )


@contextlib.contextmanager
def _only_run(settings: Settings, model: str) -> Iterator[None]:
    """Let one run a model at a time write to this home."""
    locks = settings.home / "locks"
    try:
        locks.mkdir(exist_ok=True)
        lock = (locks / model).open("a")
    except OSError as error:
        raise _home_fault(settings, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"another run of {model!r} is under way in {settings.home}: wait for it, or end it"
            ) from None
        yield


def _new_run(settings: Settings, spec: Spec) -> Run:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    run_id = f"{spec.name}-{stamp}"
    directory = settings.home / "runs" / run_id
    try:
        directory.mkdir(parents=True)
        with written_aside(directory / "spec.json") as aside:
            aside.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise _home_fault(settings, error) from error
    return Run(run_id, directory)


def _execute(current: Run, settings: Settings, graph: str, arguments: dict[str, object]) -> None:
    """Run one graph with kfp.local; its own output goes to the run's log."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((current.directory / "run.log").open("a", encoding="utf-8"))
        # kfp and its steps leave things in the temporary directory, all the more when ended early.
        scratch = stack.enter_context(
            TemporaryDirectory(prefix="treadle-run-", ignore_cleanup_errors=True)
        )
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(_environment(current, settings, scratch))
        stack.enter_context(warnings.catch_warnings())
        # kfp warns that our steps' image isn't Python's own: here its interpreter is ours.
        warnings.simplefilter("ignore", RuntimeWarning)
        current.begin_registry = stack.enter_context(runtime.registry_beside())
        from kfp import local

        from treadle_pipelines import graphs

        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(settings.home / "steps" / current.run_id),
            workspace_root=f"{scratch}/workspace",
            enable_caching=True,
            cache_root=str(settings.home / "cache" / "steps"),
        )
        try:
            getattr(graphs, graph)(**arguments)
        except (RuntimeError, OSError) as error:
            raise _failure(current, settings, error) from error


def _failure(current: Run, settings: Settings, error: Exception) -> TreadleError:
    """Find the failed step's own words; kfp only says that it failed."""
    time.sleep(0.3)  # the observer reads the last events
    log = current.directory / "run.log"
    if failed := current.failure:
        if failed["exit_code"] == INTERRUPTED:
            raise KeyboardInterrupt
        words = failed["error"]
        words = f"{words}; the log is {log}" if "a fault in" in words else words
        return StepFailed(failed["stage"], words, failed["exit_code"], failed["may_pass"])
    check_home(settings)  # a full disk takes no last words either
    if isinstance(error, OSError):
        return _home_fault(settings, error)
    stage = current.under_way or "the pipeline"
    return StepFailed(
        stage,
        "its process was killed, as happens where memory runs out: run it again, and it "
        f"goes on from what was finished; the log is {log}",
        1,
    )


@contextlib.contextmanager
def _environment(current: Run, settings: Settings, scratch: str) -> Iterator[None]:
    """Give the steps their settings through the environment, as a pod would get them."""
    given = settings.as_environment() | {
        EVENTS_VARIABLE: str(current.directory / "events.jsonl"),
        LAUNCHER_VARIABLE: str(os.getpid()),
        RUN_VARIABLE: current.run_id,
        "TMPDIR": scratch,
    }
    former = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _observed(current: Run, show: Callable[[Event], None]) -> Iterator[None]:
    """Follow the events while the graph runs."""
    path = current.directory / "events.jsonl"
    path.touch()
    done = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as events:
            while True:
                last_look = done.is_set()
                for line in events:
                    event = json.loads(line)
                    _take_in(current, event)
                    show(event)
                if last_look:
                    return
                time.sleep(0.1)

    observer = threading.Thread(target=follow, name="observer", daemon=True)
    observer.start()
    try:
        yield
    finally:
        done.set()
        observer.join()
        _add_up(current, path)


def _take_in(current: Run, event: Event) -> None:
    match event["kind"]:
        case "started":
            current.under_way = event["stage"]
            if event["stage"] == "train":
                current.begin_registry()
        case "finished":
            current.under_way = None
            current.results[event["stage"]] = event["results"]
        case "failed":
            current.failure = event


def _add_up(current: Run, path: Path) -> None:
    """Work out what each step cost beyond its own work: from the end of the step before (or the
    process's start) to its own end, less its work without imports."""
    events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    begun: dict[str, Event] = {}
    for event in events:
        if event["kind"] == "started":
            begun[event["stage"]] = event
        elif event["kind"] == "finished":
            stage = event["stage"]
            whole = event["at"] - begun[stage]["process_started"]
            work = event["work_s"] - event["import_s"]
            current.times.append(StepTimes(stage, work, max(whole - work, 0.0)))


@contextlib.contextmanager
def _no_process_left(current: Run) -> Iterator[None]:
    """End every process of this run that is still there when the block is left."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # Ctrl-C, kill, a closed terminal; under nohup and the like, what is ignored stays so.
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    former = {end: signal.getsignal(end) for end in ends}
    caught = [end for end in ends if former[end] != signal.SIG_IGN]
    for end in caught:
        signal.signal(end, interrupt)
    family: set[psutil.Process] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(FAMILY_EVERY_S):
            family.update(processes.descendants())  # while it is known whose they are

    threading.Thread(target=look, name="family", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        # A second signal must not cut the tidying up short: it takes seconds at most.
        for end in caught:
            signal.signal(end, signal.SIG_IGN)
        processes.end(RUN_VARIABLE, current.run_id, set(family))
        _remove_unfinished(current)
        for end in caught:
            signal.signal(end, former[end])


def _remove_unfinished(current: Run) -> None:
    """Remove what a step wrote that didn't come to its end: nothing refers to it."""
    steps = current.directory.parents[1] / "steps" / current.run_id
    for task in steps.glob("*/*"):
        if task.is_dir() and not (task / "executor_output.json").exists():
            shutil.rmtree(task, ignore_errors=True)
