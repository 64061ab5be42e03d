"""The flights example as one writes it by hand with pandas and scikit-learn, with Treadle's rows,
columns, split, encodings and linear model. What the peers' pipelines have in common."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

NAME, TARGET = "flights", "arr_delay"
FEW, MANY = ["carrier", "origin", "engine"], ["dest", "manufacturer", "plane_model"]
NUMBERS = [
    "dep_minute", "sched_arr_minute", "dep_delay", "distance", "temp", "dewp", "humid", "wind_dir",
    "wind_speed", "wind_gust", "precip", "pressure", "visib", "plane_year", "engines", "seats",
]  # fmt: skip
FEATURES = ["scheduled", *NUMBERS, *FEW, *MANY]


def raw(name: str) -> pd.DataFrame:
    """Read a table of the raw data: flights, weather, planes."""
    (path,) = Path(os.environ["FLIGHTS_DATA"]).glob(f"{name}.csv*")
    return pd.read_csv(path)


def joined(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Join the tables, and leave out the flights that never arrived."""
    weather = weather.drop(columns=["year", "time_hour"])
    planes = planes.rename(columns={"year": "plane_year", "model": "plane_model"})
    table = flights.dropna(subset=[TARGET])
    table = table.merge(weather, how="left", on=["origin", "month", "day", "hour"])
    table = table.merge(planes, how="left", on="tailnum")
    table["scheduled"] = pd.to_datetime(table[["year", "month", "day", "hour", "minute"]])
    table["dep_minute"] = _minute(table["dep_time"])
    table["sched_arr_minute"] = _minute(table["sched_arr_time"])
    table = table.sort_values(["scheduled", "carrier", "flight", "origin"], ignore_index=True)
    return table[[*FEATURES, TARGET]]


def _minute(clock: pd.Series) -> pd.Series:
    return clock % 100 + 60 * (clock // 100)


def split(table: pd.DataFrame, test_share: float = 0.25) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the earlier rows, to learn from, and the later ones."""
    cut = int(len(table) * (1 - test_share))
    return table.iloc[:cut], table.iloc[cut:]


def times(frame: pd.DataFrame) -> pd.DataFrame:
    """Take a time apart: the hour and the day of the week, and how far round the day and week."""
    at = pd.to_datetime(frame["scheduled"])
    minute = at.dt.hour * 60 + at.dt.minute
    turn = 2 * np.pi * minute / 1440
    return pd.DataFrame({"hour": minute / 60, "weekday": at.dt.weekday + minute / 1440,
                         "sin": np.sin(turn), "cos": np.cos(turn)})  # fmt: skip


def model() -> Pipeline:
    """Return the pipeline to fit: Treadle's first candidate."""
    transformer = make_column_transformer(
        (FunctionTransformer(times), ["scheduled"]),
        (SimpleImputer(strategy="median"), NUMBERS),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=10), FEW),
        (TargetEncoder(target_type="continuous"), MANY),
    )
    return make_pipeline(transformer, StandardScaler(), Ridge(alpha=1.0))


def rmse(fitted: Pipeline, rows: pd.DataFrame) -> float:
    """Return the error on rows."""
    return float(root_mean_squared_error(rows[TARGET], fitted.predict(rows[FEATURES])))
