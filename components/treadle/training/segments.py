"""One model per segment: carriers, shops, machines. Thousands of them in one step.

The search over all rows has found what is good in general. Each segment tries the best few of its
candidates (``segment_models.py``): in this process, and where that takes longer as Ray tasks too,
which share the matrices; with a Ray cluster, there (``remote_segments.py``). What is fitted is kept
in the object store as it comes, so an interrupted run goes on.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from treadle import prepared
from treadle.ledger import SegmentLedger
from treadle.ports import ObjectStore
from treadle.prepared import TrainingRows, load_tuning
from treadle.progress import say
from treadle.records import FittedSegment, SegmentIndex, Trial
from treadle.search import UNITS, SearchCluster, SearchProblem
from treadle.segments import keys_of
from treadle.spec import TrainingOptions
from treadle.training import candidate, families, remote_segments
from treadle.training.families import Objective
from treadle.training.segment_models import Choice, Segment, Shared, fit_chunk, left_to_pooled

CHUNK = 8
PROBES = 8
# Below this Ray has nothing to win.
LEAST_S = 15.0
SAY_EVERY_S = 5.0
_NO_ROWS = slice(0, 0)
Found = tuple[list[Segment], list[FittedSegment] | str]
# Calls a function with the shared data for each chunk, wherever there is room; the bytes are the
# shared data's. A chunk whose worker was lost for good comes back with words.
Spread = Callable[
    [Callable[[Shared, list[Segment]], list[FittedSegment]], Shared, Sequence[list[Segment]], int],
    Generator[Found],
]


@dataclass(frozen=True)
class Segmented:
    """All segments of a model, and the graphs of those that have one of their own."""

    index: SegmentIndex
    graphs: dict[str, bytes]


@dataclass(frozen=True)
class Pooled:
    """The model of all rows, and what it was made from."""

    problem: SearchProblem
    objective: Objective
    trials: list[Trial]
    best: Trial
    rows: TrainingRows
    pipeline: Pipeline


@dataclass(frozen=True)
class Means:
    """What fits segments: a cluster, if there is one, else this machine's cores by ``spread``,
    where that pays or ``always``."""

    cluster: SearchCluster | None
    spread: Spread
    cores: int
    always: bool = False


def fit(pooled: Pooled, options: TrainingOptions, means: Means, store: ObjectStore) -> Segmented:
    """Fit the models of segments beside the pooled one."""
    choices = choices_from(pooled.trials, pooled.best, options.segment_trials)
    shared, segments = _lay_out(pooled, options, choices, means.cores)
    made_of = hashlib.sha256(repr(choices).encode()).hexdigest()[:12]
    ledger = SegmentLedger(store, pooled.problem.name, made_of)
    if means.cluster:
        fitted = remote_segments.submit(
            shared, segments, ledger, options.budget_s, means.cluster, store
        )
    else:
        fitted = fit_all(shared, segments, means, ledger, options.budget_s)
    return _put_together(options.segments, fitted)


def refit(pooled: Pooled, known: SegmentIndex, options: TrainingOptions, cores: int) -> Segmented:
    """Fit the models of segments again, of what they are known to be made."""
    shared, segments = _lay_out(pooled, options, [], cores)
    place = {segment.key: segment for segment in segments}
    fitted = []
    for model in known.segments:
        made = FittedSegment(model=model)
        if model.family is not None and model.units is not None:
            choice = Choice(model.family, dict(model.parameters), model.units)
            segment = replace(place[tuple(model.key)], chosen=choice)
            again = fit_chunk(shared, [segment])[0]
            scores = {"score": model.score, "pooled_score": model.pooled_score}
            made = again.model_copy(update={"model": again.model.model_copy(update=scores)})
        fitted.append(made)
    return _put_together(known.columns, fitted)


def _put_together(columns: Sequence[str], fitted: Sequence[FittedSegment]) -> Segmented:
    index = SegmentIndex(columns=list(columns), segments=[one.model for one in fitted])
    graphs = {
        f"{position}.onnx": base64.b64decode(one.graph)
        for position, one in enumerate(fitted)
        if one.graph is not None
    }
    return Segmented(index, graphs)


def _lay_out(
    pooled: Pooled, options: TrainingOptions, choices: list[Choice], cores: int
) -> tuple[Shared, list[Segment]]:
    """Sort all rows by segment; return the matrices and where each segment lies in them."""
    rows, directory = pooled.rows, pooled.problem.data
    data = load_tuning(directory)
    held = np.load(directory / prepared.TUNING_ROWS)
    keys = keys_of(rows.columns, options.segments)
    fit_order, fit_places = places([key for key, out in zip(keys, held, strict=True) if not out])
    tuning_order, tuning_places = places([key for key, out in zip(keys, held, strict=True) if out])
    order, whole = places(keys)
    matrix = np.asarray(pooled.pipeline["transformer"].transform(rows.columns), dtype=np.float32)
    output = _pooled_output(pooled, data, cores) if choices else data.tuning_y
    shared = Shared(
        objective=pooled.objective,
        choices=choices,
        min_rows=options.segment_rows,
        timeout_s=pooled.problem.timeout_s,
        fit_x=data.fit_x[fit_order],
        fit_y=data.fit_y[fit_order],
        fit_w=None if data.fit_w is None else data.fit_w[fit_order],
        tuning_x=data.tuning_x[tuning_order],
        tuning_y=data.tuning_y[tuning_order],
        pooled=output[tuning_order],
        whole_x=matrix[order],
        whole_y=rows.answers[order],
        whole_w=None if rows.weights is None else rows.weights[order],
    )
    return shared, [
        Segment(key, fit_places.get(key, _NO_ROWS), tuning_places.get(key, _NO_ROWS), place)
        for key, place in whole.items()
    ]


def _pooled_output(pooled: Pooled, data: prepared.TuningData, cores: int) -> npt.NDArray[Any]:
    """Return what the winner says to the tuning rows when it hasn't learned from them."""
    best, objective = pooled.best, pooled.objective
    units = best.units or UNITS
    model = families.build(best.family, objective, dict(best.parameters), units)
    families.grow(model, best.family, units, objective, data.fit_x, data.fit_y, data.fit_w, cores)
    with families.cores(cores):
        return candidate.predict(model, data.tuning_x, objective.classes)


