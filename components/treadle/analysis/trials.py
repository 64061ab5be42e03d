"""The candidates of a search as parallel coordinates."""

from collections.abc import Sequence

import numpy as np

from treadle import report
from treadle.analysis.plots import BLUE, GREY, ORANGE
from treadle.records import Parameter, Training

MIN_LINES = 3


def parameters(training: Training) -> str:
    """Return parallel coordinates of the winner's family: a line a candidate, an axis a parameter,
    each from its lowest to its highest value, and the score last. Nothing where there is nothing to
    compare."""
    winner = training.best.family
    family = [t for t in training.trials if t.family == winner and t.score is not None]
    names = [
        name
        for name in training.best.parameters
        if len({trial.parameters[name] for trial in family}) > 1
    ]
    if len(family) < MIN_LINES or not names:
        return ""
    columns = [_places([trial.parameters[name] for trial in family]) for name in names]
    ranks = np.argsort(np.argsort([trial.score or 0.0 for trial in family])) / (len(family) - 1)
    drawing = report.new_figure(7, 3.0)
    axes = drawing.subplots()
    for i, trial in enumerate(family):
        best = trial.number == training.best.number
        axes.plot(
            range(len(names) + 1), [*(column[i] for column in columns), ranks[i]],
            color=ORANGE if best else BLUE, linewidth=2.4 if best else 1.0,
            alpha=1.0 if best else 0.15 + 0.6 * float(ranks[i]), zorder=3 if best else 2,
        )  # fmt: skip
    axes.set_xticks(range(len(names) + 1), [*names, f"rank by {training.metric}"], fontsize=8)
    for i, name in enumerate(names):
        ends = sorted({trial.parameters[name] for trial in family}, key=_sortable)
        for value, at, side in ((ends[0], -0.02, "top"), (ends[-1], 1.02, "bottom")):
            axes.text(i, at, _short(value), ha="center", va=side, fontsize=7)
        axes.axvline(i, color=GREY, linewidth=0.6)
    axes.axvline(len(names), color=GREY, linewidth=0.6)
    axes.set(yticks=[], ylim=(-0.12, 1.12))
    axes.spines["left"].set_visible(False)
    return report.figure(
        drawing,
        "parameters",
        f"What the candidates of {winner} were made of: a line each, the stronger the better it "
        "did. The orange one won.",
    )


def _places(values: Sequence[Parameter]) -> list[float]:
    """Return where values lie on an axis from 0 to 1: by size on a logarithmic scale where all are
    above 0 and far apart, else evenly; words in the order of the alphabet."""
    if any(isinstance(value, str | bool) for value in values):
        known = sorted({str(value) for value in values})
        return [known.index(str(value)) / max(len(known) - 1, 1) for value in values]
    numbers = np.array([float(value) for value in values])
    if numbers.min() > 0 and numbers.max() / numbers.min() > 10:
        numbers = np.log(numbers)
    spread = float(np.ptp(numbers)) or 1.0
    return [float(place) for place in (numbers - numbers.min()) / spread]


def _sortable(value: Parameter) -> tuple[bool, float, str]:
    text = isinstance(value, str)
    return text, 0.0 if text else float(value), str(value)


def _short(value: Parameter) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
