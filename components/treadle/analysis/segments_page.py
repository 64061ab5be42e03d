"""The part of the analysis page that says how each segment is answered."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from treadle import report
from treadle.analysis.examined import Examined
from treadle.analysis.plots import BLUE, GREY, ORANGE, shortened
from treadle.records import SegmentIndex, SegmentModel, Training
from treadle.segments import keys_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Small multiples: so many, the largest first, so many in a row, with so many points each.
MOST_SHOWN = 24
ACROSS = 6
POINTS = 300


def render(training: Training, seen: Examined) -> str:
    """Return table and pictures of the segments; nothing where there are none."""
    index = training.segments
    if index is None:
        return ""
    words = (
        f"<h3>One model per {escape(' and '.join(index.columns))}</h3>"
        f"<p>{index.own:,} of {len(index.segments):,} segments have a model of their own, because "
        "it scores better on their tuning rows than the pooled one, which answers the rest and "
        "whatever is new.</p>"
    )
    return words + _multiples(index, seen) + _table(index, training)


def _table(index: SegmentIndex, training: Training) -> str:
    rows = [_row(segment, training) for segment in sorted(index.segments, key=_gain, reverse=True)]
    header = ["segment", "rows", "model", f"its {training.metric}", "the pooled one's", ""]
    table = report.table(header, rows, numeric=(1, 3, 4))
    return (
        f"<details><summary>All {len(rows):,} segments, by what they win</summary>{table}</details>"
    )


def _gain(segment: SegmentModel) -> float:
    if segment.family is None or segment.score is None or segment.pooled_score is None:
        return float("-inf")
    return (segment.score - segment.pooled_score) / (abs(segment.pooled_score) or 1.0)


def _row(segment: SegmentModel, training: Training) -> list[str]:
    own, pooled = (
        report.number(None if score is None else training.value(score))
        for score in (segment.score, segment.pooled_score)
    )
    return [
        escape(segment.words), f"{segment.rows:,}", escape(segment.family or "pooled"), own, pooled,
        escape(segment.why or ""),
    ]  # fmt: skip


def _multiples(index: SegmentIndex, seen: Examined) -> str:
    """Return a small picture of each of the largest segments, on the held-out rows."""
    keys = keys_of(seen.columns, index.columns)
    of: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(keys):
        of.setdefault(key, []).append(row)
    shown = [s for s in sorted(index.segments, key=lambda s: -s.rows) if tuple(s.key) in of]
    shown = shown[:MOST_SHOWN]
    if not shown:
        return ""
    down = -(-len(shown) // ACROSS)
    drawing = report.new_figure(7, 0.4 + 1.25 * down)
    panels = drawing.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False)
    limits = _limits(seen)
    for panel, segment in zip(panels.flat, shown, strict=False):
        _draw(panel, np.array(of[tuple(segment.key)]), seen, limits)
        colour = GREY if segment.family is None else BLUE
        panel.set_title(shortened(segment.words, 14), fontsize=7, pad=2, color=colour)
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    what = (
        "the probability that was given to the right class, by how many rows"
        if seen.signature.classes
        else "predicted across, actual up; on the line the prediction is right"
    )
    return report.figure(
        drawing,
        "segments",
        f"The {len(shown)} largest segments on held-out rows: {what}. Where the title is "
        "grey, the pooled model answers.",
    )


def _limits(seen: Examined) -> tuple[float, float]:
    if seen.signature.classes:
        return 0.0, 1.0
    both = np.concatenate([seen.answers, seen.output])
    low, high = np.quantile(both, [0.01, 0.99])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _draw(
    axes: "Axes", rows: npt.NDArray[np.int64], seen: Examined, limits: tuple[float, float]
) -> None:
    answers, output = seen.answers[rows], seen.output[rows]
    axes.tick_params(labelsize=6)
    if seen.signature.classes:
        given = output[np.arange(len(rows)), answers.astype(np.int64)]
        axes.hist(
            given, bins=10, range=(0, 1), weights=np.full(len(rows), 1 / len(rows)), color=BLUE
        )
        return
    picked = _spread(len(rows))
    axes.plot(limits, limits, color=ORANGE, linewidth=0.8)
    axes.plot(
        output[picked], answers[picked], "o", color=BLUE, markersize=1.5, alpha=0.4,
        rasterized=True,
    )  # fmt: skip
    axes.set(xlim=limits, ylim=limits)


def _spread(rows: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, POINTS)).astype(np.int64))
