"""Measure a bundle on the held-out rows: the very graph that will be served, on rows that
training never saw."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from treadle import metrics, prepared
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.encoding import Column, category
from treadle.errors import DataError
from treadle.metrics import Measure, Vector
from treadle.records import Decision, Evaluation, Metric, Signature, Slice
from treadle.signature import arrays, encode_frame
from treadle.spec import Analysis, MetricName

MIN_SLICE_ROWS = 30
MOST_SLICES = 12
IMPORTANCE_ROWS = 5_000
IMPORTANCE_ROUNDS = 3


@dataclass(frozen=True)
class Examined:
    """Held-out rows with the model's output beside the answers."""

    frame: pd.DataFrame
    columns: dict[str, Column]
    answers: Vector
    output: Output


def examine(bundle: Bundle, held_out: pd.DataFrame) -> Examined:
    """Run the bundle over the held-out rows. Rows of a class that training never saw are left
    out."""
    answers = prepared.encode_target(held_out[bundle.signature.target], bundle.signature)
    known = np.ones(len(answers), dtype=bool)
    if bundle.signature.task.is_classification:
        known = answers != prepared.UNKNOWN_CLASS
    if not known.any():
        raise DataError("no held-out row has a class that training saw")
    frame = held_out[known].reset_index(drop=True)
    columns = arrays(encode_frame(frame, bundle.signature))
    return Examined(frame, columns, answers[known], bundle.model.output(columns))


def evaluate(
    bundle: Bundle,
    seen: Examined,
    training_answers: Vector,
    options: Analysis,
    metric: MetricName,
    seed: int,
    champion: tuple[int, Bundle] | None,
) -> Evaluation:
    """Return metrics with intervals, slices, importances, and what the gate says."""
    signature = bundle.signature
    primary = metrics.measure(signature.task, metric)
    others = [m for m in metrics.measures(signature.task) if m.name is not primary.name]
    wanted = [primary, *others]

    def measured(output: Output) -> list[Metric]:
        return [
            metrics.with_interval(m, seen.answers, output, options.bootstrap, seed) for m in wanted
        ]

    trivial = _trivial_output(training_answers, len(seen.answers), signature)
    rival = None if champion is None else examine(champion[1], seen.frame).output
    return Evaluation(
        rows=len(seen.answers),
        primary=primary.name.value,
        metrics=measured(seen.output),
        baseline=measured(trivial),
        slices=_slices(seen, primary, options, seed),
        importances=_importances(bundle, seen, primary, seed),
        champion=[] if rival is None else measured(rival),
        champion_version=None if champion is None else champion[0],
        decision=_decide(primary, seen, trivial, rival, champion, bundle, options, seed),
    )


def _trivial_output(training: Vector, rows: int, signature: Signature) -> Output:
    """What knowing nothing but the training answers would say: their mean, or their shares."""
    if not signature.task.is_classification:
        return np.full(rows, float(np.mean(training)))
    shares = np.bincount(training.astype(np.int64), minlength=len(signature.classes))
    return np.tile(shares / shares.sum(), (rows, 1))


def _decide(
    primary: Measure,
    seen: Examined,
    trivial: Output,
    rival: Output | None,
    champion: tuple[int, Bundle] | None,
    bundle: Bundle,
    options: Analysis,
    seed: int,
) -> Decision:
    """The gate: better than knowing nothing, and not worse than the champion, on the same rows."""
    against_nothing = paired_gain(primary, seen, trivial, options.bootstrap, seed)
    # Not "<= 0": what can't be measured (nan) doesn't pass.
    if not against_nothing[1] > 0:
        words = _gain_words(primary, against_nothing, "always giving the training part's average")
        return Decision(passed=False, reasons=[f"no better than a constant: {words}"])
    reasons = [_gain_words(primary, against_nothing, "always giving the training part's average")]
    if champion is None or rival is None:
        return Decision(passed=True, reasons=[*reasons, "there is no champion to beat"])
    version, other = champion
    if other.digest == bundle.digest:
        words = f"it is the champion (version {version}) itself, to the last bit"
        return Decision(passed=True, reasons=[*reasons, words])
    gain = paired_gain(primary, seen, rival, options.bootstrap, seed)
    reasons.append(_gain_words(primary, gain, f"the champion (version {version})"))
    needed = options.must_beat_by
    if gain[1] > needed:
        return Decision(passed=True, reasons=reasons)
    reasons.append(
        f"so it is not certain to beat the champion by more than {needed:.1%} "
        "(analysis.must_beat_by): the champion stays"
    )
    return Decision(passed=False, reasons=reasons)


