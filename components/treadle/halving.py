"""What becomes of each candidate of a search: synchronous successive halving, in cohorts.

Nothing here runs anything. Whoever grows candidates (this process, or Ray Tune) asks what is ready,
reports what came of it, and is told whether the candidate goes on, waits or stops (ADR 10).

Candidates are proposed a cohort at a time and judged when all of the cohort have come to a rung.
Nothing depends on who came first: a cohort's size follows from the spec, its candidates from the
scores of the cohorts before, and who goes on from scores alone.

Every report is kept in the object store as it comes. An interrupted search asks the same questions
again, and takes from there the answers it has had.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from treadle.errors import ModelError
from treadle.ledger import Ledger
from treadle.progress import emit, say
from treadle.records import Candidate, Report, Trial
from treadle.search import REDUCTION, Job, Proposer, SearchProblem

RETRIES = 1


class Course(StrEnum):
    """Where a candidate is on its way through the rungs."""

    READY = "ready"  # to be grown to its next rung
    GROWING = "growing"
    WAITING = "waiting"  # at a rung, until the rest of its cohort is there
    ENDED = "ended"


@dataclass
class _Candidacy:
    """What is known of a candidate."""

    candidate: Candidate
    rungs: tuple[int, ...]
    course: Course = Course.READY
    curve: list[tuple[int, float]] = field(default_factory=list)
    promised: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 0
    fault: str | None = None
    stopped: bool = False
    kept: bool = True  # all that is known of it was there when this search began

    @property
    def next_units(self) -> int:
        """The units at which it reports next."""
        return self.rungs[len(self.curve)]

    def is_short_of(self, units: int) -> bool:
        """Whether it may still report at a rung."""
        before = not self.curve or self.curve[-1][0] < units
        return self.course is not Course.ENDED and units in self.rungs and before


class Halving:
    """A search under way."""

    def __init__(
        self, problem: SearchProblem, propose: Callable[[SearchProblem], Proposer], ledger: Ledger
    ) -> None:
        self.problem = problem
        self.notes: list[str] = []
        self._propose = propose
        self._ledger = ledger
        self._known = ledger.read()
        if self._known:
            say(f"train: going on with a search that was interrupted: {len(self._known)} reports "
                "are there")  # fmt: skip
        self._all: list[_Candidacy] = []
        self._cohort: list[_Candidacy] = []
        self._whole_at = 0  # how many candidates there are when the cohort is whole
        spent = max((report.at_s for report in self._known.values()), default=0.0)
        self._began = time.monotonic() - spent

    def ready(self) -> list[Job]:
        """Return what is to be grown now, in order; proposes a cohort when the one before has
        ended. Empty while others are waited for, and at the end."""
        while self._may_propose() and not self.is_finished():
            self._extend()
        return [
            Job(one.candidate, one.next_units) for one in self._cohort if one.course is Course.READY
        ]

    def begin(self, job: Job) -> None:
        """Note that somebody grows a candidate now."""
        self._all[job.candidate.number].course = Course.GROWING

    def report(self, report: Report) -> Course:
        """Note what came of growing a candidate; return its course: READY (to its next rung, or
        once more), WAITING or ENDED."""
        one = self._all[report.candidate.number]
        one.kept = False
        timed = report.model_copy(update={"at_s": time.monotonic() - self._began})
        self._ledger.write(timed)
        self._take_in(one, timed)
        self._settle()
        return one.course

    def give_up(self, number: int, words: str) -> None:
        """End a candidate of which no report will come."""
        one = self._all[number]
        one.kept = False
        one.fault = words
        self.notes.append(f"trial {number} ({one.candidate.family}): {words}")
        self._end(one)
        self._settle()

    def rungs_left(self, number: int) -> list[int]:
        """Return the units at which a candidate may still report."""
        one = self._all[number]
        return list(one.rungs[len(one.curve) :])

    def course(self, number: int) -> Course:
        """Return where a candidate is."""
        return self._all[number].course

    def left_s(self) -> float:
        """Return the seconds that are left. Something is always found: time is not up before there
        is a score, unless a whole cohort has failed."""
        if len(self._all) <= self.problem.cohort and not any(one.curve for one in self._all):
            return self.problem.timeout_s
        return self._began + self.problem.budget_s - time.monotonic()

    def is_finished(self) -> bool:
        """Whether nothing is left to be grown, or no time for it."""
        if self._cohort_under_way() and self.left_s() > 0:
            return False
        return bool(self._all) and (len(self._all) >= self.problem.trials or self.left_s() <= 0)

    def trials(self) -> list[Trial]:
        """Return the trials that began, in order. Raises ModelError where none has a score."""
        begun = [_trial(one) for one in self._all if one.curve or one.fault]
        if len(begun) < self.problem.trials or self._cohort_under_way():
            self.notes.append(
                f"the time (training.budget_s {self.problem.budget_s:g}) was up after "
                f"{len(begun)} of {self.problem.trials} candidates: a machine of another speed "
                "would have found something else"
            )
        if all(trial.score is None for trial in begun):
            raise ModelError(f"no candidate could be trained: {self._why(begun)}")
        return begun

    def _why(self, trials: list[Trial]) -> str:
        faults = sorted({trial.fault for trial in trials if trial.fault})
        return "; ".join(faults[:3]) or (
            f"none reported within {self.problem.budget_s:g} s; give training.budget_s more"
        )

    def _is_whole(self) -> bool:
        return len(self._all) == self._whole_at

    def _cohort_under_way(self) -> bool:
        return not self._is_whole() or any(one.course is not Course.ENDED for one in self._cohort)

    def _may_propose(self) -> bool:
        if self._is_whole():
            return not self._cohort_under_way()
        return not any(one.course is Course.READY for one in self._cohort)

    @cached_property
    def _proposer(self) -> Proposer:
        return self._propose(self.problem)

    def _extend(self) -> None:
        """Begin a cohort, or complete it. The first begins with what is known without a proposer,
        whose library takes a while to import: others do so while these are grown."""
        begins, first = len(self._all), self.problem.first
        if self._is_whole():
            self._whole_at = min(begins + self.problem.cohort, self.problem.trials)
        until = min(len(first), self._whole_at) if begins < len(first) else self._whole_at
        for number in range(begins, until):
            family, parameters = first[number] if number < len(first) else self._proposer.ask()
            candidate = Candidate(number=number, family=family, parameters=parameters)
            self._all.append(_Candidacy(candidate, self.problem.rungs(family)))
            self._cohort.append(self._all[-1])
        self._settle()

    def _settle(self) -> None:
        """Judge who can be judged, and take in what an interrupted search has left of those that
        go on, until there is nothing more of it."""
        self._judge()
        while any(self._recall(one) for one in self._cohort if one.course is Course.READY):
            self._judge()

    def _recall(self, one: _Candidacy) -> bool:
        """Take in a candidate's next report where an interrupted search has left it."""
        known = self._known.pop((one.candidate.number, one.next_units), None)
        if known is None or known.candidate != one.candidate:
            return False
        self._take_in(one, known)
        return True

    def _take_in(self, one: _Candidacy, report: Report) -> None:
        one.seconds += report.seconds
        if report.score is None or report.score != report.score:
            self._note_fault(one, report)
            return
        one.attempts = 0
        promise = report.score if report.promise is None else report.promise
        one.curve.append((report.units, report.score))
        # Where the promise is no number, the score is what there is.
        one.promised.append((report.units, promise if promise == promise else report.score))
        one.course = Course.WAITING
        if report.units == one.rungs[-1]:
            self._end(one)

    def _note_fault(self, one: _Candidacy, report: Report) -> None:
        name = f"trial {one.candidate.number} ({one.candidate.family})"
        words = report.fault or "its score is not a number"
        one.attempts += 1
        if one.attempts <= RETRIES and not report.final:
            self.notes.append(f"{name} failed once and was tried again: {words}")
            one.course = Course.READY
            return
        one.fault = words
        self.notes.append(f"{name}: {words}")
        self._end(one)

    def _judge(self) -> None:
        """Judge every rung to which all of the cohort have come."""
        if not self._is_whole():
            return
        for units in sorted({units for one in self._cohort for units in one.rungs}):
            if any(one.is_short_of(units) for one in self._cohort):
                break
            for one in self._cohort:
                if one.course is Course.WAITING and one.curve[-1][0] == units:
                    self._judge_one(one, units)
        if not self._cohort_under_way():
            for one in self._cohort if len(self._all) < self.problem.trials else ():
                self._proposer.tell(one.candidate.number, one.promised, one.stopped)
            self._cohort = []

    def _judge_one(self, one: _Candidacy, units: int) -> None:
        """Stop the weak: of all of a family that came to this rung so far, one in REDUCTION goes
        on (Jamieson and Talwalkar 2016), held against those of its own family only. A forest is
        near its best with few trees, boosting is not with few rounds."""
        rivals = sorted(
            (score, -other.candidate.number)
            for other in self._all
            if other.candidate.family == one.candidate.family
            for at, score in other.promised
            if at == units
        )
        best = rivals[-max(1, len(rivals) // REDUCTION) :]
        if (one.promised[-1][1], -one.candidate.number) in best:
            one.course = Course.READY
        else:
            one.stopped = True
            self._end(one)

    def _end(self, one: _Candidacy) -> None:
        one.course = Course.ENDED
        self._tell_of(one)

    def _tell_of(self, one: _Candidacy) -> None:
        """Tell of a trial that ended."""
        scores = [score for other in self._all for _, score in other.curve]
        sign = 1 if self.problem.higher_is_better else -1
        done = sum(other.course is Course.ENDED for other in self._all)
        now = time.monotonic()
        pace_s = (now - self._began) / done
        left_s = self._began + self.problem.budget_s - now
        emit(
            "trial",
            number=one.candidate.number,
            kept=one.kept,
            done=done,
            stopped=sum(other.stopped for other in self._all),
            wanted=self.problem.trials,
            family=one.candidate.family,
            metric=self.problem.metric,
            value=sign * one.curve[-1][1] if one.curve else None,
            best=sign * max(scores) if scores else None,
            left_s=max(0.0, min(left_s, pace_s * (self.problem.trials - done))),
        )


def _trial(one: _Candidacy) -> Trial:
    return Trial(
        number=one.candidate.number,
        family=one.candidate.family,
        parameters=one.candidate.parameters,
        curve=one.curve,
        seconds=one.seconds,
        stopped_early=one.stopped or (bool(one.curve) and one.course is not Course.ENDED),
        fault=one.fault,
    )


@dataclass(frozen=True)
class Crew:
    """Whoever grows candidates elsewhere: ``run`` leads a search to its end there. To start takes
    ``start_s``; then there are ``cores`` of them, each with one core. ``always``: whether it pays
    or not. ``relieves``: whatever isn't cheap, because this process is where no work should be."""

    run: Callable[[Halving], None]
    start_s: float
    cores: int
    always: bool = False
    relieves: bool = False
