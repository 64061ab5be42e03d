"""How a model treats the values of a sensitive column, by fairlearn's measures."""

from collections.abc import Callable
from typing import Any

import numpy as np

from treadle.analysis import cells
from treadle.analysis.examined import Examined
from treadle.analysis.slices import MIN_SLICE_ROWS
from treadle.evaluation import Fairness, Group
from treadle.records import Task
from treadle.resampling import Vector

Figure = Callable[[Vector, Vector], float]


def of(seen: Examined, column: str) -> Fairness:
    """Return each group's figures, and how far the groups are apart. Groups of few rows, and
    figures that a group leaves undefined, are told as such and not compared."""
    # Long to import, and only needed where a spec names sensitive columns.
    from fairlearn.metrics import MetricFrame

    parted = cells.part(seen, column)
    counts = np.bincount(parted.codes[parted.codes >= 0], minlength=len(parted.labels))
    large = np.flatnonzero(counts >= MIN_SLICE_ROWS)
    kept = np.isin(parted.codes, large)
    groups = [
        Group(value=label, rows=int(rows), why=f"fewer than {MIN_SLICE_ROWS} rows")
        for label, rows in zip(parted.labels, counts, strict=True)
        if rows < MIN_SLICE_ROWS
    ]
    if not large.size:
        return Fairness(column=column, groups=groups, differences={}, ratios={})
    predicted = seen.output.argmax(axis=1) if seen.signature.classes else seen.output
    frame = MetricFrame(
        metrics=_figures(seen.signature.task),
        y_true=seen.answers[kept],
        y_pred=predicted[kept],
        sensitive_features=parted.codes[kept],
    )
    known = [_group(parted.labels[code], counts[code], frame.by_group.loc[code]) for code in large]
    comparable = seen.signature.task is not Task.REGRESSION
    return Fairness(
        column=column,
        groups=known + groups,
        differences=_numbers(frame.difference()),
        ratios=_numbers(frame.ratio()) if comparable else {},
    )


def _figures(task: Task) -> dict[str, Figure]:
    """Return what is measured of each group."""
    from fairlearn import metrics as fair

    def accuracy(actual: Vector, predicted: Vector) -> float:
        return float(np.mean(np.asarray(actual) == np.asarray(predicted)))

    def mean_error(actual: Vector, predicted: Vector) -> float:
        return float(np.mean(np.asarray(actual) - np.asarray(predicted)))

    def off_by(actual: Vector, predicted: Vector) -> float:
        return float(np.mean(np.abs(np.asarray(actual) - np.asarray(predicted))))

    if task is Task.REGRESSION:
        return {
            "mean prediction": fair.mean_prediction,
            "actual less predicted": mean_error,
            "off by, on average": off_by,
        }
    if task is Task.MULTICLASS:
        return {"accuracy": accuracy}
    return {
        "called the second class": fair.selection_rate,
        "true positive rate": _where(1, fair.true_positive_rate),
        "false positive rate": _where(0, fair.false_positive_rate),
        "accuracy": accuracy,
    }


def _where(needed: int, figure: Any) -> Figure:
    """Return a rate that is undefined, not 0, in a group without rows of the class it is of."""

    def of_group(actual: Vector, predicted: Vector) -> float:
        known = np.asarray(actual) == needed
        return float(figure(actual, predicted, pos_label=1)) if known.any() else float("nan")

    return of_group


def _group(label: str, rows: int, figures: Any) -> Group:
    return Group(value=label, rows=int(rows), figures=_numbers(figures))


def _numbers(figures: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in figures.items()}
