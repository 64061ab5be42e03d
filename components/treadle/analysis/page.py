"""The analysis page: reasons in words first, then figures. Each part is a function that returns
HTML; ``render`` says in which order they come."""

from html import escape

import numpy as np

from treadle import report
from treadle.analysis import features_page, plots, search_page, segments_page, slices_page
from treadle.analysis.examined import Examined
from treadle.evaluation import Calibration, Evaluation, Residuals, Threshold
from treadle.records import Parity, Signature, Split, Training


def render(
    evaluation: Evaluation, seen: Examined, training: Training, parity: Parity, split: Split
) -> str:
    """Return the page's HTML."""
    decision, signature = evaluation.decision, seen.signature
    words = "The gate says yes" if decision.passed else "The gate says no"
    parts = [
        "<h2 id='analysis'>How good it is</h2>",
        report.verdict(words, decision.reasons, good=decision.passed),
        _metrics(evaluation),
        _shared(split.shared_rows, evaluation.rows),
        _outcome(evaluation),
        report.figures(plots.outcome(evaluation, seen, split)),
        _confusion(evaluation, signature),
        slices_page.render(evaluation),
        features_page.render(evaluation, signature, _class_shown(seen)),
        "<h2 id='training'>How it was found</h2>",
        search_page.render(training, parity),
        segments_page.render(training, seen),
    ]
    return report.page("Analysis", "".join(parts))


def _class_shown(seen: Examined) -> str | None:
    classes = seen.signature.classes
    if len(classes) <= 2:
        return classes[1] if classes else None
    return classes[int(np.bincount(seen.answers.astype(np.int64)).argmax())]


def _metrics(evaluation: Evaluation) -> str:
    header = ["metric", "this model", "95 % interval", "always the same answer"]
    if evaluation.champion:
        header.append(f"champion (version {evaluation.champion_version})")
    rows = []
    for i, metric in enumerate(evaluation.metrics):
        row = [
            f"{metric.name}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}",
            f"<b>{report.number(metric.value)}</b>",
            slices_page.interval(metric),
            report.number(evaluation.baseline[i].value),
        ]
        if evaluation.champion:
            row.append(report.number(evaluation.champion[i].value))
        rows.append(row)
    taken = evaluation.footprint
    return (
        f"<p>On {evaluation.rows:,} held-out rows. ↑ higher is better, "
        f"↓ lower.</p>{report.table(header, rows, numeric=(1, 2, 3, 4))}"
        f"<p class='soft'>The bundle has {taken.size_bytes / 2**20:.2f} MiB; a single row takes "
        f"{taken.median_ms:.2g} ms, 95 % of them at most {taken.high_ms:.2g} ms, without HTTP.</p>"
    )


def _shared(shared: int, rows: int) -> str:
    if not shared:
        return ""
    return (
        f"<p class='warn'>{shared:,} of {rows:,} held-out rows ({shared / rows:.1%}) are the same "
        "as a row that was learned from, so the figures may be too good: split by group, or say "
        "shared_rows: hard in preprocessing, which leaves such rows out of training.</p>"
    )


def _outcome(found: Evaluation) -> str:
    """Say in words what the pictures show."""
    said = []
    if found.residuals is not None:
        said.append(_residuals(found.residuals))
    if found.calibration is not None:
        said.append(_calibration(found.calibration))
    if found.threshold is not None:
        said.append(_threshold(found.threshold))
    return "".join(f"<p>{escape(words)}</p>" for words in said)


def _residuals(found: Residuals) -> str:
    within = ", ".join(
        f"{share:.0%} by at most {report.number(far)}" for share, far in found.within
    )
    sided = (
        "to neither side beyond doubt"
        if found.low <= 0 <= found.high
        else f"{'too low' if found.mean > 0 else 'too high'} on average: actual − predicted is "
        f"{report.number(found.mean)} (95 % interval {report.number(found.low)} … "
        f"{report.number(found.high)})"
    )
    return f"Predictions are {sided}; of the rows they are off {within}."


def _calibration(found: Calibration) -> str:
    error = found.error
    return (
        f"Probabilities are off by {error.value:.1%} on average (expected calibration error, 95 % "
        f"interval {error.low:.1%} … {error.high:.1%}); Brier score "
        f"{report.number(found.brier.value)} ({slices_page.interval(found.brier)})."
    )


def _threshold(found: Threshold) -> str:
    doubt = ""
    if found.cost > min(found.cost_at_half, found.cost_of_neither):
        doubt = " These rows are too few to say that it pays."
    return (
        f"Where calling it {found.label!r} wrongly costs {found.false_positive:g} and missing it "
        f"{found.false_negative:g}, call it so from a probability of {found.value:.3g} on: "
        f"{report.number(found.cost)} a row on rows that it wasn't chosen by, against "
        f"{report.number(found.cost_at_half)} at 0.5 and {report.number(found.cost_of_neither)} by "
        f"always saying the same. Probabilities that are what they say would put it at "
        f"{found.expected:.3g}.{doubt}"
    )


def _confusion(found: Evaluation, signature: Signature) -> str:
    if not found.confusion:
        return ""
    rows = [
        [escape(signature.classes[i]), *(f"{n:,}" if n else "·" for n in counts)]
        for i, counts in enumerate(found.confusion)
    ]
    header = ["actual \\ predicted", *map(escape, signature.classes)]
    return "<h3>Which class is taken for which</h3>" + report.table(
        header, rows, numeric=range(1, len(header))
    )
