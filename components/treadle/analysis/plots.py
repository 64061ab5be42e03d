"""The pictures of the analysis page."""

from typing import TYPE_CHECKING

import numpy as np

from treadle import report
from treadle.analysis.evaluate import Examined
from treadle.records import Evaluation, Signature, Task, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#3f7cc4", "#d9822b", "#8a939c"
_COLOURS = {"linear": ORANGE, "hist_gradient_boosting": BLUE, "forest": "#4d9a58"}


def outcome(seen: Examined, signature: Signature) -> str:
    """Return the picture that says how predictions and answers go together."""
    if signature.task is Task.REGRESSION:
        return _predicted_against_actual(seen, signature)
    if signature.task is Task.BINARY:
        return _calibration(seen, signature)
    return _confusion(seen, signature)


def _predicted_against_actual(seen: Examined, signature: Signature) -> str:
    drawing = report.new_figure(7, 3.4)
    left, right = drawing.subplots(1, 2)
    low, high = np.quantile(np.concatenate([seen.answers, seen.output]), [0.005, 0.995])
    # A PNG inside the SVG: tens of thousands of points would make the page heavy.
    left.hexbin(
        seen.output, seen.answers, gridsize=40, bins="log", cmap="Blues", rasterized=True,
        extent=(low, high, low, high), mincnt=1,
    )  # fmt: skip
    left.plot([low, high], [low, high], color=ORANGE, linewidth=1)
    left.set(xlabel=f"predicted {signature.target}", ylabel=f"actual {signature.target}")
    errors = seen.answers - seen.output
    first, last = np.quantile(errors, [0.005, 0.995])
    edges = np.linspace(first, last, 50)
    right.hist(errors, bins=list(edges), color=BLUE)
    right.axvline(0, color=ORANGE, linewidth=1)
    right.set(xlabel="actual − predicted", yticks=[])
    return report.figure(
        drawing,
        "Left: each held-out row, darker where there are many; on the line the prediction "
        "is right. Right: how far off the predictions are.",
    )


def _calibration(seen: Examined, signature: Signature) -> str:
    drawing = report.new_figure(7, 3.4)
    left, right = drawing.subplots(1, 2)
    scores, positive = seen.output[:, 1], seen.answers == 1
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order]) / max(positive.sum(), 1)
    alarms = np.cumsum(~positive[order]) / max((~positive).sum(), 1)
    left.plot(alarms, hits, color=BLUE)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    left.set(xlabel="false positive rate", ylabel="true positive rate")
    bins = np.clip((scores * 10).astype(int), 0, 9)
    filled = [b for b in range(10) if (bins == b).any()]
    said = [float(scores[bins == b].mean()) for b in filled]
    happened = [float(positive[bins == b].mean()) for b in filled]
    right.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    right.plot(said, happened, "o-", color=BLUE, markersize=4)
    right.set(xlabel="probability said", ylabel="share that happened")
    label = signature.classes[1]
    return report.figure(
        drawing,
        f"Left: ROC curve for {label!r}. Right: calibration; on the line, what the model "
        "calls 70 % happens in 70 % of rows.",
    )


def _confusion(seen: Examined, signature: Signature) -> str:
    classes = len(signature.classes)
    said = seen.output.argmax(axis=1)
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (seen.answers.astype(int), said), 1)
    rows = [
        [signature.classes[i], *(f"{n:,}" if n else "·" for n in counts[i])] for i in range(classes)
    ]
    header = ["actual \\ predicted", *signature.classes]
    return "<h3>Which class is taken for which</h3>" + report.table(
        header, rows, numeric=range(1, classes + 1)
    )


def importances(evaluation: Evaluation, most: int = 12) -> str:
    """Return a bar for each of the features that matter most."""
    top = list(evaluation.importances.items())[:most][::-1]
    drawing = report.new_figure(7, 0.6 + 0.24 * len(top))
    axes = drawing.subplots()
    axes.barh([name for name, _ in top], [lost for _, lost in top], color=BLUE)
    axes.set(xlabel=f"{evaluation.primary} lost when the column is shuffled")
    return report.figure(drawing, "What the model looks at (permutation importance).")


def trials(training: Training) -> str:
    """Return every trial's learning curve."""
    drawing = report.new_figure(7, 3.0)
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
