"""How a delimited file is written: its delimiter, quotes, header and names."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from treadle.errors import DataError, counted
from treadle.ingestion.text import TextFile
from treadle.spec import Table

if TYPE_CHECKING:
    from _csv import Reader

_FIELD_LIMIT = 1 << 24
_GLANCE_LINES = 200
_DELIMITERS = ",;\t|"
# What may quote, escape or begin a comment.
_MARKS = frozenset("\"'\\#")
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
# How spreadsheets are told a delimiter, in a line before the table.
_TOLD = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


# Delimiter, quote, escape, lines to skip, whether there is a header, what begins a comment.
_Found = tuple[str, str, str, int, bool, str]


@dataclass(frozen=True)
class Dialect:
    """``skip`` lines come before the header, or before the rows where there is none."""

    delimiter: str
    quote: str
    escape: str | None
    skip: int
    has_header: bool
    names: tuple[str, ...]

    def rows(self, text: io.TextIOBase) -> "Reader":
        """Return a reader of the rows of ``text``, from which nothing has been read yet."""
        for _ in range(self.skip):
            text.readline()
        csv.field_size_limit(_FIELD_LIMIT)
        return csv.reader(
            text,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape,
            doublequote=self.escape is None,
        )


def find(file: TextFile, table: Table, scratch: Path) -> Dialect:
    """Find the dialect from the file's first lines, by DuckDB's sniffer where they aren't plain;
    what the spec states stands. Raises DataError where it can't be made out."""
    head = file.head()
    if not head.strip():
        raise DataError(
            f"{file.path} is empty: it has no header and no rows; write the table again"
        )
    # What the first lines say of all the others is enough: to look at more takes longer than to
    # read a small table.
    glance = "".join(head.splitlines(keepends=True)[:_GLANCE_LINES])
    found = _from(glance, head, file, table, scratch)
    if found is None or not _holds(found, head):
        found = _from(head, head, file, table, scratch)
    if found is None or _is_unparted(found, head, table):
        raise cant_tell(file.path)
    return found


def with_told(file: TextFile, table: Table) -> Table:
    """Return what is stated of a table, with the delimiter that its file's first line tells
    spreadsheets (``sep=;``), where it does and nothing else is stated."""
    first = next(iter(file.head().splitlines()), "")
    told = _TOLD.fullmatch(first)
    if told is None or table.delimiter or table.skip_rows:
        return table
    return table.model_copy(update={"delimiter": told[1], "skip_rows": 1})


def _is_unparted(found: Dialect, head: str, table: Table) -> bool:
    """Say whether a table of one column has a header of several: a row of fewer fields makes the
    sniffer take a delimiter that isn't there."""
    if table.delimiter or not found.has_header or len(found.names) != 1:
        return False
    header = next((line for line in head.splitlines()[found.skip :] if line.strip()), "")
    return not header.startswith(("'", '"')) and any(mark in header for mark in _DELIMITERS)


def _from(sample: str, head: str, file: TextFile, table: Table, scratch: Path) -> Dialect | None:
    """Return the dialect of a file's ``head`` as a ``sample`` of it has it; None where that can't
    be made out."""
    path = scratch / "head.csv"
    path.write_text(sample, encoding="utf-8", newline="")
    sniffed = _plain(sample, file, table) or _sniffed(path, file, table)
    if sniffed is None:
        return None
    delimiter, quote, escape, skip, header, comment = sniffed
    if any(delimiter in line for line in head.splitlines()[table.skip_rows : skip]):
        # No title, but rows with another number of fields, of which none may be lost.
        return None
    skip = max(skip, table.skip_rows)
    skip += _comments(head, skip, comment)
    quoted = table.quote if table.quote is not None else "" if quote in ("", "(empty)") else quote
    found = Dialect(
        delimiter=table.delimiter or delimiter,
        # A quote that comes later in the file is one all the same.
        quote='"' if table.quote is None and not quoted else quoted,
        escape="\\" if escape == "\\" else None,
        skip=skip,
        has_header=bool(header) if table.header is None else table.header,
        names=(),
    )
    return _named(found, head, table, file.path)


def _holds(dialect: Dialect, head: str) -> bool:
    """Say whether every row of the head has a value for each name."""
    width = len(dialect.names)
    return all(len(row) in (0, width) for row in dialect.rows(io.StringIO(head, newline="")))


def _plain(sample: str, file: TextFile, table: Table) -> _Found | None:
    """Return what the sniffer would say of lines that leave no choice: each has as many fields by
    one delimiter, none has another's or a quote, and names stand over at least one column of
    numbers. None for others. The sniffer takes as long to start as 20,000 rows to be read."""
    stated = (table.delimiter, table.quote, table.header, table.skip_rows or None)
    there = [mark for mark in _DELIMITERS if mark in sample]
    is_stated = stated != (None,) * 4 or ".tsv" in file.path.suffixes
    if is_stated or len(there) != 1 or not _MARKS.isdisjoint(sample):
        return None
    names, *rows = (line.split(there[0]) for line in sample.splitlines())
    if not rows or {len(row) for row in rows} != {len(names)}:
        return None
    are_names = all(names) and not any(map(_NUMBER.fullmatch, names))
    columns = zip(*rows, strict=True)
    if not are_names or not any(all(map(_NUMBER.fullmatch, column)) for column in columns):
        return None
    return there[0], "", "", 0, True, ""


def _sniffed(sample: Path, file: TextFile, table: Table) -> _Found | None:
    """Ask DuckDB for delimiter, quote, escape, lines to skip, header and comments; None where it
    can't tell."""
    stated: dict[str, object] = {
        "delim": table.delimiter or ("\t" if ".tsv" in file.path.suffixes else None),
        "quote": table.quote,
        "header": table.header,
        "skip": table.skip_rows or None,
    }
    options = "".join(
        f", {key}={_literal(value)}" for key, value in stated.items() if value is not None
    )
    query = (
        "SELECT Delimiter, Quote, Escape, SkipRows, HasHeader, Comment FROM "
        f"sniff_csv({_literal(str(sample))}{options})"
    )
    with duckdb.connect() as connection:
        try:
            ((delimiter, quote, escape, skipped, header, comment),) = connection.sql(
                query
            ).fetchall()
        except duckdb.Error:
            return None
    return delimiter, quote, escape, skipped, header, comment


def cant_tell(path: Path) -> DataError:
    """Put into words that a file's dialect can't be made out."""
    return DataError(
        f"{path} can't be read: its delimiter, quotes or header can't be made out: say them in "
        "source"
    )


def _comments(head: str, skip: int, comment: str) -> int:
    if comment in ("", "(empty)"):
        return 0
    lines = head.splitlines()[skip:]
    return next((i for i, line in enumerate(lines) if not line.startswith(comment)), 0)


def _named(found: Dialect, head: str, table: Table, path: Path) -> Dialect:
    rows = found.rows(io.StringIO(head, newline=""))
    first: list[str] = next((row for row in rows if row), [])
    names = first if found.has_header else [f"column{i}" for i in range(len(first))]
    if table.names is not None:
        if len(table.names) > len(names):
            raise DataError(
                f"source.names has {counted(len(table.names), 'name')}, but {path} has "
                f"{counted(len(names), 'column')}"
            )
        names = [*table.names, *names[len(table.names) :]]
    return Dialect(found.delimiter, found.quote, found.escape, found.skip, found.has_header,
                   tuple(names))  # fmt: skip


def _literal(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower()
