"""Read values as a model's features: the one piece of code that training, analysis, the server
and batch scoring all go through.

A number or boolean becomes float32 (null: NaN), a time epoch seconds in float64 (null: NaN; no
zone means UTC), a category text (null: NULL_CATEGORY).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treadle.errors import DataError, nearest
from treadle.records import FALSE_WORDS, TRUE_WORDS, Feature, Kind, Signature

NULL_CATEGORY = "<null>"
Column = npt.NDArray[np.float32] | npt.NDArray[np.float64] | npt.NDArray[np.object_]
# The largest number that float32 rounds to a finite one; JSON's 3.4028235e38 is float32's largest.
_LARGEST = float(np.nextafter(2.0**128 - 2.0**103, 0))
_TIMES = {"datetime64", "datetime", "date"}
_WIDTHS = {Kind.TIME: np.float64}


class RowErrors(DataError):
    """Rows that don't fit the signature: each by position, column and reason."""

    def __init__(self, errors: Sequence[tuple[int, str, str]]) -> None:
        self.errors = list(errors)
        shown = "; ".join(f"row {row}, {name}: {why}" for row, name, why in self.errors[:5])
        more = f" and {len(self.errors) - 5} more" if len(self.errors) > 5 else ""
        super().__init__(shown + more)


def encode_frame(frame: pd.DataFrame, signature: Signature) -> pd.DataFrame:
    """Return the features of ``frame``, encoded, in the signature's order. Extra columns are
    ignored. Raises DataError for a missing column or one that can't be read as its kind."""
    missing = [name for name in signature.names if name not in frame.columns]
    if missing:
        known = [str(column) for column in frame.columns]
        raise DataError(f"column {missing[0]!r} is missing{nearest(missing[0], known)}")
    encoded = {f.name: _encode_series(frame[f.name], f) for f in signature.features}
    return pd.DataFrame(encoded, index=frame.index)


def encode_rows(rows: Sequence[Mapping[str, object]], signature: Signature) -> dict[str, Column]:
    """Return the features of JSON rows, encoded, each of shape (n,). A column that a row leaves
    out is null. Raises RowErrors that names every bad value."""
    errors: list[tuple[int, str, str]] = []
    columns: dict[str, Column] = {}
    for feature in signature.features:
        values = [row.get(feature.name) for row in rows]
        columns[feature.name] = _encode_values(values, feature, errors)
    if errors:
        raise RowErrors(sorted(errors))
    return columns


def arrays(encoded: pd.DataFrame) -> dict[str, Column]:
    """Return an encoded frame as columns of shape (n,)."""
    return {str(name): encoded[name].to_numpy() for name in encoded.columns}


def feeds(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return encoded columns as ONNX inputs of shape (n, 1)."""
    return {name: column.reshape(-1, 1) for name, column in columns.items()}


def category(value: object) -> str:
    """Return the text by which a category's value is known: 3, 3.0 and Decimal("3.00") are one."""
    if value is None or value is pd.NaT or value is pd.NA:
        return NULL_CATEGORY
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating | Decimal):
        if not np.isfinite(float(value)):
            return NULL_CATEGORY
        if value == int(value):
            return str(int(value))
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return str(value)


def _encode_series(series: pd.Series, feature: Feature) -> Column:
    """Encode a whole column; value by value where its type isn't plainly the feature's kind, so
    that a frame and JSON rows of the same values are read alike."""
    match feature.kind:
        case Kind.CATEGORY if pd.api.types.is_string_dtype(series):
            return series.astype(object).where(series.notna(), NULL_CATEGORY).to_numpy()
        case Kind.NUMBER if pd.api.types.is_numeric_dtype(series):
            return _within_float32(series.to_numpy(dtype=np.float64, na_value=np.nan))
        case Kind.BOOLEAN if pd.api.types.is_bool_dtype(series):
            return series.to_numpy(dtype=np.float32, na_value=np.nan)
        case Kind.TIME if pd.api.types.infer_dtype(series, skipna=True) in _TIMES:
            return _epoch_seconds(series)
        case _:
            errors: list[tuple[int, str, str]] = []
            column = _encode_values([_plain(value) for value in series], feature, errors)
            if errors:
                raise RowErrors(errors)
            return column


def _plain(value: Any) -> object:
    """Return None for any of pandas' nulls."""
    return None if value is pd.NA or value is pd.NaT or value != value else value


def _within_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return float32; what it can't hold is null, infinities included."""
    within = np.abs(values) <= _LARGEST
    return np.where(within, values, np.nan).astype(np.float32)


def _epoch_seconds(series: pd.Series) -> npt.NDArray[np.float64]:
    times = pd.to_datetime(series, utc=True)
    microseconds = times.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    seconds: npt.NDArray[np.float64] = np.where(times.isna(), np.nan, microseconds / 1e6)
    return seconds


def _encode_values(
    values: Sequence[object], feature: Feature, errors: list[tuple[int, str, str]]
) -> Column:
    if feature.kind is Kind.CATEGORY:
        return np.array([category(value) for value in values], dtype=object)
    read = {Kind.TIME: _time, Kind.BOOLEAN: _boolean}.get(feature.kind, _number)
    column: npt.NDArray[Any] = np.empty(len(values), dtype=_WIDTHS.get(feature.kind, np.float32))
    for position, value in enumerate(values):
        try:
            column[position] = np.nan if value is None else read(value)
        except (ValueError, TypeError, OverflowError):
            column[position] = np.nan
            errors.append((position, feature.name, f"{value!r:.60} is not a {feature.kind}"))
    return column


def _number(value: object) -> float:
    if not isinstance(value, int | float | str | Decimal | np.number):
        raise TypeError(value)
    number = float(value)
    return number if abs(number) <= _LARGEST else np.nan


def _boolean(value: object) -> float:
    if isinstance(value, bool | np.bool_):
        return float(value)
    text = category(value).strip().lower()
    if text in TRUE_WORDS | FALSE_WORDS:
        return float(text in TRUE_WORDS)
    raise ValueError(value)


def _time(value: object) -> float:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise TypeError(value)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
