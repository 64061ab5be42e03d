"""Predictions beside a table's rows: what batch scoring and the server's table bodies share."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.errors import DataError
from treadle.records import Signature

PREDICTION = "prediction"


def prediction_fields(signature: Signature) -> list[pa.Field]:
    """Return the columns that a prediction adds to a table: the value; or the class, and a column
    ``probability_<class>`` for each."""
    if not signature.task.is_classification:
        return [pa.field(PREDICTION, pa.float64())]
    probabilities = [pa.field(f"probability_{label}", pa.float64()) for label in signature.classes]
    return [pa.field(PREDICTION, pa.string()), *probabilities]


def prediction_columns(output: Output, signature: Signature) -> list[pa.Array]:
    """Return a model's output as those columns."""
    values = np.asarray(output, dtype=np.float64)
    if not signature.task.is_classification:
        return [pa.array(values)]
    labels = np.asarray(signature.classes, dtype=object)[values.argmax(axis=1)]
    columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
    return [pa.array(labels, pa.string()), *columns]


def with_predictions(schema: pa.Schema, signature: Signature, table: str) -> pa.Schema:
    """Return a table's columns with the prediction's behind them. Raises DataError where the table
    has one of that name already, or has one twice."""
    whole = pa.schema([*schema, *prediction_fields(signature)])
    twice = next((name for name in whole.names if whole.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{table} has a column {twice!r} already, which the prediction needs: "
                        "give it another name")  # fmt: skip
    return whole


def check_columns(bundle: Bundle, columns: Sequence[str], table: str, model: str) -> None:
    """Raise DataError where a table lacks columns that the model reads."""
    missing = [name for name in bundle.signature.names if name not in columns]
    if missing:
        raise DataError(
            f"{table} lacks columns that {model} reads: {_listed(missing)} (it has "
            f"{_listed(list(columns))})"
        )


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
