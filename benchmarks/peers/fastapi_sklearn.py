"""The service that most people write first: FastAPI and a scikit-learn pipeline.

uvicorn fastapi_sklearn:app        with MODEL naming a joblib file
"""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL"])


class Rows(BaseModel):
    """A request's body."""

    rows: list[dict[str, float | str | None]]


@app.post("/predict")
async def predict(body: Rows) -> dict[str, list[float]]:
    """Answer rows."""
    frame = pd.DataFrame(body.rows).reindex(columns=model.feature_names_in_)
    return {"predictions": model.predict(frame).tolist()}
