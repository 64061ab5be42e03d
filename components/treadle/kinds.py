"""How a column of a snapshot is read as a feature: one place, so that types are guessed once."""

from collections.abc import Mapping

import pyarrow as pa

from treadle.records import ColumnProfile, Kind, Task


def kind_of(arrow_type: pa.DataType) -> Kind:
    """Return the kind of feature that a column of this type is, without looking at its values."""
    if pa.types.is_boolean(arrow_type):
        return Kind.BOOLEAN
    if pa.types.is_temporal(arrow_type) and not pa.types.is_time(arrow_type):
        return Kind.TIME
    if (
        pa.types.is_integer(arrow_type)
        or pa.types.is_floating(arrow_type)
        or pa.types.is_decimal(arrow_type)
    ):
        return Kind.NUMBER
    return Kind.CATEGORY


def kinds_of(schema: pa.Schema, stated: Mapping[str, Kind | None]) -> dict[str, Kind]:
    """Return the kind of each column; what the spec states goes before what the type says."""
    return {field.name: stated.get(field.name) or kind_of(field.type) for field in schema}


CLASSES_AT_MOST = 20


def infer_task(target: ColumnProfile) -> Task:
    """Return what predicting this column is: few whole numbers, texts or booleans are classes."""
    few = target.whole and target.distinct <= CLASSES_AT_MOST
    if few or target.kind in (Kind.CATEGORY, Kind.BOOLEAN):
        return Task.BINARY if target.distinct <= 2 else Task.MULTICLASS
    return Task.REGRESSION


TEXT_WORDS = 3.0


def is_text(column: ColumnProfile) -> bool:
    """Say whether a category is a short text: mostly different, several words each."""
    lengths, present = column.lengths, column.rows - column.nulls
    if lengths is None or column.kind is not Kind.CATEGORY or present <= 20:
        return False
    return lengths.mean_words >= TEXT_WORDS and column.distinct > 0.2 * present


def is_identifier(column: ColumnProfile) -> bool:
    """Say whether a category that is no text has a value of its own in nearly every row."""
    present = column.rows - column.nulls
    unique = column.kind is Kind.CATEGORY and present > 20 and column.distinct > 0.9 * present
    return unique and not is_text(column)