def choices_from(trials: Sequence[Trial], best: Trial, count: int) -> list[Choice]:
    """Return what segments try: the winner, the best of each other family, then the next best."""
    ranked = sorted(
        (t for t in trials if t.score is not None),
        key=lambda trial: (trial.number != best.number, -(trial.score or 0.0), trial.number),
    )
    of_family = {trial.family: trial for trial in reversed(ranked)}
    first = sorted(of_family.values(), key=ranked.index)
    chosen = [*first, *(trial for trial in ranked if trial not in first)][:count]
    return [Choice(t.family, dict(t.parameters), t.units or UNITS) for t in chosen]


def fit_all(
    shared: Shared,
    segments: Sequence[Segment],
    means: Means,
    ledger: SegmentLedger,
    budget_s: float,
) -> list[FittedSegment]:
    """Fit every segment; return them in the order of their keys."""
    fitting = _Fitting(segments, ledger, budget_s)
    with families.cores(1):
        for segment in fitting.picked():
            fitting.keep(fit_chunk(shared, [segment]))
        expected_s = fitting.expected_s()
        if not means.always and (means.cores == 1 or expected_s < LEAST_S):
            while (chunk := fitting.waiting()[:CHUNK]) and not fitting.is_late():
                fitting.keep(fit_chunk(shared, chunk))
            return fitting.whole()
    waiting = fitting.waiting()
    say(f"train: {len(waiting):,} segments would take {expected_s:.0f} s here: Ray does the work")
    chunks = [waiting[i : i + CHUNK] for i in range(0, len(waiting), CHUNK)]
    with closing(means.spread(fit_chunk, shared, chunks, shared.size_bytes)) as results:
        for chunk, found in results:
            fitting.keep(_lost(chunk, found) if isinstance(found, str) else found)
            if fitting.is_late():
                break
    return fitting.whole()


class _Fitting:
    """Segments under way."""

    def __init__(self, segments: Sequence[Segment], ledger: SegmentLedger, budget_s: float) -> None:
        # The largest first: at the end no worker is left alone with one.
        self._segments = sorted(segments, key=lambda s: (s.whole.start - s.whole.stop, s.key))
        self._ledger = ledger
        self._found = {tuple(one.model.key): one for one in ledger.read()}
        self._there = len(self._found)
        self._began = self._told = time.monotonic()
        self._until = self._began + budget_s
        if self._found:
            say(f"train: {self._there:,} of {len(segments):,} segments are there already")

    def waiting(self) -> list[Segment]:
        """Return the segments that are not there yet."""
        return [segment for segment in self._segments if segment.key not in self._found]

    def picked(self) -> list[Segment]:
        """Return a few of them, of all sizes."""
        waiting = self.waiting()
        return waiting[:: max(1, len(waiting) // PROBES)][:PROBES]

    def expected_s(self) -> float:
        """Return how long the others would take in this process."""
        new = len(self._found) - self._there
        return (time.monotonic() - self._began) * len(self.waiting()) / max(new, 1)

    def is_late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._until

    def keep(self, news: list[FittedSegment]) -> None:
        """Keep some that are fitted, and tell of them now and then."""
        self._ledger.write(news)
        self._found.update({tuple(one.model.key): one for one in news})
        if time.monotonic() - self._told > SAY_EVERY_S:
            self._told = time.monotonic()
            own = sum(one.model.family is not None for one in self._found.values())
            say(f"train: {len(self._found):,} of {len(self._segments):,} segments, {own:,} with a "
                "model of their own")  # fmt: skip

    def whole(self) -> list[FittedSegment]:
        """Return all, those whose turn never came left to the pooled model."""
        late = "the time (training.budget_s) was up before its turn"
        self._found.update({s.key: left_to_pooled(s, late) for s in self.waiting()})
        return [self._found[key] for key in sorted(self._found)]


def _lost(chunk: list[Segment], words: str) -> list[FittedSegment]:
    return [left_to_pooled(s, words).model_copy(update={"failed": True}) for s in chunk]


def places(keys: Sequence[tuple[str, ...]]) -> tuple[Any, dict[tuple[str, ...], slice]]:
    """Return the order that sorts rows by their segment, and where each segment lies then."""
    known = sorted(set(keys))
    code = {key: i for i, key in enumerate(known)}
    codes = np.array([code[key] for key in keys], dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(known)))
    begins = [0, *ends[:-1].tolist()]
    return order, {
        key: slice(int(begin), int(end))
        for key, begin, end in zip(known, begins, ends, strict=True)
    }
