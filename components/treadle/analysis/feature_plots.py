"""The pictures of why a model answers as it does."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from treadle import report
from treadle.analysis import plots
from treadle.evaluation import Dependence, Evaluation, Explained
from treadle.records import Kind, Signature

MOST_BARS = 12
# A part whose standard error is so small a share of the largest is one of float32's rounding.
_EXACT = 1e-5


def importances(found: Evaluation) -> str:
    """Return a bar for each of the features that matter most."""
    top = found.importances[:MOST_BARS]
    drawing = report.new_figure(4.2, 0.8 + 0.25 * len(top))
    axes = drawing.subplots()
    plots.bars(
        axes, [i.feature for i in top], [i.lost for i in top], [i.high - i.lost for i in top]
    )
    axes.set(xlabel=f"{found.primary} lost when shuffled")
    return report.figure(
        drawing,
        "importances",
        "What the model looks at: how much worse it is when a column is shuffled (permutation "
        "importance, with 95 % intervals).",
    )


def dependence(found: Sequence[Dependence], signature: Signature, shown: str) -> list[str]:
    """Return a picture a feature."""
    return [_dependence(d, shown, number) for number, d in enumerate(found, 1)]


def _dependence(found: Dependence, shown: str, number: int) -> str:
    drawing = report.new_figure(4.2, 2.6)
    axes = drawing.subplots()
    if found.kind == Kind.CATEGORY:
        order = np.argsort(found.mean, kind="stable")
        places = np.arange(len(order))
        mean, low, high = (np.array(v)[order] for v in (found.mean, found.low, found.high))
        off = [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]
        axes.errorbar(mean, places, xerr=off, fmt="o", color=plots.BLUE, markersize=4)
        words = ["no value" if p == "<null>" else str(p) for p in np.array(found.places)[order]]
        axes.set_yticks(places, [plots.shortened(w, 18) for w in words], fontsize=8)
        axes.set(xlabel=shown)
    else:
        at = [float(p) for p in found.places]
        x = [datetime.fromtimestamp(p, UTC) for p in at] if found.kind == Kind.TIME else at
        axes.fill_between(x, found.low, found.high, color=plots.BLUE, alpha=0.25, linewidth=0)  # type: ignore[arg-type]
        axes.plot(x, found.mean, "o-", color=plots.BLUE, markersize=3)  # type: ignore[arg-type]
        axes.set(ylabel=shown, xlabel=found.feature)
        if found.kind == Kind.TIME:
            drawing.autofmt_xdate(rotation=30)
    return report.figure(
        drawing,
        f"dependence-{number}",
        f"{found.feature}: the mean over rows. The wider the band, the more it depends on other "
        "columns.",
    )


def explained(found: Sequence[Explained]) -> list[str]:
    """Return a picture a row."""
    return [_explained(e, number) for number, e in enumerate(found, 1)]


def _explained(found: Explained, number: int) -> str:
    drawing = report.new_figure(4.2, 0.8 + 0.28 * max(len(found.parts), 1))
    axes = drawing.subplots()
    names = [f"{p.feature} = {p.value}" for p in found.parts]
    plots.bars(axes, names, [p.adds for p in found.parts], [0.0] * len(names))
    axes.axvline(0, color=plots.GREY, linewidth=0.8)
    axes.set(xlabel="adds to the answer")
    largest = max((abs(p.adds) for p in found.parts), default=0.0)
    exact = "exact" if found.error <= _EXACT * largest else f"± {report.number(found.error)}"
    return report.figure(
        drawing,
        f"explanation-{number}",
        f"{found.words}: predicted {found.predicted}, was {found.actual}. A usual row gets "
        f"{report.number(found.usual)}, this one {report.number(found.output)}; the parts are "
        f"{exact}.",
    )
