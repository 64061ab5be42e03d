"""The part of the analysis page that says how the model was found."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from treadle import report
from treadle.analysis import trials
from treadle.analysis.plots import BLUE, GREEN, GREY, ORANGE
from treadle.records import Parity, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "linear": ORANGE,
    "hist_gradient_boosting": BLUE,
    "forest": GREEN,
    "mlp": "#9a5bb5",
    "neighbours": "#b58a2b",
    "lightgbm": "#2a9d8f",
    "xgboost": "#c2476b",
}


def render(training: Training, parity: Parity) -> str:
    """Return the search, every trial, and how far the bundle is from what was fitted."""
    return "".join(
        [
            _search(training),
            report.figures(
                [_curves(training), *([_learning(training)] if len(training.learning) > 1 else [])]
            ),
            trials.parameters(training),
            _trials(training),
            _parity(parity),
        ]
    )


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


def _learning(training: Training) -> str:
    """Return whether more rows would help."""
    drawing = report.new_figure()
    axes = drawing.subplots()
    rows = [point.rows for point in training.learning]
    for name, colour in (("unseen", BLUE), ("learned", ORANGE)):
        values = [training.value(getattr(point, name)) for point in training.learning]
        axes.plot(rows, values, "o-", color=colour, markersize=4, label=f"{name} rows")
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, [f"{n:,}" for n in rows], rotation=30, fontsize=8)
    axes.minorticks_off()
    axes.legend(fontsize=8)
    axes.set(xlabel="rows learned from", ylabel=training.metric)
    return report.figure(
        drawing,
        "learning-curve",
        "The winner on more and more rows. Where the line of unseen rows still gets better at its "
        "end, more rows would help; where both lines meet, another model might.",
    )


def _trials(training: Training) -> str:
    ranked = sorted(training.trials, key=lambda t: t.score if t.score is not None else -1e300)
    rows = []
    for trial in reversed(ranked):
        parameters = ", ".join(f"{k} = {_value(v)}" for k, v in trial.parameters.items())
        mark = " ★" if trial.number == training.best.number else ""
        end = "failed" if trial.fault else ("stopped" if trial.stopped_early else "finished")
        value = training.value(trial.score) if trial.score is not None else None
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


def _curves(training: Training) -> str:
    """Return every trial's learning curve."""
    drawing = report.new_figure()
    axes = drawing.subplots()
    for trial in training.trials:
        if trial.curve:
            units = [units for units, _ in trial.curve]
            values = [training.value(score) for _, score in trial.curve]
            best = trial.number == training.best.number
            axes.plot(
                units, values, "o-", color=_COLOURS.get(trial.family, GREY), markersize=3,
                linewidth=2.2 if best else 0.9, alpha=1 if best else 0.6,
            )  # fmt: skip
    families = sorted({trial.family for trial in training.trials})
    for family in families:
        axes.plot([], [], color=_COLOURS.get(family, GREY), label=family)
    axes.legend(fontsize=8)
    axes.set(xlabel="share of the rounds or trees, in ninths", ylabel=training.metric)
    _clip_outliers(axes, training)
    better = "up" if training.higher_is_better else "down"
    return report.figure(
        drawing,
        "trials",
        f"Every candidate on the tuning rows as it grew, {better} is better; weak ones were "
        "stopped early. The thick line won.",
    )


def _clip_outliers(axes: "Axes", training: Training) -> None:
    """Keep one hopeless candidate from flattening the rest."""
    scores = [score for trial in training.trials for _, score in trial.curve]
    if len(scores) > 3:
        low, high = np.quantile(scores, [0.1, 1.0])
        margin = 0.08 * (high - low) or 0.01
        axes.set_ylim(*sorted(training.value(s) for s in (low - margin, high + margin)))
