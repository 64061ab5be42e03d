"""scikit-learn's own bundle, for what ONNX can't answer equally."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io as sio
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge

from treadle.bundle import SkopsModel
from treadle.records import Feature, Kind, Signature, Task

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
