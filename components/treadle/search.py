"""A search problem and the words of a search, free of any library that helps to solve it.

A search (``halving.py``) asks a Proposer for candidates, which are grown rung by rung: in this
process (``training/tuning.py``) or by Ray Tune (``adapters/ray.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from treadle.prepared import TuningData
from treadle.records import Candidate, Parameter

# A candidate's whole resource; reports come at RUNGS, where weak candidates stop: of those of its
# family that came so far, one in REDUCTION goes on.
UNITS = 9
REDUCTION = 3
RUNGS = (1, 3, 9)


@dataclass(frozen=True)
class Range:
    """A number between two bounds, uniform or log-uniform."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Parameter, ...]


Dimension = Range | Choice
# What a candidate has become so far: an estimator, fitted with some of its resource.
Grown = Any


@dataclass(frozen=True)
class Scored:
    """How good a candidate is, higher better, and what it promises: by that it is held against
    others which are as far as it is."""

    score: float
    promise: float


class Grow(Protocol):
    """Grows a candidate of one problem; called where the work is done."""

    def __call__(
        self, data: TuningData, candidate: Candidate, units: int, grown: Grown | None, threads: int
    ) -> tuple[Grown, Scored]:
        """Fit ``candidate`` until it has ``units`` of its resource, going on from ``grown`` where
        there is one; return it with its scores. They are the same whether it was grown in one go or
        in several, and on however many threads."""


@dataclass(frozen=True)
class SearchProblem:
    """Candidates to try: ``spaces`` is family to parameter to dimension; ``first`` are points that
    are tried before any is drawn, so that no family goes unseen. ``at_once`` are the families that
    have no resource to grow by: they report at the last rung only, so that they never look weak for
    having been cheap. Scores are the metric with its sign turned so that higher is better.
    ``make_grow`` imports the models where they are fitted, not where the search is led.
    A rung may take ``timeout_s``."""

    name: str
    metric: str
    higher_is_better: bool
    spaces: dict[str, dict[str, Dimension]]
    first: list[tuple[str, dict[str, Parameter]]]
    at_once: frozenset[str]
    make_grow: Callable[[], Grow]
    data: Path
    trials: int
    budget_s: float
    timeout_s: float
    seed: int

    @property
    def cohort(self) -> int:
        """How many candidates are proposed together. It follows from the spec and never from the
        machine, or the machine would decide what is found."""
        return max(8, -(-self.trials // 4))

    def rungs(self, family: str) -> tuple[int, ...]:
        """Return the units at which candidates of a family report."""
        return RUNGS[-1:] if family in self.at_once else RUNGS


class Proposer(Protocol):
    """Proposes the candidates after a problem's first ones, from the scores of those before."""

    def ask(self) -> tuple[str, dict[str, Parameter]]:
        """Return a family and its parameters."""

    def tell(self, number: int, curve: list[tuple[int, float]], stopped: bool) -> None:
        """Say what the ``number``-th candidate promised at each rung (from 0, the first ones
        counted), at the last its score; an empty curve is a failure."""


@dataclass(frozen=True)
class Job:
    """A candidate to be grown until it has ``units``."""

    candidate: Candidate
    units: int


class ClusterWork(StrEnum):
    """What a cluster is asked for."""

    SEARCH = "search"
    SEGMENTS = "segments"


class SearchCluster(Protocol):
    """A long-lived cluster elsewhere that takes whole searches, and the models of segments."""

    def versions(self) -> dict[str, str]:
        """Return what must be the same here and there, by name."""

    def run(self, name: str, work: ClusterWork) -> None:
        """Do the work that lies under ``searches/<name>/`` in the object store, and follow it
        to its end. Raises TreadleError in the search's own words where it fails."""
