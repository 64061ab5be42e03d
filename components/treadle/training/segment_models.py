"""The models of some segments, fitted one after another on one core: what each worker does.

Each segment tries the given candidates on its own rows, and has a model of its own where that
scores better on its tuning rows than the pooled one. Why a segment has none is kept with it.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.attempt import bounded
from treadle.errors import counted
from treadle.metrics import measure
from treadle.prepared import TuningData
from treadle.records import FittedSegment, SegmentModel
from treadle.search import RUNGS, UNITS
from treadle.spec import Family
from treadle.training import boosters, candidate, families
from treadle.training.families import Objective
from treadle.training.onnx_export import estimator_graph

RETRIES = 1
MIN_TUNING_ROWS = 5
PARITY_ROWS = 200


@dataclass(frozen=True)
class Choice:
    """A candidate as segments try it: until it has ``units``."""

    family: str
    parameters: dict[str, Any]
    units: int


@dataclass(frozen=True)
class Segment:
    """A segment's place among the rows, which lie sorted by segment; ``chosen`` where what it is
    made of is known already."""

    key: tuple[str, ...]
    fit: slice
    tuning: slice
    whole: slice
    chosen: Choice | None = None


@dataclass(frozen=True)
class Shared:
    """What every segment reads. Rows are sorted by segment. ``fit`` and ``tuning`` are the parts
    that the search saw, ``whole`` are all training rows behind the final transformer; ``pooled`` is
    what the pooled model says to the tuning rows."""

    objective: Objective
    choices: list[Choice]
    min_rows: int
    timeout_s: float
    fit_x: npt.NDArray[np.float32]
    fit_y: npt.NDArray[Any]
    fit_w: npt.NDArray[np.float64] | None
    tuning_x: npt.NDArray[np.float32]
    tuning_y: npt.NDArray[Any]
    pooled: npt.NDArray[Any]
    whole_x: npt.NDArray[np.float32]
    whole_y: npt.NDArray[Any]
    whole_w: npt.NDArray[np.float64] | None

    @property
    def size_bytes(self) -> int:
        """The memory of the matrices."""
        return sum(v.nbytes for v in vars(self).values() if isinstance(v, np.ndarray))


def fit_chunk(shared: Shared, segments: list[Segment]) -> list[FittedSegment]:
    """Fit some segments, one after another, on one core; one that fails is tried once more."""
    with families.cores(1):
        return [_fitted(shared, segment) for segment in segments]


def _fitted(shared: Shared, segment: Segment) -> FittedSegment:
    why = _too_little(shared, segment)
    if why:
        return left_to_pooled(segment, why)
    fault = ""
    for _ in range(1 + RETRIES):
        done = bounded(shared.timeout_s, lambda: _fit(shared, segment))
        if done.result is not None:
            return done.result
        fault = done.fault or ""
        if done.final:
            break
    return left_to_pooled(segment, fault).model_copy(update={"failed": True})


def _too_little(shared: Shared, segment: Segment) -> str | None:
    """Say why a segment can't have a model of its own, if it can't."""
    if segment.chosen:
        return None
    rows = segment.whole.stop - segment.whole.start
    if rows < shared.min_rows:
        return f"{counted(rows, 'training row')}, fewer than segment_rows ({shared.min_rows:,})"
    tuning = segment.tuning.stop - segment.tuning.start
    if tuning < MIN_TUNING_ROWS or segment.fit.stop - segment.fit.start < MIN_TUNING_ROWS:
        return f"its tuning rows are {tuning:,} of {rows:,}: too few of the one or the other"
    if shared.objective.classes and len(np.unique(shared.fit_y[segment.fit])) < 2:
        return "its rows are of one class only"
    return None


def _fit(shared: Shared, segment: Segment) -> FittedSegment:
    score, pooled_score, chosen = None, None, segment.chosen
    if chosen is None:
        metric = measure(shared.objective.task, shared.objective.metric)
        rows = _rows(shared, segment)
        pooled_score = metric.score(rows.tuning_y, shared.pooled[segment.tuning])
        scored = [_score(shared.objective, rows, choice) for choice in shared.choices]
        # Not a number where the tuning rows don't tell, as where they are of one class.
        known = [(one, made) for one, made in scored if one == one]
        if not known or pooled_score != pooled_score:
            return left_to_pooled(segment, "its tuning rows don't tell which model is better")
        score, chosen = max(known, key=lambda pair: pair[0])
        if score <= pooled_score:
            words = "the pooled model is better on its tuning rows"
            return left_to_pooled(segment, words, score, pooled_score)
    return _made(shared, segment, chosen, score, pooled_score)


def _rows(shared: Shared, segment: Segment) -> TuningData:
    fit, tuning = segment.fit, segment.tuning
    weights = None if shared.fit_w is None else shared.fit_w[fit]
    return TuningData(
        shared.fit_x[fit], shared.fit_y[fit], shared.tuning_x[tuning], shared.tuning_y[tuning],
        weights,
    )  # fmt: skip


def _score(objective: Objective, rows: TuningData, choice: Choice) -> tuple[float, Choice]:
    """Grow a candidate on a segment's rows, until a rung is worse than the one before."""
    metric = measure(objective.task, objective.metric)
    family = choice.family
    plan = families.FAMILIES[Family(family)]
    rungs = [u for u in RUNGS if u <= choice.units] if plan.grow else [UNITS]
    estimator, best = None, (float("-inf"), rungs[0])
    for units in rungs:
        estimator = estimator or families.build(family, objective, choice.parameters, units)
        families.grow(
            estimator, family, units, objective, rows.fit_x, rows.fit_y, rows.fit_w, threads=1
        )
        output = candidate.predict(estimator, rows.tuning_x, objective.classes)
        score = metric.score(rows.tuning_y, output)
        if not score > best[0]:
            break
        best = (score, units)
    found = best[0] if best[0] > float("-inf") else float("nan")
    return found, Choice(choice.family, choice.parameters, best[1])


