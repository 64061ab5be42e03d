"""The model card (Mitchell et al. 2019): what a model is for, what it was made of, how good it is,
where its limits are and whom to ask. One page, for who decides whether to use it."""

from collections.abc import Iterator
from html import escape

from treadle import bundle as bundles
from treadle import report
from treadle.bundle import Bundle
from treadle.evaluation import Evaluation
from treadle.records import Feature, Kind, Profile, Snapshot, Split, Training
from treadle.spec import Spec

FEW_ROWS = 500
BADLY_CALIBRATED = 0.05


def render(
    spec: Spec,
    bundle: Bundle,
    snapshot: Snapshot,
    split: Split,
    training: Training,
    evaluation: Evaluation,
) -> str:
    """Return the card as a page."""
    signature, trials = bundle.signature, len(training.trials)
    limits = "".join(f"<li>{escape(words)}</li>" for words in _limits(bundle, split, evaluation))
    tags = ", ".join(f"{key}: {value}" for key, value in spec.tags.items())
    facts = [
        ("Purpose", spec.description or "not stated (description in the spec)"),
        ("Predicts", f"{signature.target} ({signature.task.value})"),
        ("Owner", spec.owner or "not stated (owner in the spec)"),
        *([("Tags", tags)] if tags else []),
        ("Data", f"{snapshot.rows:,} rows of {snapshot.source}, snapshot {snapshot.digest}"),
        ("Split", _split(split)),
        ("Model", f"{training.best.family}, the best of {trials} candidates by {training.metric}"),
        ("Bundle", bundle.digest),
        ("Last word", "a person's (approval in the spec)" if spec.approval == "required"
         else "the gate's"),
    ]  # fmt: skip
    body = (
        "<h2 id='card'>Model card</h2>"
        + report.table(
            ["", spec.name], [[f"<b>{name}</b>", escape(words)] for name, words in facts]
        )
        + f"<h3>How good it is</h3>{_metrics(evaluation)}"
        + f"<h3>Limits</h3><ul>{limits}</ul>"
        + f"<details><summary>What it reads: {len(signature.features)} columns</summary>"
        + f"{_features(signature.features, bundle.reference)}</details>"
    )
    return report.page(f"{spec.name}: model card", body)


def _split(split: Split) -> str:
    words = f"{split.train_rows:,} rows to learn from, {split.test_rows:,} held out"
    if split.by == "time":
        return f"{words}: those of {split.column} from {split.cutoff} on"
    by = f" of {split.column}" if split.column else ""
    return f"{words}, by {split.by}{by}, seed {split.seed}"


def _metrics(found: Evaluation) -> str:
    rows = [
        [m.name, f"<b>{report.number(m.value)}</b>",
         f"{report.number(m.low)} … {report.number(m.high)}", report.number(known.value)]
        for m, known in zip(found.metrics, found.baseline, strict=True)
    ]  # fmt: skip
    header = ["on held-out rows", "", "95 % interval", "knowing nothing"]
    return report.table(header, rows, numeric=(1, 2, 3))


def _limits(bundle: Bundle, split: Split, found: Evaluation) -> Iterator[str]:
    """Say what is known to be weak, undefined or impossible."""
    if split.by == "time":
        yield f"It learned from what was before {split.cutoff}; nobody knows how long that holds."
    if found.rows < FEW_ROWS:
        yield f"It was measured on {found.rows:,} rows only: look at the intervals."
    if split.shared_rows:
        yield (
            f"{split.shared_rows:,} held-out rows are the same as one that it learned from: "
            "figures may be too good."
        )
    for s in found.search.worst[:3]:
        if s.metric is not None:
            yield (
                f"It is worse where {s.column} is {s.value}: {s.metric.name} "
                f"{report.number(s.metric.value)} ({report.number(s.metric.low)} … "
                f"{report.number(s.metric.high)}, {s.rows:,} rows)."
            )
    undefined = [f"{s.column} {s.value} ({s.why})" for s in found.slices if s.metric is None]
    if undefined:
        more = f" and {len(undefined) - 5} more" if len(undefined) > 5 else ""
        yield f"How good it is isn't known for {', '.join(undefined[:5])}{more}."
    if found.calibration is not None and found.calibration.error.low > BADLY_CALIBRATED:
        yield (
            f"Its probabilities are off by {found.calibration.error.value:.0%} on average: don't "
            "take them at their word."
        )
    if found.residuals is not None and not found.residuals.low <= 0 <= found.residuals.high:
        side = "low" if found.residuals.mean > 0 else "high"
        yield f"Its predictions are too {side} by {report.number(abs(found.residuals.mean))}."
    for fairness in found.fairness:
        apart = ", ".join(
            f"{report.number(value)} in “{name}”" for name, value in fairness.differences.items()
        )
        yield f"Groups of {fairness.column} are apart by {apart or 'an unknown amount'}."
    if bundles.ONNX not in bundle.files:
        yield "ONNX can't hold it: it runs on a server alone, in no browser and on no edge device."
    yield "What it reads beyond the ranges below is extrapolated; what is no value may be odd."


def _features(features: list[Feature], known: Profile) -> str:
    rows = []
    for feature in features:
        column = known.column(feature.name)
        seen = ""
        if column is not None and feature.kind is Kind.NUMBER:
            seen = f"{report.number(column.minimum)} … {report.number(column.maximum)}"
        elif column is not None and feature.kind is Kind.CATEGORY:
            seen = f"{column.distinct:,} values"
        rows.append(
            [escape(feature.name), feature.kind.value, "yes" if feature.nullable else "no", seen]
        )
    return report.table(["column", "kind", "may be null", "in training"], rows)
