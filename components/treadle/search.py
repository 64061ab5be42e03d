"""A search problem, free of any library that solves it: what a tuner (``treadle.adapters.ray``)
needs to know, and what it calls."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from treadle.prepared import TuningData
from treadle.records import Parameter

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
# From the data, the family, its parameters and the threads it may use: yields (units used, score)
# at each rung, higher better.
Grow = Callable[[TuningData, str, dict[str, Parameter], int], Iterator[tuple[int, float]]]
# Makes a Grow where the candidates are fitted, so that who only searches need not import models.
MakeGrow = Callable[[], Grow]


@dataclass(frozen=True)
class SearchProblem:
    """Candidates to try: ``spaces`` is family to parameter to dimension; ``first`` is the point in
    each family's space that is tried before any is drawn, so that no family goes unseen. Scores
    are the metric with its sign turned so that higher is better. ``meanwhile`` is called once, in a
    thread, while candidates are fitted elsewhere."""

    name: str
    metric: str
    higher_is_better: bool
    spaces: dict[str, dict[str, Dimension]]
    first: dict[str, dict[str, Parameter]]
    make_grow: MakeGrow
    meanwhile: Callable[[], None]
    data: Path
    trials: int
    budget_s: float
    seed: int
