"""The two transformers that scikit-learn doesn't have. They are part of a model's pipeline, so
they live where every stage and the exporter can see them.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S
WEEK_S = 7 * DAY_S
# 1970-01-01 was a Thursday: three days into a week that starts on Monday.
WEEK_OFFSET_S = 3 * DAY_S
DAILY = ("hour", "weekday", "hour_sin", "hour_cos", "null")
SEASONAL = ("season", "season_sin", "season_cos")


class TimeParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Times, as epoch seconds in float64 of shape (n, 1), to float32 parts of shape (n, 5 or 8).

    ``hour`` is 0 to 24, ``weekday`` 0 to 7 from Monday; with ``seasonal`` there is also ``season``,
    0 to 1 over the mean Gregorian year. Sines and cosines close the circles. A null gives zeros
    and ``null`` = 1. The exporter builds the same arithmetic as an ONNX graph
    (training/onnx_export.py).
    """

    def __init__(self, seasonal: bool = True) -> None:
        self.seasonal = seasonal

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn nothing but the number of inputs."""
        self.n_features_in_ = 1
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the parts."""
        seconds = np.asarray(X, dtype=np.float64).reshape(-1, 1)
        null = np.isnan(seconds)
        known = np.where(null, 0.0, seconds)
        turn = 2 * np.pi
        day = _phase(known, DAY_S)
        week = _phase(known + WEEK_OFFSET_S, WEEK_S)
        parts = [day * 24, week * 7, np.sin(day * turn), np.cos(day * turn)]
        if self.seasonal:
            year = _phase(known, YEAR_S)
            parts += [year, np.sin(year * turn), np.cos(year * turn)]
        # Computed in float64 and cast last: in float32, two libraries' sines differ in the last
        # bit, and a tree's threshold may lie between.
        zeroed = [np.where(null, 0.0, part).astype(np.float32) for part in parts]
        return np.hstack([*zeroed[:4], null.astype(np.float32), *zeroed[4:]])

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the parts."""
        stem = "time" if input_features is None else str(input_features[0])
        parts = DAILY + (SEASONAL if self.seasonal else ())
        return np.array([f"{stem}_{part}" for part in parts], dtype=object)


def _phase(seconds: npt.NDArray[np.float64], period_s: float) -> npt.NDArray[np.float64]:
    turns = seconds / period_s
    return turns - np.floor(turns)


class ToFloat32(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Cast to float32, as the ONNX graph computes, so that both see the same numbers."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn nothing but the number of inputs."""
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return X as float32."""
        return np.asarray(X, dtype=np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names unchanged."""
        return np.asarray(input_features, dtype=object)
