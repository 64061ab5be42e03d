"""Leads a search: in this process, or with Ray Tune where that pays.

Candidates that take a moment are grown here, one after another, each on all cores. Starting Ray and
sending work to it costs seconds; it pays where candidates take long and use cores badly. What is
found is the same: who grows a candidate doesn't change its score.
"""

import time

from treadle.attempt import attempt
from treadle.halving import Course, Crew, Halving
from treadle.prepared import TuningData, load_tuning
from treadle.progress import say
from treadle.records import Report
from treadle.search import UNITS, Grow, Grown, Job, Scored, SearchProblem

# Values in a matrix from which a second thread has something to do.
WORTH_THREADS = 200_000
# Below this there is nothing to be won by Ray, whatever the probe would say.
LEAST_S = 20.0
# Both times are guesses from a few rungs.
CLEARLY = 0.75
# Of what a cohort's barrier leaves of several workers.
BUSY = 0.85
# With RUNGS 1, 3, 9 about 4 in 10 of all rungs are climbed.
CLIMBED = 0.4


def lead(halving: Halving, crew: Crew, cores: int) -> None:
    """Lead a search to its end: probe a candidate of each family here, then choose."""
    here = InProcess(halving.problem, cores)
    if crew.always:
        halving.notes.append("Ray Tune did the work, as the settings say")
        say("train: Ray Tune does the work, as the settings say")
        crew.run(halving)
        return
    probes = _probe(halving, here)
    if halving.is_finished():
        return
    pays, words = _weigh(halving, here, probes, crew)
    say(f"train: {words}")
    halving.notes.append(words)
    if pays:
        crew.run(halving)
        return
    while not halving.is_finished():
        for job in halving.ready():
            here.work(job, halving)


def _probe(halving: Halving, here: "InProcess") -> dict[str, tuple[Job, float]]:
    """Grow the first ready candidate of each family; return what it took, by family."""
    probes: dict[str, tuple[Job, float]] = {}
    while not halving.is_finished():
        tried = set(probes)
        unknown = [job for job in halving.ready() if job.candidate.family not in tried]
        if not unknown:
            break
        report = here.work(unknown[0], halving)
        if report and report.score is not None:
            probes[report.candidate.family] = (unknown[0], report.seconds)
    return probes


def _weigh(
    halving: Halving, here: "InProcess", probes: dict[str, tuple[Job, float]], crew: Crew
) -> tuple[bool, str]:
    """Return whether Ray pays, and why."""
    if not probes:
        return False, "no candidate could be measured: they are fitted in this process"
    # Until a candidate has all its units, a rung costs its share.
    costs = [seconds * UNITS / job.units for job, seconds in probes.values()]
    whole = sum(costs) / len(costs)
    here_s = min(whole * halving.problem.trials * CLIMBED, halving.left_s())
    if here_s < LEAST_S:
        return False, (
            f"candidates take {whole:.2g} s each: they are fitted in this process, without "
            "Ray, whose start would cost more than it saves"
        )
    if crew.relieves:
        return True, (
            f"candidates take {whole:.2g} s each, and the head of the cluster isn't for that: Ray "
            f"Tune does the work, on {crew.cores} cores"
        )
    speed_up = _speed_up(here, probes)
    there_s = crew.start_s + here_s * speed_up / (crew.cores * BUSY)
    pays = there_s < CLEARLY * here_s
    verdict = "so Ray Tune does the work" if pays else "so they are fitted in this process"
    return pays, (
        f"candidates take {whole:.2g} s each and {speed_up:.1f} times as long on one core: "
        f"about {here_s:.0f} s here, {there_s:.0f} s with Ray on {crew.cores} cores; {verdict}"
    )


def _speed_up(here: "InProcess", probes: dict[str, tuple[Job, float]]) -> float:
    """Grow the slowest family's first rung once more, on one core: how much do they help?"""
    if here.cores == 1:
        return 1.0
    job, seconds = max(probes.values(), key=lambda probe: probe[1])
    # A stand-in, so that the candidate itself grows on undisturbed.
    stand_in = job.candidate.model_copy(update={"number": -1})
    started = time.monotonic()
    here.grow(Job(stand_in, job.units), threads=1)
    here.forget(-1)
    return max(1.0, (time.monotonic() - started) / max(seconds, 1e-3))


class InProcess:
    """Grows candidates one after another in this process."""

    def __init__(self, problem: SearchProblem, cores: int) -> None:
        self.cores = cores
        self._problem = problem
        self._grow: Grow | None = None
        self._data: TuningData | None = None
        self._grown: dict[int, Grown] = {}

    def work(self, job: Job, halving: Halving) -> Report | None:
        """Grow a candidate and report it; None where the search's time was up meanwhile."""
        left = halving.left_s()
        if left <= 0:
            return None
        halving.begin(job)
        report = attempt(job, min(left, self._problem.timeout_s), lambda: self.grow(job))
        if report.fault and report.final and left < self._problem.timeout_s:
            return None  # the search's time was up, not the candidate's
        if halving.report(report) is Course.ENDED:
            self.forget(job.candidate.number)
        return report

    def grow(self, job: Job, threads: int | None = None) -> Scored:
        """Grow one candidate; return its scores."""
        if self._grow is None or self._data is None:
            self._grow, self._data = self._problem.make_grow(), load_tuning(self._problem.data)
        threads = threads or (self.cores if self._data.fit_x.size >= WORTH_THREADS else 1)
        number = job.candidate.number
        grown = self._grown.pop(number, None)
        self._grown[number], scored = self._grow(
            self._data, job.candidate, job.units, grown, threads
        )
        return scored

    def forget(self, number: int) -> None:
        """Let go of what a candidate has become."""
        self._grown.pop(number, None)
