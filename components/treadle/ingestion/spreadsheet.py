"""Excel and OpenDocument sheets: the first row names the columns, each cell has its own type."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from treadle.errors import DataError, counted, nearest
from treadle.ingestion.rows import BATCH_ROWS, Partitions, Rows, aligned
from treadle.snapshots import repaired
from treadle.spec import Table

_EXACT = 2**53
_EMPTY = {"", "#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NAME?", "#NULL!"}


def read(paths: Sequence[Path], table: Table, partitions: Partitions) -> Rows:
    """Return the rows of one sheet of each file. A sheet is held in memory, as its format needs.

    Whole numbers are whole (Excel has but one type of number), empty cells and errors such as #N/A
    are null; a column of several types is text. Raises DataError for no such sheet or no workbook.
    """
    sheets = [_sheet(path, table) for path in paths]
    schema = _together([part for part, _ in sheets])

    def batches() -> Iterator[pa.RecordBatch]:
        for place, (part, _) in enumerate(sheets):
            for batch in part.to_batches(max_chunksize=BATCH_ROWS):
                yield partitions.added(aligned(batch, schema), place, whole)

    whole = partitions.extended(schema)
    return Rows(whole, batches, sheets[0][1])


def _together(parts: Sequence[pa.Table]) -> pa.Schema:
    """Return the columns of all sheets; what is text in one and a number in another is text."""
    types: dict[str, pa.DataType] = {}
    for part in parts:
        for field in part.schema:
            known = types.setdefault(field.name, field.type)
            types[field.name] = _common(known, field.type)
    return pa.schema(types.items())


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    fields = [pa.schema([pa.field("x", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _sheet(path: Path, table: Table) -> tuple[pa.Table, list[str]]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(str(path))
        names = workbook.sheet_names
        name = table.sheet or next(iter(names), "")
        if name not in names:
            raise DataError(
                f"{path} has no sheet {name!r}{nearest(name, names)} (sheets: {', '.join(names)})"
            )
        cells = workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)
    except (CalamineError, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"{path} can't be read: it is no workbook: {words}: save it again"
        ) from error
    notes = [f"sheet {name!r} of {', '.join(names)}"] if len(names) > 1 and not table.sheet else []
    cells = cells[table.skip_rows :]
    if not cells:
        raise DataError(f"{path}: the sheet {name!r} is empty: name another with source.sheet")
    has_header = table.header is not False
    width = len(cells[0])
    given = (
        [_text(cell) for cell in cells[0]] if has_header else [f"column{i}" for i in range(width)]
    )
    named = table.names or []
    if len(named) > width:
        raise DataError(
            f"source.names has {counted(len(named), 'name')}, but {path} has "
            f"{counted(width, 'column')}"
        )
    columns, repairs = repaired([*named, *given[len(named) :]])
    rows = cells[1:] if has_header else cells
    values = zip(*rows, strict=True) if rows else [()] * width
    arrays = [_column(list(column)) for column in values]
    return pa.table(arrays, names=columns), [*notes, *repairs]


def _column(cells: list[Any]) -> pa.Array:
    values = [None if isinstance(cell, str) and cell in _EMPTY else cell for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        if all(value is None or _is_whole(value) for value in values):
            return pa.array([None if v is None else int(v) for v in values], pa.int64())
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds and kinds <= {date, datetime}:
        if kinds == {date}:
            return pa.array(values, pa.date32())
        whole = [v if v is None or isinstance(v, datetime) else datetime(v.year, v.month, v.day)
                 for v in values]  # fmt: skip
        return pa.array(whole, pa.timestamp("us"))
    if kinds == {time}:
        return pa.array(values, pa.time64("us"))
    if kinds == {timedelta}:
        return pa.array([None if v is None else v.total_seconds() for v in values], pa.float64())
    return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _is_whole(value: float) -> bool:
    """Say whether a number is whole, and exact as Excel has it: as a float."""
    return float(value).is_integer() and abs(value) <= _EXACT


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
