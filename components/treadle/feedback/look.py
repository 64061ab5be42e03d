"""Look at what a champion answered since the last look: the evidence for a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from treadle import drift, metrics
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.encoding import NULL_CATEGORY, Column, untokenised
from treadle.feedback import estimate, log, reference, steps
from treadle.feedback.log import Labelled, Logged
from treadle.feedback.reference import Reference
from treadle.monitoring import Against, Counted, Estimate, Evidence, LogState, Skew, Step
from treadle.ports import ObjectStore
from treadle.records import ColumnDrift, ColumnProfile, Kind, ModelVersion, Signature
from treadle.resampling import Vector
from treadle.signature import frame_of, read_frame

# A metric of fewer rows says nothing.
LEAST_LABELLED = 100
SKEW_ROWS = 100
# As far as two runs of one graph may be apart, as a share of the value or of 1.
SKEW_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Champion:
    """A model at work: its version, its bundle, what it was when it was trained, and the champion
    before it, if there was one that can be asked."""

    version: ModelVersion
    bundle: Bundle
    reference: Reference
    metric: str
    predecessor: tuple[int, Bundle] | None = None


@dataclass(frozen=True)
class Window:
    """How far to look back: ``days``, or ``rows`` of the log. ``seen`` are the files that were
    looked at in the hour ``new_from`` and later; ``cells`` the counts of the look before;
    ``faults`` the times of rows that are left out."""

    rows: int = log.MOST_ROWS
    days: float | None = None
    seen: set[str] = field(default_factory=set)
    new_from: datetime | None = None
    cells: Mapping[str, Counted] = field(default_factory=dict)
    faults: Sequence[tuple[datetime, datetime]] = ()


def read(
    champion: Champion, keys: Sequence[str], window: Window, now: datetime, store: ObjectStore
) -> Logged:
    """Return the rows of the window."""
    since = None if window.days is None else now - timedelta(days=window.days)
    found = log.read(
        keys, champion.version, window.seen, window.new_from, since, window.rows, now, store
    )
    return log.without(found, window.faults)


def look(
    champion: Champion, logged: Logged, window: Window, words: str, store: ObjectStore
) -> tuple[Evidence, dict[str, Counted]]:
    """Return what is seen: inputs and predictions on the rows that are new, performance on those
    of the whole window that have labels. Beside it the counts that the next look compares with."""
    version, bundle = champion.version, champion.bundle
    fresh = logged.only(logged.is_new)
    labelled = log.join(logged, version.name, bundle.signature, store)
    kept = logged.only(labelled.known)
    enough = kept.rows >= LEAST_LABELLED
    wanted = metrics.measure(bundle.signature.task, champion.metric)
    known = reference.known_columns(bundle)
    drifts, prediction, cells = _compared(champion, fresh, known)
    features = fresh.columns
    counts = {c.name: steps.counted(cells[c.name], features[c.name], c) for c in known}
    seen = Evidence(
        model=version.name,
        version=version.version,
        digest=version.digest,
        window=words,
        rows=fresh.rows,
        since=_time(fresh.at[0]) if fresh.rows else None,
        until=_time(fresh.at[-1]) if fresh.rows else None,
        columns=sorted(drifts.values(), key=lambda each: -each.distance),
        steps=_steps(known, counts, drifts, champion.reference, window, fresh),
        prediction=prediction,
        labelled=kept.rows,
        metric=metrics.with_block_interval(wanted, labelled.answers, kept.output)
        if enough
        else None,
        reference=champion.reference.metric,
        estimate=_estimate(champion, fresh),
        against=_against(champion, kept, labelled) if enough else None,
        skew=_skew(bundle, fresh),
        log=LogState(
            unreadable=[*logged.unreadable, *labelled.unreadable],
            repeated=logged.repeated,
            ahead=logged.ahead,
            unknown_class=labelled.unknown_class,
        ),
    )
    return seen, counts


def _time(microseconds: np.int64) -> datetime:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC)


def _steps(
    known: Sequence[ColumnProfile],
    now: Mapping[str, Counted],
    drifts: Mapping[str, ColumnDrift],
    was: Reference,
    window: Window,
    fresh: Logged,
) -> list[Step]:
    """Return how far each column moved since the look before; since the last rows of training,
    where this is the first."""
    pairs = []
    for column in known:
        before = window.cells.get(column.name) or was.last.get(column.name)
        if before is not None and len(before.cells) == len(now[column.name].cells):
            pairs.append((column, before, now[column.name]))
    columns, profiles = fresh.columns, {column.name: column for column in known}
    found = [
        step.model_copy(
            update={
                "usual": steps.usual_of(was.usual.get(step.column, []), fresh.rows),
                "unseen": _unseen(columns[step.column], profiles[step.column]),
                "words": drifts[step.column].words,
            }
        )
        for step in steps.between(pairs)
    ]
    return sorted(found, key=lambda step: step.usual.distance - step.distance)


def _unseen(values: pa.Array, column: ColumnProfile) -> float | None:
    """Return the share of categories that training didn't see; None where the profile doesn't know
    all of them."""
    if column.kind is not Kind.CATEGORY or len(column.top) < column.distinct or not len(values):
        return None
    known = {None, *(share.value for share in column.top)}
    shares = values.value_counts()
    each = zip(shares.field(0).to_pylist(), shares.field(1).to_pylist(), strict=True)
    return float(sum(count for value, count in each if value not in known) / len(values))


def _compared(
    champion: Champion, fresh: Logged, known: Sequence[ColumnProfile]
) -> tuple[dict[str, ColumnDrift], ColumnDrift | None, dict[str, drift.Counts]]:
    """Return how features and predictions drifted, all under one control of multiplicity, and the
    features' counts."""
    features = fresh.columns
    logged = [(column, features[column.name]) for column in known]
    profile = champion.reference.prediction
    if profile is not None and fresh.rows:
        values = reference.predicted(fresh.output, champion.bundle.signature)
        logged.append((profile, values))
    found = drift.compare_logged(logged)
    names = [column.name for column in known]
    columns = dict(zip(names, found, strict=False))
    return (
        {name: told for name, (told, _) in columns.items()},
        found[-1][0] if len(found) > len(names) else None,
        {name: cells for name, (_, cells) in columns.items()},
    )


