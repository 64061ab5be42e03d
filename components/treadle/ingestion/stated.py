"""What the spec states of a table: it stands, whatever the format, or is refused where it says
nothing of one."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from treadle.errors import DataError, nearest
from treadle.ingestion.readings import BOOLEAN, DATE, INTEGER, NAIVE, NUMBER, TEXT, convert
from treadle.ingestion.rows import Rows, with_categories
from treadle.snapshots import repaired
from treadle.spec import Format, Table, ValueType

READINGS = {
    ValueType.TEXT: TEXT, ValueType.INTEGER: INTEGER, ValueType.NUMBER: NUMBER,
    ValueType.BOOLEAN: BOOLEAN, ValueType.DATE: DATE, ValueType.TIME: NAIVE[0],
}  # fmt: skip
_CSV, _EXCEL = "CSV", "Excel"
_FOR: Mapping[str, tuple[str, ...]] = {
    "query": ("a database",),
    "sheet": (_EXCEL,),
    "delimiter": (_CSV,),
    "quote": (_CSV,),
    "encoding": (_CSV, "JSON"),
    "header": (_CSV, _EXCEL),
    "names": (_CSV, _EXCEL),
    "skip_rows": (_CSV, _EXCEL),
    "nulls": (_CSV,),
    "decimal": (_CSV,),
    "thousands": (_CSV,),
    "dates": (_CSV,),
}
_CALLED = {
    Format.CSV: _CSV, Format.JSON: "JSON", Format.EXCEL: _EXCEL, Format.PARQUET: "Parquet",
    None: "a database",
}  # fmt: skip


def refuse_unheard(table: Table, shown: str, kind: Format | None) -> None:
    """Raise DataError for what is stated and says nothing of such a table; a ``kind`` of None is a
    database."""
    for name, where in _FOR.items():
        default = Table.model_fields[name].get_default()
        if getattr(table, name) != default and _CALLED[kind] not in where:
            raise DataError(
                f"source.{name} is for {' and '.join(where)}, and {shown} is {_CALLED[kind]}: "
                "leave it out"
            )


def typed(rows: Rows, table: Table, shown: str) -> Rows:
    """Return rows that have types of their own with those that ``source.types`` states.

    Raises DataError for a column that isn't there, and while they are read for a value that isn't
    of the type.
    """
    if not table.types:
        return rows
    names, _ = repaired(rows.schema.names)
    for name in table.types:
        if name not in names:
            raise DataError(
                f"source.types names {name!r}, which is no column{nearest(name, names)}"
            )
    stated = {names.index(name): kind for name, kind in table.types.items()}
    schema = pa.schema(
        [
            _field(field, stated[place]) if place in stated else field
            for place, field in enumerate(rows.schema)
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in rows.batches():
            columns = list(batch.columns)
            for place, kind in stated.items():
                columns[place] = _converted(columns[place], kind, start, names[place], shown)
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            start += batch.num_rows

    return Rows(schema, batches, rows.notes)


def _field(field: pa.Field, kind: ValueType | list[str]) -> pa.Field:
    if isinstance(kind, list):
        return with_categories(field.name, kind)
    is_zoned = kind is ValueType.TIME and pa.types.is_timestamp(field.type)
    return pa.field(field.name, field.type if is_zoned else READINGS[kind].type)


def _converted(
    column: pa.Array, kind: ValueType | list[str], start: int, name: str, shown: str
) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return _read(column, kind)
    except pa.ArrowInvalid:
        row = next(row for row in range(len(column)) if not _fits(column.slice(row, 1), kind))
        called = f"one of {', '.join(kind)}" if isinstance(kind, list) else f"of type {kind}"
        value = column[row].as_py()
        raise DataError(
            f"{shown}, row {start + row + 1}, column {name!r}: {value!r:.60} is not {called}, as "
            "source.types states: mend it, or change what is stated"
        ) from None


def _fits(column: pa.Array, kind: ValueType | list[str]) -> bool:
    try:
        _read(column, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _read(column: pa.Array, kind: ValueType | list[str]) -> pa.Array:
    """Read values as a stated type. Raises ArrowInvalid where one isn't of it."""
    if isinstance(kind, list):
        text = column.cast(pa.string())
        if not pc.all(pc.is_in(text.drop_null(), pa.array(kind, pa.string())), min_count=0).as_py():
            raise pa.ArrowInvalid("no category")
        return text
    wanted = READINGS[kind]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        read = column if wanted == TEXT else convert(pc.utf8_trim_whitespace(column), wanted)
        if read.null_count > column.null_count:
            raise pa.ArrowInvalid("no value of the type")
        return read.cast(wanted.type)
    if kind is ValueType.TIME and pa.types.is_timestamp(column.type):
        return column
    try:
        read = column.cast(wanted.type, safe=kind is not ValueType.NUMBER)
    except pa.ArrowNotImplementedError as error:
        raise pa.ArrowInvalid(str(error)) from error
    # Arrow takes the day of a time, and any number for true.
    is_loose = kind in (ValueType.DATE, ValueType.BOOLEAN)
    if is_loose and not read.cast(column.type).equals(column):
        raise pa.ArrowInvalid("a value would be lost")
    return read
