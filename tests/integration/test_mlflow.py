"""MLflow's own tools take our versions as they are."""

import json

import numpy as np
import onnxruntime
import pytest

from conftest import Finished


# MLflow warns of how it typed its own function.
@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")
def test_mlflow_loads_the_champion_with_its_schema(
    wine: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.models
    import mlflow.onnx

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{wine.home}/mlflow.db")
    bundle = wine.home / "objects/bundles" / wine.summary["digest"]
    golden = json.loads((bundle / "golden.json").read_text(encoding="utf-8"))
    model = mlflow.onnx.load_model("models:/wine@champion")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = list(golden["rows"][0])
    rows = {
        n: np.float32([[np.nan if r[n] is None else r[n]] for r in golden["rows"]]) for n in names
    }
    labels = session.run(["label"], rows)[0]
    assert list(labels) == [answer["prediction"] for answer in golden["answers"]]
    signature = mlflow.models.get_model_info("models:/wine@champion").signature
    assert signature is not None
    assert [column.name for column in signature.inputs.inputs] == names


def test_mlflow_knows_a_versions_metrics_and_parameters(wine: Finished) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{wine.home}/mlflow.db")
    version = client.get_model_version_by_alias("wine", "champion")
    run = client.get_run(version.run_id)
    assert run.data.metrics["log_loss"] == pytest.approx(wine.summary["metric"]["value"])
    assert run.data.params["family"]
