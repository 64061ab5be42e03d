"""Ray Tune leads a search: on this machine, or on the cluster that this process is a job of.

Which candidate comes next, and which goes on, waits or stops at a rung, a Halving decides
(``treadle.halving``). Tune's side of that are a Searcher that proposes what is ready and a
TrialScheduler that turns the Halving's answers into CONTINUE, PAUSE and STOP. Trials run in actors
that are used again for the next trial, so that each pays for its imports once. The matrices go into
Ray's object store once and are read there without a copy. What a paused candidate has become is a
checkpoint of Tune's, which whichever worker takes it up reads.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from treadle.adapters.ray_storage import Storage
from treadle.attempt import attempt, life_limit
from treadle.halving import Course, Halving
from treadle.prepared import TuningData, load_tuning
from treadle.records import Candidate, Report
from treadle.search import Job, Scored

# Before ray is imported: no usage reports, its own output tables off, no stale warnings.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# An interruption is ours to handle; Tune would end the search as if it were done.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# What a search is resumed from are the reports in our object store, not Tune's own state.
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
# How long a worker is waited for that is told to stop in the middle of a fit.
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "2")

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

OBJECT_STORE_BYTES = 256 * 1024**2
# A trial whose worker or node dies is begun again so many times, from its last checkpoint.
RESTARTS = 3


def lead_here(halving: Halving, cores: int) -> None:
    """Start Ray on this machine and lead a search with it; nothing of it is left afterwards."""
    size_bytes = sum(path.stat().st_size for path in halving.problem.data.glob("*.npy"))
    with local_ray(size_bytes, cores) as scratch:
        lead(halving, Storage(f"{scratch}/tune"), cores)


@contextmanager
def local_ray(size_bytes: int, cores: int) -> Iterator[str]:
    """Start Ray on this machine with room for so much shared data; yield a directory that goes
    with it."""
    # Ray's sockets need a short path; the home's may be too long. By our number a launcher knows
    # whether we are still there to remove it.
    scratch = tempfile.mkdtemp(prefix=f"treadle-ray-{os.getpid()}_", dir="/tmp")
    # Signals are ours to handle: that Ray can't, where a thread starts it, is nothing to tell.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            object_store_memory=OBJECT_STORE_BYTES + 2 * size_bytes,
            _temp_dir=scratch,
        )
        yield scratch
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def join_cluster() -> None:
    """Connect this process, a job of the cluster, to Ray."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)


def cluster_cores() -> int:
    """Return how many cores the cluster has now; a head that takes no work has none."""
    return int(ray.cluster_resources().get("CPU", 0))


def works_here() -> bool:
    """Say whether the node that this process runs on takes work; a head often has no cores for
    it."""
    here = ray.get_runtime_context().get_node_id()
    return any(n["NodeID"] == here and n["Resources"].get("CPU", 0) >= 1 for n in ray.nodes())


def lead(halving: Halving, storage: Storage, cores: int) -> None:
    """Lead a search to its end on the Ray that this process is connected to, with ``cores``."""
    # Faults are told by the Halving, in a line each.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Trials that wait with a worker asked for: as many as can run.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cores)
    problem = halving.problem
    trainable = tune.with_parameters(
        _Grower,
        make_grow=problem.make_grow,
        data=load_tuning(problem.data),
        timeout_s=problem.timeout_s,
    )
    conduct = _Conduct(halving)
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="units",
            mode="max",
            search_alg=_Proposals(conduct),
            scheduler=_Rungs(conduct),
            num_samples=problem.trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=problem.name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            verbose=0,
            stop=_OutOfTime(conduct),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
    conduct.note_overhead()


class _Conduct:
    """What Tune's three hooks share. Tune pickles and copies its configuration; of this it gets
    nothing, because nothing is ever restored from there."""

    def __init__(self, halving: Halving) -> None:
        self.halving = halving
        self.trials: dict[int, str] = {}  # a candidate's number to Tune's name of its trial
        self.causes: dict[str, str] = {}  # why a trial last lost its worker
        self._overhead_s: list[float] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: object) -> "_Conduct":
        return self

    def report(self, told: dict[str, Any]) -> Course:
        """Pass a trial's result on; return what is to become of it."""
        report = Report.model_validate_json(told["report"])
        self._overhead_s.append(report.overhead_s)
        return self.halving.report(report)

    def lost(self, trial_id: str) -> None:
        """Note that a trial's worker was lost, and lost again."""
        number = next((n for n, name in self.trials.items() if name == trial_id), None)
        if number is None or self.halving.course(number) is Course.ENDED:
            return
        why = self.causes.get(trial_id, "Ray gave no reason")
        self.halving.give_up(number, f"its worker was lost {1 + RESTARTS} times: {why}")

    def note_overhead(self) -> None:
        """Say what a rung cost beyond its work."""
        if self._overhead_s:
            mean_ms = 1000 * sum(self._overhead_s) / len(self._overhead_s)
            self.halving.notes.append(f"beyond fitting, Ray Tune took {mean_ms:.0f} ms a rung")


