"""LightGBM's and XGBoost's estimators as ONNX: onnxmltools' converters, made known to skl2onnx."""

from copy import copy
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from treadle.training import boosters


def convertible(estimator: Any) -> Any:
    """Return what skl2onnx is to convert in an estimator's stead; itself where it is none of
    these."""
    if not boosters.is_one(estimator):
        return estimator
    kind = type(estimator)
    _make_known(kind.__module__, kind.__name__)
    return _with_float32_thresholds(estimator) if hasattr(estimator, "booster_") else estimator


@cache
def _make_known(module: str, name: str) -> None:
    kind = getattr(import_module(module), name)
    if module.startswith("lightgbm"):
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import (
            convert_lightgbm as convert,
        )
    else:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import (
            convert_xgboost as convert,
        )
    if name.endswith("Classifier"):
        shapes = calculate_linear_classifier_output_shapes
        options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    else:
        shapes = calculate_linear_regressor_output_shapes
        options = {"split": None}
    update_registered_converter(kind, name, shapes, convert, options=options)


def _with_float32_thresholds(estimator: Any) -> Any:
    """Return LightGBM with thresholds that float32 holds, rounded down: x <= t answers the same for
    every float32 x. The converter rounds to the nearest, which may lie on the next value."""
    from lightgbm import Booster

    lines = estimator.booster_.model_to_string().splitlines()
    # The trees' sizes in bytes are not these any more; without that line they are looked for.
    text = "\n".join(_rounded(line) for line in lines if not line.startswith("tree_sizes="))
    copied = copy(estimator)
    copied._Booster = Booster(model_str=text)
    return copied


def _rounded(line: str) -> str:
    if not line.startswith("threshold="):
        return line
    exact = np.array(line.removeprefix("threshold=").split(), dtype=np.float64)
    nearest = exact.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    rounded = np.where(nearest > exact, below, nearest).astype(np.float64)
    return "threshold=" + " ".join(repr(float(value)) for value in rounded)
