"""MLflow's own tools take our versions as they are."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Finished


def test_mlflow_loads_the_champion_and_gives_the_bundles_answers(
    wine: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{wine.home}/mlflow.db")
    bundle = wine.home / "objects/bundles" / wine.summary["digest"]
    golden = json.loads((bundle / "golden.json").read_text(encoding="utf-8"))
    rows = pd.DataFrame(golden["rows"]).astype(np.float32)
    model = mlflow.pyfunc.load_model("models:/wine@champion")
    answer = model.predict(rows)
    expected = [answer["prediction"] for answer in golden["answers"]]
    assert list(answer["label"]) == expected
    names = [column.name for column in model.metadata.get_input_schema().inputs]
    assert names == list(golden["rows"][0])


def test_mlflow_knows_a_versions_metrics_and_parameters(wine: Finished) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{wine.home}/mlflow.db")
    version = client.get_model_version_by_alias("wine", "champion")
    run = client.get_run(version.run_id)
    assert run.data.metrics["log_loss"] == pytest.approx(wine.summary["metric"]["value"])
    assert run.data.params["family"]
