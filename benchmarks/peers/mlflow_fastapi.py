"""The champion of MLflow's registry behind FastAPI.

uvicorn mlflow_fastapi:app        with MLFLOW_TRACKING_URI
"""

import mlflow
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = mlflow.pyfunc.load_model("models:/flights@champion")


class Rows(BaseModel):
    """A request's body."""

    rows: list[dict[str, float | str | None]]


@app.post("/predict")
def predict(body: Rows) -> dict[str, list[float]]:
    """Answer rows."""
    return {"predictions": model.predict(pd.DataFrame(body.rows)).tolist()}
