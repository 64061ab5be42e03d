"""The flights example as a Metaflow flow that registers its model with MLflow.

    python metaflow_flow.py run

A step a stage, tables handed on as artifacts (docs.metaflow.org, "Basics of Metaflow"), the model
logged, registered and given an alias by MLflow's client (mlflow.org, "Register a Model").
"""

import flights_by_hand as flights
from metaflow import FlowSpec, step


class FlightsFlow(FlowSpec):
    """From the raw tables to a registered champion."""

    @step
    def start(self):
        """Read and join."""
        tables = (flights.raw(name) for name in ("flights", "weather", "planes"))
        self.table = flights.joined(*tables)
        self.next(self.split)

    @step
    def split(self):
        """Hold the latest rows out."""
        self.learned, self.held_out = flights.split(self.table)
        self.next(self.train)

    @step
    def train(self):
        """Fit."""
        self.model = flights.model().fit(self.learned[flights.FEATURES],
                                         self.learned[flights.TARGET])  # fmt: skip
        self.next(self.evaluate)

    @step
    def evaluate(self):
        """Score on what was held out."""
        self.rmse = flights.rmse(self.model, self.held_out)
        self.next(self.register)

    @step
    def register(self):
        """Log and register the model; make it the champion."""
        import mlflow

        with mlflow.start_run():
            mlflow.log_params(self.model[-1].get_params())
            mlflow.log_metric("rmse", self.rmse)
            logged = mlflow.sklearn.log_model(
                self.model, name="model", registered_model_name=flights.NAME,
                serialization_format="cloudpickle",
            )  # fmt: skip
        client = mlflow.MlflowClient()
        version = logged.registered_model_version
        client.set_registered_model_alias(flights.NAME, "champion", version)
        self.next(self.end)

    @step
    def end(self):
        """Say how good it is."""
        print(f"rmse={self.rmse}")


if __name__ == "__main__":
    FlightsFlow()
