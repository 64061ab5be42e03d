"""Performance without labels, of a classifier whose probabilities can be believed.

The confidence-based estimate (CBPE): where 100 answers of 0.8 are right 80 times, the answers
themselves say how often they are right. Białek, Kuberski, Perrakis and Bifet 2024, "Estimating
Model Performance Under Covariate Shift Without Labels" (arXiv:2401.08348). It sees a change of the
inputs; that the same inputs mean something else now it can't see.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from treadle.answers import Output
from treadle.metrics import block_interval, measure
from treadle.records import Metric, Task
from treadle.spec import MetricName

# A classifier is calibrated where its probabilities are off by no more on average.
MOST_MISCALIBRATED = 0.05
BINS = 10
Floats = npt.NDArray[np.float64]


def estimated(task: Task, name: str, output: Output) -> Metric | None:
    """Return the metric that a classifier's probabilities, (n, classes), promise, with its block
    jackknife interval; None for a metric of numbers, and for one that they promise nothing
    about."""
    if not task.is_classification:
        return None
    wanted = measure(task, name)
    promised = _OF.get(wanted.name)
    if promised is None:
        return None
    given = output.astype(np.float64)

    return block_interval(wanted, lambda rows: promised(given[rows]), len(given))


def _accuracy(given: Floats) -> float:
    return float(given.max(axis=1).mean())


def _log_loss(given: Floats) -> float:
    clipped = np.clip(given, np.finfo(np.float32).eps, 1)
    return float(-np.sum(given * np.log(clipped), axis=1).mean())


def _roc_auc(given: Floats) -> float:
    """The chance that a row which is positive with its probability is ranked above one that is
    negative with its own, ties counted half."""
    scores, places = np.unique(given[:, 1], return_inverse=True)
    positive = np.bincount(places, given[:, 1], len(scores))
    negative = np.bincount(places, given[:, 0], len(scores))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float(np.sum(positive * (below + negative / 2)) / pairs) if pairs else float("nan")


_OF: dict[str, Callable[[Floats], float]] = {
    MetricName.ACCURACY: _accuracy,
    MetricName.LOG_LOSS: _log_loss,
    MetricName.ROC_AUC: _roc_auc,
}


def miscalibration(answers: npt.NDArray[np.int64], output: Output) -> float:
    """Return by how much the probabilities are off on average: the expected calibration error over
    BINS bins of as many rows each (Naeini, Cooper and Hauskrecht 2015), of the second class of two
    or of the class that is answered."""
    if output.shape[1] == 2:
        said, right = output[:, 1].astype(np.float64), answers == 1
    else:
        said, right = output.max(axis=1).astype(np.float64), output.argmax(axis=1) == answers
    order = np.argsort(said, kind="stable")
    parts = np.array_split(order, min(BINS, max(len(order), 1)))
    off = [abs(said[part].mean() - right[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(off) / max(len(order), 1))
