"""Read tables and rows as a model's features: the one piece of code that training, analysis, the
server and batch scoring all go through. What a single value becomes is in ``encoding``.

Serving never imports pandas for rows: frames do, when they come.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from treadle.encoding import (
    NULL_CATEGORY,
    Column,
    Fault,
    RowEncoder,
    encode_values,
    within_float32,
)
from treadle.errors import DataError, nearest
from treadle.records import Feature, Kind, Signature

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TIMES = {"datetime64", "datetime", "date"}


class RowErrors(DataError):
    """Rows that don't fit the signature: each by position, column and reason."""

    def __init__(self, errors: Sequence[Fault]) -> None:
        self.errors = list(errors)
        shown = "; ".join(f"row {row}, {name}: {why}" for row, name, why in self.errors[:5])
        more = f" and {len(self.errors) - 5} more" if len(self.errors) > 5 else ""
        super().__init__(shown + more)


def row_encoder(signature: Signature) -> RowEncoder:
    """Return what reads JSON rows for this signature."""
    return RowEncoder([(feature.name, feature.read_as) for feature in signature.features])


def encode_rows(rows: Sequence[Mapping[str, object]], encoder: RowEncoder) -> dict[str, Column]:
    """Return the features of JSON rows, encoded, each of shape (n,). A column that a row leaves
    out is null. Raises RowErrors that names every bad value."""
    columns, faults = encoder.encode(rows)
    if faults:
        raise RowErrors(sorted(faults))
    return columns


def ignored_columns(rows: "pa.Table | pa.RecordBatch", signature: Signature) -> dict[str, int]:
    """Count a table's values in the columns that the model doesn't use (encoding.ignored_values
    does so for rows)."""
    there = [name for name in signature.ignored if name in rows.schema.names]
    counts = {name: rows.num_rows - rows.column(name).null_count for name in there}
    return {name: count for name, count in counts.items() if count}


def encode_frame(frame: "pd.DataFrame", signature: Signature) -> "pd.DataFrame":
    """Return the features of ``frame``, encoded, in the signature's order. Extra columns are
    ignored. Raises DataError for a missing column, RowErrors that names every bad value."""
    import pandas as pd

    columns, faults = read_frame(frame, signature)
    if faults:
        raise RowErrors(sorted(faults))
    return pd.DataFrame(columns, index=frame.index)


def read_frame(
    frame: "pd.DataFrame", signature: Signature
) -> tuple[dict[str, Column], list[Fault]]:
    """Return the features of ``frame``, encoded, each of shape (n,), and a fault for every value
    that can't be read. Raises DataError for a missing column."""
    missing = [name for name in signature.names if name not in frame.columns]
    if missing:
        known = [str(column) for column in frame.columns]
        raise DataError(f"column {missing[0]!r} is missing{nearest(missing[0], known)}")
    faults: list[Fault] = []
    columns = {f.name: _encode_series(frame[f.name], f, faults) for f in signature.features}
    return columns, faults


def frame_of(rows: "pa.Table | pa.RecordBatch") -> "pd.DataFrame":
    """Return stored rows as a frame that loses nothing: whole numbers beside nulls stay whole,
    where pandas would make floats of them, which are not exact beyond 2**53."""
    import pandas as pd
    import pyarrow as pa

    frame: pd.DataFrame = rows.to_pandas()
    for field in rows.schema:
        column = rows.column(field.name)
        if pa.types.is_integer(field.type) and column.null_count:
            exact = {field.type: pd.Int64Dtype()}
            frame[field.name] = column.to_pandas(types_mapper=exact.get)
    return frame


def arrays(encoded: "pd.DataFrame") -> dict[str, Column]:
    """Return an encoded frame as columns of shape (n,)."""
    return {str(name): encoded[name].to_numpy() for name in encoded.columns}


def _encode_series(series: "pd.Series", feature: Feature, faults: list[Fault]) -> Column:
    """Encode a whole column; value by value where its type isn't plainly the feature's kind, so
    that a frame and JSON rows of the same values are read alike."""
    import pandas as pd

    match feature.kind:
        case Kind.CATEGORY if feature.tokens is not None:
            texts = _encode_series(series, feature.model_copy(update={"tokens": None}), faults)
            return encode_values(texts.tolist(), feature.name, feature.read_as, [])
        case Kind.CATEGORY if pd.api.types.is_string_dtype(series):
            return series.to_numpy(dtype=object, na_value=NULL_CATEGORY)
        case Kind.NUMBER if pd.api.types.is_numeric_dtype(series):
            return within_float32(series.to_numpy(dtype=np.float64, na_value=np.nan))
        case Kind.BOOLEAN if pd.api.types.is_bool_dtype(series):
            return series.to_numpy(dtype=np.float32, na_value=np.nan)
        case Kind.TIME if pd.api.types.infer_dtype(series, skipna=True) in _TIMES:
            return _epoch_seconds(series)
        case _:
            values = [_plain(value) for value in series]
            return encode_values(values, feature.name, feature.read_as, faults)


def _plain(value: Any) -> object:
    """Return None for any of pandas' nulls."""
    import pandas as pd

    return None if value is pd.NA or value is pd.NaT or value != value else value


def _epoch_seconds(series: "pd.Series") -> npt.NDArray[np.float64]:
    import pandas as pd

    times = pd.to_datetime(series, utc=True)
    microseconds = times.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    seconds: npt.NDArray[np.float64] = np.where(times.isna(), np.nan, microseconds / 1e6)
    return seconds
