"""The transformer, as preprocessing plans it and training fits it anew, and the two parts of it
that scikit-learn doesn't have."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from treadle.records import How, Recipe, Task

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S
WEEK_S = 7 * DAY_S
# 1970-01-01 was a Thursday: three days into a week that starts on Monday.
WEEK_OFFSET_S = 3 * DAY_S
# A one-hot category with fewer rows than this in training is taken together with the other rare
# ones, and an unseen one is taken for rare.
RARE_ROWS = 10
FOLDS = 5
DAILY = ("hour", "weekday", "hour_sin", "hour_cos", "null")
SEASONAL = ("season", "season_sin", "season_cos")


def build_transformer(recipe: Recipe) -> Pipeline:
    """Return the unfitted transformer: encoded features to a float32 matrix.

    Numbers and booleans: the median for nulls, and a flag for each column that has them in
    training. Target-encoded categories are fitted across folds, so that no row sees its own
    target; an unseen one is the mean. Times: TimeParts.
    """
    numbers = [name for name, how in recipe.features.items() if how is How.NUMBER]
    steps: list[tuple[str, object, list[str]]] = []
    if numbers:
        imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        steps.append(("numbers", imputer, numbers))
    for name, how in recipe.features.items():
        if how is not How.NUMBER:
            steps.append((f"{how} {name}", _encoder(how, recipe), [name]))
    columns = ColumnTransformer(steps, sparse_threshold=0, verbose_feature_names_out=False)
    return Pipeline([("columns", columns), ("float32", ToFloat32())])


def _encoder(how: How, recipe: Recipe) -> object:
    match how:
        case How.ONE_HOT:
            return OneHotEncoder(
                handle_unknown="infrequent_if_exist", min_frequency=RARE_ROWS, sparse_output=False
            )
        case How.TARGET_ENCODED:
            kind = "continuous" if recipe.task is Task.REGRESSION else recipe.task.value
            folds = KFold(FOLDS, shuffle=True, random_state=recipe.seed)
            return TargetEncoder(target_type=kind, cv=folds)
        case _:
            return TimeParts(seasonal=how is How.SEASONAL_TIME)


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
