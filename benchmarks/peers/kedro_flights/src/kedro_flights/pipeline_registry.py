"""The project's pipeline: from the raw tables to a registered champion."""

import flights_by_hand as flights
import mlflow
import pandas as pd
from kedro.pipeline import Node, Pipeline


def train_model(learned: pd.DataFrame) -> object:
    """Fit."""
    return flights.model().fit(learned[flights.FEATURES], learned[flights.TARGET])


def promote(rmse: float) -> None:
    """Make the version that was just registered the champion."""
    client = mlflow.MlflowClient()
    (newest,) = client.search_model_versions(
        f"name = '{flights.NAME}'", max_results=1, order_by=["version_number DESC"]
    )
    client.set_registered_model_alias(flights.NAME, "champion", newest.version)
    print(f"rmse={rmse}")


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    nodes = [
        Node(flights.joined, ["flights", "weather", "planes"], "model_input_table"),
        Node(flights.split, ["model_input_table", "params:test_share"], ["learned", "held_out"]),
        Node(train_model, "learned", "regressor"),
        Node(flights.rmse, ["regressor", "held_out"], "rmse"),
        Node(promote, "rmse", None),
    ]
    return {"__default__": Pipeline(nodes)}
