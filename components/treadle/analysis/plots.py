"""The pictures of how good a model is. Each is as wide as a phone; wider pages show them side by
side."""

from typing import TYPE_CHECKING

import numpy as np

from treadle import report
from treadle.analysis.examined import Examined
from treadle.encoding import Column
from treadle.evaluation import Calibration, Evaluation, Slice, Threshold
from treadle.records import Metric, Split
from treadle.resampling import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

BLUE, ORANGE, GREY, GREEN = "#3f7cc4", "#d9822b", "#8a939c", "#4d9a58"
_STEPS = 20


def outcome(found: Evaluation, seen: Examined, split: Split) -> list[str]:
    """Return the pictures that say how predictions and answers go together."""
    if not seen.signature.classes:
        drawn = [_predicted_against_actual(seen), _errors(seen), _errors_by_prediction(seen)]
    else:
        drawn = [_roc(found, seen)] if found.roc else []
        drawn += [reliability(found.calibration)] if found.calibration else []
        drawn += [costs(found.threshold)] if found.threshold else []
    later = _over_time(found, seen, split)
    return [*drawn, later] if later else drawn


def _see_through() -> "Colormap":
    """Return a colour map from nothing to blue: right on a light and on a dark page."""
    from matplotlib.colors import LinearSegmentedColormap

    blue = (0x3F / 255, 0x7C / 255, 0xC4 / 255)
    return LinearSegmentedColormap.from_list("density", [(*blue, 0.12), (*blue, 1.0)])