def _made(
    shared: Shared,
    segment: Segment,
    chosen: Choice,
    score: float | None,
    pooled_score: float | None,
) -> FittedSegment:
    """Fit the choice on all the segment's rows and export it, held against scikit-learn."""
    objective, rows = shared.objective, segment.whole
    matrix = shared.whole_x[rows]
    estimator = families.build(chosen.family, objective, chosen.parameters, chosen.units)
    families.grow(
        estimator, chosen.family, chosen.units, objective, matrix, shared.whole_y[rows],
        None if shared.whole_w is None else shared.whole_w[rows], 1,
    )  # fmt: skip
    classification = bool(objective.classes)
    graph = estimator_graph(estimator, matrix.shape[1], classification).SerializeToString()
    spread = float(np.std(shared.whole_y[rows]))
    if not _is_equal(graph, estimator, matrix[:PARITY_ROWS], classification, spread):
        return left_to_pooled(segment, "ONNX can't be equal for it", score, pooled_score)
    return FittedSegment(
        model=SegmentModel(
            key=list(segment.key),
            rows=rows.stop - rows.start,
            tuning_rows=segment.tuning.stop - segment.tuning.start,
            family=chosen.family,
            parameters=chosen.parameters,
            units=chosen.units,
            classes=[int(code) for code in boosters.classes_of(estimator)]
            if classification
            else [],
            score=score,
            pooled_score=pooled_score,
        ),
        graph=base64.b64encode(graph).decode(),
    )


def _is_equal(graph: bytes, estimator: Any, rows: Any, classification: bool, spread: float) -> bool:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
    found = session.run([session.get_outputs()[-1].name], {"X": rows})[0]
    if classification:
        return bool(np.max(np.abs(found - estimator.predict_proba(rows))) <= 1e-3)
    native = np.asarray(estimator.predict(rows))
    return bool(np.max(np.abs(found.reshape(-1) - native)) <= 1e-3 * max(spread, 1e-9))


def left_to_pooled(
    segment: Segment, why: str, score: float | None = None, pooled_score: float | None = None
) -> FittedSegment:
    """Leave a segment to the pooled model."""
    return FittedSegment(
        model=SegmentModel(
            key=list(segment.key),
            rows=segment.whole.stop - segment.whole.start,
            tuning_rows=segment.tuning.stop - segment.tuning.start,
            score=score,
            pooled_score=pooled_score,
            why=why,
        )
    )
