"""LightGBM and XGBoost, the extra ``boosting``."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from treadle.errors import EnvironmentFault
from treadle.prepared import TuningData
from treadle.records import Candidate, Task
from treadle.spec import Family
from treadle.training import boosters, candidate, families
from treadle.training.families import Objective
from treadle.training.onnx_export import estimator_graph
from treadle.training.search_space import SPACES

BOTH = [Family.LIGHTGBM, Family.XGBOOST]
pytestmark = pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto:DeprecationWarning")


def grown(family: Family, objective: Objective, data: TuningData, units: int = 1) -> Any:
    asked = Candidate(number=0, family=family, parameters=SPACES[family].first)
    return candidate.grow(objective, data, asked, units, None, 1)[0]


@pytest.mark.parametrize("family", BOTH)
def test_without_the_extra_a_spec_hears_how_to_install_it(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    boosters.check_installed([Family.LINEAR, family])
    monkeypatch.setattr(boosters, "find_spec", lambda _: None)
    boosters.check_installed([Family.LINEAR])
    with pytest.raises(EnvironmentFault) as refused:
        boosters.load([Family.LINEAR, family])
    words = str(refused.value)
    assert f"training.families: {family} needs {family} and onnxmltools, which are not" in words
    assert "pip install 'treadle[boosting]'" in words


def test_a_library_of_the_system_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(package: str) -> Any:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(boosters, "import_module", broken)
    with pytest.raises(EnvironmentFault, match=r"lightgbm is installed, but.*apt-get install"):
        boosters.load([Family.LIGHTGBM])


@pytest.mark.parametrize("family", BOTH)
def test_what_trees_add_is_told_from_where_they_begin(family: Family) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 3)).astype(np.float32)
    y = 100 + 10 * x[:, 0]
    data = TuningData(x, y, x, y)
    model = grown(family, Objective(Task.REGRESSION, 0, "rmse", 0), data)
    promised = families.unshrunk(model)
    assert promised is not None
    learned = 1 - 0.9**25
    np.testing.assert_allclose(
        promised.predict(x) - y.mean(), (model.predict(x) - y.mean()) / learned, atol=0.02
    )


@pytest.mark.parametrize("family", BOTH)
@pytest.mark.parametrize("classes", [2, 4])
def test_a_slow_learner_promises_what_becomes_of_it(family: Family, classes: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(1000, 3)).astype(np.float32)
    level = np.sin(2 * x[:, 0]) + x[:, 1] + 0.3 * random.normal(size=1000)
    y = np.digitize(level, [0.4] if classes == 2 else [-1.0, 0.0, 1.0])
    data = TuningData(x[:500], y[:500], x[500:], y[500:])
    objective = Objective(Task.MULTICLASS, classes, "log_loss", 0)
    slow = SPACES[family].first | {"learning_rate": 0.03}
    asked = Candidate(number=0, family=family, parameters=slow)
    model, early = candidate.grow(objective, data, asked, 1, None, 1)
    promised = candidate.predict(families.unshrunk(model), x, classes)
    np.testing.assert_allclose(promised.sum(axis=1), 1, atol=1e-5)
    _, late = candidate.grow(objective, data, asked, 9, model, 1)
    assert abs(early.promise - late.score) < 0.6 * abs(early.score - late.score)


@pytest.mark.parametrize("family", BOTH)
def test_a_class_that_the_rows_lack_has_no_probability(family: Family) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0, 3, np.where(x[:, 1] > 0, 1, 0))  # none of class 2
    model = grown(family, Objective(Task.MULTICLASS, 4, "log_loss", 0), TuningData(x, y, x, y), 3)
    output = candidate.predict(model, x, 4)
    assert output[:, 2].max() == 0
    assert np.mean(output.argmax(axis=1) == y) > 0.95


def test_a_threshold_between_neighbouring_floats_is_the_same_in_the_graph() -> None:
    # Nothing of float32 lies between them, so the threshold is rounded onto one of the two.
    low = np.nextafter(np.float32(1), np.float32(2))
    x = np.where(np.arange(400) % 2 == 0, low, np.nextafter(low, np.float32(2)))
    rows = x.reshape(-1, 1).astype(np.float32)
    y = np.where(np.arange(400) % 2 == 0, 0.0, 100.0)
    for family in BOTH:
        model = grown(
            family, Objective(Task.REGRESSION, 0, "rmse", 0), TuningData(rows, y, rows, y)
        )
        native = model.predict(rows)
        if family is Family.LIGHTGBM:
            assert np.ptp(native) > 50, "it tells them apart"
        graph = estimator_graph(model, 1, classification=False).SerializeToString()
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        found = session.run(None, {"X": rows})[0].reshape(-1)
        np.testing.assert_allclose(found, native, atol=1e-3)