def _predicted_against_actual(seen: Examined) -> str:
    drawing = report.new_figure()
    axes = drawing.subplots()
    low, high = np.quantile(np.concatenate([seen.answers, seen.output]), [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    # A PNG inside the SVG: tens of thousands of points would make the page heavy.
    axes.hexbin(
        seen.output, seen.answers, gridsize=36, bins="log", cmap=_see_through(), rasterized=True,
        extent=(low, high, low, high), mincnt=1, linewidths=0,
    )  # fmt: skip
    axes.plot([low, high], [low, high], color=ORANGE, linewidth=1)
    target = seen.signature.target
    axes.set(xlabel=f"predicted {target}", ylabel=f"actual {target}")
    return report.figure(
        drawing,
        "predicted-actual",
        "Each held-out row, denser where there are many; on the line the prediction is right.",
    )


def _errors(seen: Examined) -> str:
    drawing = report.new_figure()
    axes = drawing.subplots()
    errors = seen.answers - seen.output
    first, last = np.quantile(errors, [0.005, 0.995])
    axes.hist(np.clip(errors, first, last), bins=50, color=BLUE)
    axes.axvline(0, color=ORANGE, linewidth=1)
    axes.set(xlabel="actual − predicted", ylabel="rows")
    return report.figure(
        drawing,
        "residuals",
        "How far off predictions are; the outermost bars hold all that is further off.",
    )


def _errors_by_prediction(seen: Examined) -> str:
    drawing = report.new_figure()
    axes = drawing.subplots()
    errors = seen.answers - seen.output
    order = np.argsort(seen.output, kind="stable")
    parts = [p for p in np.array_split(order, min(_STEPS, len(order))) if p.size]
    at = [float(np.mean(seen.output[p])) for p in parts]
    low, middle, high = np.array([np.quantile(errors[p], [0.1, 0.5, 0.9]) for p in parts]).T
    axes.fill_between(at, low, high, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(at, middle, "o-", color=BLUE, markersize=3)
    axes.axhline(0, color=ORANGE, linewidth=1)
    axes.set(xlabel=f"predicted {seen.signature.target}", ylabel="actual − predicted")
    return report.figure(
        drawing,
        "residuals-by-prediction",
        "The middle error, and between what 80 % of errors lie, from low to high predictions.",
    )


def _roc(found: Evaluation, seen: Examined) -> str:
    drawing = report.new_figure()
    axes = drawing.subplots()
    alarms, hits, _ = np.array(found.roc).T
    axes.plot(alarms, hits, color=BLUE)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    label = seen.signature.classes[1]
    return report.figure(drawing, "roc", f"ROC curve for {label!r}; on the grey line is guessing.")


def reliability(found: Calibration) -> str:
    """Return what was said against what happened."""
    drawing = report.new_figure()
    axes = drawing.subplots()
    said, happened = [b.said for b in found.bins], [b.happened for b in found.bins]
    below = [max(b.happened - b.low, 0) for b in found.bins]
    above = [max(b.high - b.happened, 0) for b in found.bins]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axes.errorbar(
        said, happened, yerr=[below, above], fmt="o-", color=BLUE, markersize=4, linewidth=1.2
    )
    axes.set(xlabel="probability said", ylabel="share that happened")
    return report.figure(
        drawing,
        "calibration",
        "Calibration, with 95 % intervals; on the line, what the model calls 70 % happens in 70 % "
        "of rows.",
    )


def costs(found: Threshold) -> str:
    """Return what each threshold costs."""
    drawing = report.new_figure()
    axes = drawing.subplots()
    places, cost = np.array(found.curve).T
    axes.plot(places, cost, color=BLUE)
    axes.axvline(found.value, color=ORANGE, linewidth=1.2)
    axes.set(xlabel=f"called {found.label!r} from this probability on", ylabel="cost a row")
    return report.figure(
        drawing, "threshold", f"Cost by threshold; the line is at the least, {found.value:.3g}."
    )


def _over_time(found: Evaluation, seen: Examined, split: Split) -> str | None:
    """Return the loss from the first held-out row to the last, where rows were split by time."""
    if split.by != "time" or split.column is None or len(seen) < 10 * _STEPS:
        return None
    from treadle import metrics

    m = metrics.measure(seen.signature.task, found.primary)
    order = np.argsort(_times(seen, split.column), kind="stable")
    parts = np.array_split(order, _STEPS)
    times = seen.frame[split.column].iloc[[int(part[len(part) // 2]) for part in parts]]
    values = [m.of(seen.answers[part], seen.output[part]) for part in parts]
    drawing = report.new_figure()
    axes = drawing.subplots()
    axes.plot(times.to_numpy(), values, "o-", color=BLUE, markersize=3)
    axes.axhline(found.metric(found.primary).value, color=GREY, linewidth=0.8)
    axes.set(xlabel=split.column, ylabel=found.primary)
    drawing.autofmt_xdate(rotation=30)
    return report.figure(
        drawing,
        "over-time",
        f"{found.primary} from the first held-out rows to the last; the grey line is the whole.",
    )


def _times(seen: Examined, column: str) -> Column | Vector:
    series = seen.frame[column]
    return series.to_numpy()


def slices(shown: list[Slice], whole: Metric) -> str:
    """Return each slice's metric with its interval, and the whole's as a line."""
    known = [(s, s.metric) for s in shown if s.metric is not None]
    drawing = report.new_figure(4.2, 1.0 + 0.26 * len(known))
    axes = drawing.subplots()
    places = np.arange(len(known))[::-1]
    values = np.array([m.value for _, m in known])
    below = np.maximum(values - [m.low for _, m in known], 0)
    above = np.maximum([m.high for _, m in known] - values, 0)
    axes.axvline(whole.value, color=ORANGE, linewidth=1)
    axes.errorbar(values, places, xerr=[below, above], fmt="o", color=BLUE, markersize=4)
    axes.set_yticks(places, [shortened(f"{s.column}: {s.value}") for s, _ in known], fontsize=8)
    axes.set(xlabel=whole.name)
    return report.figure(
        drawing,
        "slices",
        "The slices that the spec names, with 95 % intervals; the line is the whole.",
    )


def shortened(words: str, most: int = 26) -> str:
    """Cut words that a picture has no room for."""
    return words if len(words) <= most else words[: most - 1] + "…"


def bars(axes: "Axes", names: list[str], values: list[float], errors: list[float]) -> None:
    """Draw horizontal bars, the first on top, with error bars."""
    places = np.arange(len(names))[::-1]
    colours = [BLUE if value >= 0 else ORANGE for value in values]
    axes.barh(
        places, values, xerr=errors, color=colours, error_kw={"ecolor": GREY, "elinewidth": 1}
    )
    axes.set_yticks(places, [shortened(name) for name in names], fontsize=8)