def paired_gain(
    m: Measure, seen: Examined, rival: Output, rounds: int, seed: int
) -> tuple[float, float, float]:
    """Return by how much better than ``rival`` the model is on the same rows, as a share of the
    rival's metric: the gain and its 95 % interval, from a paired bootstrap."""
    random = np.random.default_rng(seed)
    rows = len(seen.answers)

    def gain(picked: Vector) -> float:
        ours = m.score(seen.answers[picked], seen.output[picked])
        theirs = m.score(seen.answers[picked], rival[picked])
        return (ours - theirs) / max(abs(theirs), 1e-12)

    drawn = [gain(random.integers(0, rows, rows)) for _ in range(rounds)]
    known = [value for value in drawn if not np.isnan(value)]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (np.nan, np.nan)
    return gain(np.arange(rows)), float(low), float(high)


def _gain_words(m: Measure, gain: tuple[float, float, float], rival: str) -> str:
    value, low, high = gain
    better = "better" if value >= 0 else "worse"
    return (
        f"{m.name} is {abs(value):.1%} {better} than {rival} on the same rows "
        f"(95 % interval {low:+.1%} to {high:+.1%})"
    )


def _slices(seen: Examined, primary: Measure, options: Analysis, seed: int) -> list[Slice]:
    found = []
    for name in options.slices:
        if name not in seen.frame.columns:
            raise DataError(f"analysis.slices: there is no column {name!r}")
        values = np.array([category(value) for value in seen.frame[name]], dtype=object)
        common = pd.Series(values).value_counts().index[:MOST_SLICES]
        found += [
            _slice(name, str(value), values == value, seen, primary, options, seed)
            for value in common
        ]
    return found


def _slice(
    column: str,
    value: str,
    rows: Vector,
    seen: Examined,
    primary: Measure,
    options: Analysis,
    seed: int,
) -> Slice:
    count = int(rows.sum())
    if count < MIN_SLICE_ROWS:
        why = f"fewer than {MIN_SLICE_ROWS} rows"
        return Slice(column=column, value=value, rows=count, metric=None, why=why)
    found = metrics.with_interval(
        primary, seen.answers[rows], seen.output[rows], options.bootstrap, seed
    )
    if np.isnan(found.value):
        return Slice(column=column, value=value, rows=count, metric=None, why="one class only")
    return Slice(column=column, value=value, rows=count, metric=found)


def _importances(bundle: Bundle, seen: Examined, primary: Measure, seed: int) -> dict[str, float]:
    """Permutation importance (Breiman 2001): what the metric loses when a feature is shuffled,
    the mean over rounds, on at most IMPORTANCE_ROWS rows. Highest first."""
    random = np.random.default_rng(seed)
    rows = len(seen.answers)
    picked = random.permutation(rows)[:IMPORTANCE_ROWS]
    columns = {name: values[picked] for name, values in seen.columns.items()}
    answers = seen.answers[picked]
    whole = primary.score(answers, bundle.model.output(columns))
    lost = {}
    for name, values in columns.items():
        scores = [
            primary.score(
                answers, bundle.model.output(columns | {name: random.permutation(values)})
            )
            for _ in range(IMPORTANCE_ROUNDS)
        ]
        lost[name] = float(whole - np.mean(scores))
    return dict(sorted(lost.items(), key=lambda item: -item[1]))
