"""Find the line of a delimited file that doesn't fit the others.

DuckDB proves types on every row before it settles on a delimiter, so one odd line far down leaves
it without one, and its message names no line.
"""

import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa

from treadle.spec import Table

_DELIMITERS = ",;\t|"
_FIELD_LIMIT = 1 << 20


def csv_fault(path: Path, table: Table) -> str | None:
    """Return words for the first line with another number of fields than the first one has, or
    None where every line has the same."""
    try:
        with pa.input_stream(str(path), compression="detect") as packed:
            text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
            for _ in range(table.skip_rows):
                text.readline()
            return _odd_line(text, table)
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def _odd_line(text: io.TextIOWrapper, table: Table) -> str | None:
    first = text.readline()
    if not first.strip():
        return None
    counts = Counter({mark: first.count(mark) for mark in _DELIMITERS})
    delimiter = table.delimiter or counts.most_common(1)[0][0]
    if len(delimiter) != 1:
        return None
    wanted = len(next(csv.reader([first], delimiter=delimiter)))
    lines = csv.reader(text, delimiter=delimiter)
    begun = 1 + table.skip_rows
    for row in lines:
        if row and len(row) != wanted:
            return (
                f"line {begun + lines.line_num} has {len(row)} fields where the first has "
                f"{wanted}: mend that line (a value that holds the delimiter {delimiter!r} needs "
                "quotes)"
            )
    return None