class _Proposals(Searcher):  # type: ignore[misc]
    """Proposes the candidates that are ready and have no trial yet."""

    def __init__(self, conduct: _Conduct) -> None:
        super().__init__(metric="units", mode="max")
        self._conduct = conduct

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a candidate as a configuration; None while there is none, FINISHED at the end."""
        halving, trials = self._conduct.halving, self._conduct.trials
        if halving.is_finished():
            return str(Searcher.FINISHED)
        new = (job for job in halving.ready() if job.candidate.number not in trials)
        job = next(new, None)
        if job is None:
            return None
        trials[job.candidate.number] = trial_id
        halving.begin(job)
        number = job.candidate.number
        return {
            "candidate": job.candidate.model_dump_json(),
            "rungs": halving.rungs_left(number),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note a trial that Tune gave up."""
        if error:
            self._conduct.lost(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the reports are kept, and the same questions asked again."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing up."""


_ACTIONS = {
    Course.READY: TrialScheduler.CONTINUE,
    Course.GROWING: TrialScheduler.CONTINUE,
    Course.WAITING: TrialScheduler.PAUSE,
    Course.ENDED: TrialScheduler.STOP,
}


class _Rungs(TrialScheduler):  # type: ignore[misc]
    """Pauses a trial at a rung until its cohort is there, then stops it or lets it go on.

    Tune's own HyperBand is synchronous too, but its brackets fill in the order in which trials
    come, and hold all families against each other.
    """

    _supports_buffered_results = False

    def __init__(self, conduct: _Conduct) -> None:
        self._conduct = conduct
        self._trials: dict[int, Trial] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take whatever Tune says: scores are the Halving's matter."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Note a trial, and again one that is begun anew after its worker was lost."""
        self._trials[_number(trial)] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return what becomes of a trial."""
        course = self._conduct.report(result)
        if course is Course.READY:
            self._begin(_number(trial))
        return str(_ACTIONS[course])

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a trial that waited and may go on, or else one that was not begun. Tune asks in
        each round: those that waited and may not go on are stopped here."""
        halving = self._conduct.halving
        for number, trial in self._trials.items():
            waits = trial.status == Trial.PAUSED or trial.is_saving
            if waits and halving.course(number) is Course.ENDED:
                tune_controller.stop_trial(trial)
        for job in halving.ready():
            paused = self._trials.get(job.candidate.number)
            if paused is not None and paused.status == Trial.PAUSED:
                self._begin(job.candidate.number)
                return paused
        return next((t for t in self._trials.values() if t.status == Trial.PENDING), None)

    def _begin(self, number: int) -> None:
        halving = self._conduct.halving
        self._trials[number].config["rungs"] = halving.rungs_left(number)
        halving.begin(next(job for job in halving.ready() if job.candidate.number == number))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Let a trial that lost its worker begin where it was; its checkpoint may be older. Where
        Tune gives it up, the Searcher is told."""
        trial.config["rungs"] = self._conduct.halving.rungs_left(_number(trial))
        self._conduct.causes[trial.trial_id] = cause(trial.get_error())

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Nothing: the Halving ended it."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Nothing: the Halving ended it."""

    def debug_string(self) -> str:
        """Return what Tune would print."""
        return "cohorts of successive halving"

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing."""


def _number(trial: Trial) -> int:
    return Candidate.model_validate_json(trial.config["candidate"]).number


def cause(error: Exception | None) -> str:
    """Return the last line of Ray's words: what comes before is a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


class _OutOfTime(tune.Stopper):  # type: ignore[misc]
    """Ends everything when the search's time is up."""

    def __init__(self, conduct: _Conduct) -> None:
        self._conduct = conduct

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Say whether the time is up."""
        return self._conduct.halving.left_s() <= 0


class _Grower(tune.Trainable):  # type: ignore[misc]
    """Grows one candidate after another in one actor, a rung a step."""

    def setup(
        self, config: dict[str, Any], make_grow: Any, data: TuningData, timeout_s: float
    ) -> None:
        """Import the models, once for all trials of this actor."""
        self._grow = make_grow()
        self._data = data
        self._timeout_s = timeout_s
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another candidate."""
        self._handed_over = time.monotonic()
        self._candidate = Candidate.model_validate_json(new_config["candidate"])
        self._rungs = list(new_config["rungs"])
        self._grown: Any = None
        return True

    def step(self) -> dict[str, Any]:
        """Grow the candidate to its next rung."""
        job = Job(self._candidate, self._rungs[0])
        overhead_s = time.monotonic() - self._handed_over
        # What holds the interpreter fast ends with the whole worker.
        with life_limit(2 * self._timeout_s + 10):
            report = attempt(job, self._timeout_s, lambda: self._grow_to(job.units))
        if report.score is not None:
            self._rungs = self._rungs[1:]
        self._handed_over = time.monotonic()
        report = report.model_copy(update={"overhead_s": overhead_s})
        return {"units": job.units, "report": report.model_dump_json()}

    def _grow_to(self, units: int) -> Scored:
        before, self._grown = self._grown, None
        scored: Scored
        self._grown, scored = self._grow(self._data, self._candidate, units, before, 1)
        return scored

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Return what the candidate has become."""
        return {"grown": self._grown}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Take a candidate up where it was paused."""
        if checkpoint:
            self._grown = checkpoint["grown"]