def _estimate(champion: Champion, fresh: Logged) -> Estimate | None:
    """Estimate performance where the classifier's probabilities could be believed when it was
    trained."""
    was = champion.reference
    if not champion.bundle.signature.task.is_classification or not fresh.rows:
        return None
    if was.estimate is None:
        off = was.miscalibration
        why = "no held-out row has a label" if off is None else (
            f"it isn't calibrated: probabilities were off by {off:.1%} on the held-out rows, "
            f"{estimate.MOST_MISCALIBRATED:.0%} is the most"
        )  # fmt: skip
        return Estimate(metric=None, why=why)
    found = estimate.estimated(champion.bundle.signature.task, champion.metric, fresh.output)
    return Estimate(metric=found, reference=was.estimate)


def encoded(logged: Logged, signature: Signature) -> dict[str, Column]:
    """Return logged features as a model takes them."""
    found: dict[str, Column] = {}
    for feature in signature.features:
        values = logged.columns[feature.name]
        if feature.kind is Kind.CATEGORY:
            filled = values.fill_null("" if feature.tokens else NULL_CATEGORY)
            found[feature.name] = filled.to_numpy(zero_copy_only=False).astype(object)
        elif feature.kind is Kind.TIME:
            whole = values.cast(pa.int64())
            found[feature.name] = whole.to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
        else:
            found[feature.name] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return found


def _against(champion: Champion, kept: Logged, labelled: Labelled) -> Against | None:
    """Ask the champion before this one about the same rows, where it reads no more than they
    hold."""
    if champion.predecessor is None:
        return None
    number, bundle = champion.predecessor
    ours = {feature.name: feature for feature in champion.bundle.signature.features}
    theirs = bundle.signature
    if (
        any(
            ours.get(feature.name) is None or ours[feature.name].read_as != feature.read_as
            for feature in theirs.features
        )
        or theirs.classes != champion.bundle.signature.classes
    ):
        return None  # fmt: skip
    output = bundle.model.output(encoded(kept, theirs))
    wanted = metrics.measure(theirs.task, champion.metric)

    def gain(rows: Vector) -> float:
        answers = labelled.answers[rows]
        former = wanted.score(answers, output[rows])
        return (wanted.score(answers, kept.output[rows]) - former) / max(abs(former), 1e-12)

    value = gain(np.arange(kept.rows))
    spread = metrics.block_spread(gain, kept.rows)
    return Against(version=number, rows=kept.rows, gain=value, low=value - spread,
                   high=value + spread)  # fmt: skip


def _skew(bundle: Bundle, fresh: Logged) -> Skew | None:
    """Send a few logged rows through the code that training reads tables with."""
    if not fresh.rows:
        return None
    picked = np.zeros(fresh.rows, dtype=bool)
    picked[np.linspace(0, fresh.rows - 1, SKEW_ROWS).astype(int)] = True
    few = fresh.only(picked)
    columns, _ = read_frame(_frame(few, bundle.signature), bundle.signature)
    again: Output = bundle.model.output(columns)
    served = few.output
    apart = np.abs(again - served) / np.maximum(np.abs(served), 1.0)
    largest = float(np.max(apart))
    return Skew(rows=few.rows, largest_difference=largest, passed=largest <= SKEW_TOLERANCE)


def _frame(logged: Logged, signature: Signature) -> pd.DataFrame:
    """Return logged rows as a table would have them."""
    columns = {}
    for feature in signature.features:
        values = log.plain(logged.columns[feature.name], feature.kind)
        if feature.tokens is not None:
            values = [untokenised(text or "", feature.tokens) for text in values.to_pylist()]
        columns[feature.name] = values
    return frame_of(pa.table(columns))
