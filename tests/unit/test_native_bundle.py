"""scikit-learn's own bundle, for what ONNX can't answer equally."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io as sio
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from treadle.bundle import SkopsModel
from treadle.errors import ModelError
from treadle.records import Feature, Kind, Signature, Task
from treadle.spec import Family
from treadle.training import families
from treadle.training.search_space import SPACES
from treadle.transformers import ToFloat32

SIGNATURE = Signature(task=Task.REGRESSION, target="y",
                      features=[Feature(name="x", kind=Kind.NUMBER)])  # fmt: skip


@pytest.mark.parametrize(
    "estimator",
    [HistGradientBoostingRegressor(max_iter=3), RandomForestRegressor(n_estimators=2), Ridge()],
)
def test_a_native_bundle_of_every_family_can_be_loaded(tmp_path: Path, estimator: object) -> None:
    rows = pd.DataFrame({"x": np.linspace(0, 1, 50)})
    fitted = estimator.fit(rows, rows["x"] * 2)  # type: ignore[attr-defined]
    sio.dump(fitted, tmp_path / "model.skops")
    model = SkopsModel(tmp_path / "model.skops", SIGNATURE)
    assert model.output({"x": rows["x"].to_numpy()}) == pytest.approx(fitted.predict(rows))


@pytest.mark.parametrize("family", [Family.LIGHTGBM, Family.XGBOOST])
@pytest.mark.parametrize("task", [Task.REGRESSION, Task.MULTICLASS])
def test_so_can_those_of_the_extra_boosting_where_it_is_installed(
    tmp_path: Path, family: Family, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame({"x": np.linspace(0, 1, 90)})
    classes = 3 if task is Task.MULTICLASS else 0
    answers = np.arange(90) * classes // 90 if classes else rows["x"].to_numpy() * 2
    objective = families.Objective(task, classes, "auto", seed=0)
    estimator = families.build(family, objective, SPACES[family].first, 1)
    matrix = rows.to_numpy(np.float32)
    families.grow(estimator, family, 1, objective, matrix, answers, None, 2)
    whole = Pipeline([("transformer", ToFloat32().fit(rows)), ("estimator", estimator)])
    sio.dump(whole, tmp_path / "model.skops")
    signature = SIGNATURE.model_copy(update={"task": task})
    found = SkopsModel(tmp_path / "model.skops", signature).output({"x": rows["x"].to_numpy()})
    native = estimator.predict_proba(matrix) if classes else estimator.predict(matrix)
    np.testing.assert_array_equal(found, native)
    monkeypatch.setitem(sys.modules, f"{family}.sklearn", None)
    with pytest.raises(ModelError, match=rf"needs {family}.*treadle\[boosting\]"):
        SkopsModel(tmp_path / "model.skops", signature)
