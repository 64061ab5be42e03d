"""The analysis page: reasons in words first, then figures."""

from html import escape

from treadle import report
from treadle.analysis import plots
from treadle.analysis.evaluate import Examined
from treadle.records import Evaluation, Metric, Parity, Signature, Training


def render(
    evaluation: Evaluation,
    seen: Examined,
    signature: Signature,
    training: Training,
    parity: Parity,
    shared_rows: int,
) -> str:
    """Return the page's HTML; ``shared_rows`` held-out rows are among those learned from."""
    decision = evaluation.decision
    words = "The gate says yes" if decision.passed else "The gate says no"
    parts = [
        "<h2 id='analysis'>How good it is</h2>",
        report.verdict(words, decision.reasons, good=decision.passed),
        _metrics(evaluation),
        _shared(shared_rows, evaluation.rows),
        plots.outcome(seen, signature),
        plots.importances(evaluation),
        _slices(evaluation),
        "<h2 id='training'>How it was found</h2>",
        _search(training),
        plots.trials(training),
        _trials(training),
        _parity(parity),
    ]
    return report.page("Analysis", "".join(parts))


def _metrics(evaluation: Evaluation) -> str:
    header = ["metric", "this model", "95 % interval", "always the average"]
    if evaluation.champion:
        header.append(f"champion (version {evaluation.champion_version})")
    rows = []
    for i, metric in enumerate(evaluation.metrics):
        row = [
            f"{metric.name}{' ↑' if metric.higher_is_better else ' ↓'}",
            f"<b>{report.number(metric.value)}</b>",
            _interval(metric),
            report.number(evaluation.baseline[i].value),
        ]
        if evaluation.champion:
            row.append(report.number(evaluation.champion[i].value))
        rows.append(row)
    return (
        f"<p>On {evaluation.rows:,} held-out rows. ↑ higher is better, "
        f"↓ lower.</p>{report.table(header, rows, numeric=(1, 2, 3, 4))}"
    )


def _shared(shared: int, rows: int) -> str:
    if not shared:
        return ""
    return (
        f"<p class='warn'>{shared:,} of {rows:,} held-out rows ({shared / rows:.1%}) are the same "
        "as a row that was learned from, so the figures may be too good: split by group, or say "
        "shared_rows: hard in preprocessing, which leaves such rows out of training.</p>"
    )


def _interval(metric: Metric) -> str:
    return f"{report.number(metric.low)} … {report.number(metric.high)}"


def _slices(evaluation: Evaluation) -> str:
    if not evaluation.slices:
        return ""
    whole = evaluation.metric(evaluation.primary)

    def worse(value: float) -> float:
        return whole.value - value if whole.higher_is_better else value - whole.value

    known = sorted(
        (s for s in evaluation.slices if s.metric),
        key=lambda s: -worse(s.metric.value),  # type: ignore[union-attr]
    )
    rows = [
        [escape(s.column), escape(s.value), f"{s.rows:,}", report.number(s.metric.value),
         _interval(s.metric)]
        for s in known if s.metric
    ]  # fmt: skip
    rows += [
        [escape(s.column), escape(s.value), f"{s.rows:,}", "undefined", escape(s.why or "")]
        for s in evaluation.slices
        if s.metric is None
    ]
    table = report.table(
        ["column", "value", "rows", evaluation.primary, "95 % interval"], rows, numeric=(2, 3, 4)
    )
    return f"<h3>For whom it is worse</h3><p class='soft'>The worst first.</p>{table}"


def _search(training: Training) -> str:
    stopped = sum(trial.stopped_early for trial in training.trials)
    failed = [trial for trial in training.trials if trial.fault]
    words = (
        f"<p>{len(training.trials)} candidates in {training.search_seconds:.0f} s, {stopped} "
        f"stopped early. The winner, <b>{escape(training.best.family)}</b>, was fitted again on "
        f"all {training.fit_rows:,} training rows in {training.refit_seconds:.0f} s.</p>"
    )
    faults = "".join(f"<li>trial {t.number}: {escape(t.fault or '')}</li>" for t in failed)
    notes = "".join(f"<li>{escape(note)}</li>" for note in training.notes)
    return words + (f"<ul>{faults}{notes}</ul>" if faults or notes else "")


def _trials(training: Training) -> str:
    ranked = sorted(training.trials, key=lambda t: t.score if t.score is not None else -1e300)
    rows = []
    for trial in reversed(ranked):
        parameters = ", ".join(f"{k} = {_value(v)}" for k, v in trial.parameters.items())
        mark = " ★" if trial.number == training.best.number else ""
        end = "failed" if trial.fault else ("stopped" if trial.stopped_early else "finished")
        value = training.value(trial.curve[-1][1]) if trial.curve else None
        rows.append(
            [f"{trial.number}{mark}", trial.family, escape(parameters), end,
             report.number(value), f"{trial.seconds:.1f} s"]
        )  # fmt: skip
    header = ["trial", "family", "parameters", "", training.metric, "time"]
    return (
        f"<details><summary>All {len(rows)} trials</summary>"
        f"{report.table(header, rows, numeric=(4, 5))}</details>"
    )


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parity(parity: Parity) -> str:
    labels = "" if parity.equal_labels is None else f", labels equal in {parity.equal_labels:.2%}"
    if parity.passed:
        return (
            f"<p>The ONNX graph that is served agrees with scikit-learn on {parity.rows:,} real "
            f"rows, some with nulls and unseen categories put in: largest difference "
            f"{parity.largest_difference:.2g} (allowed {parity.tolerance:.2g}){labels}.</p>"
        )
    return (
        f"<p class='warn'>ONNX can't be equal here (largest difference "
        f"{parity.largest_difference:.3g}, allowed {parity.tolerance:.3g}{labels}), so the bundle "
        "carries the scikit-learn pipeline: browser and edge are not possible for this version.</p>"
    )
