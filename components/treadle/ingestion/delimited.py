"""Delimited text, CSV and its kin: a dialect for each file, a reading for each column.

A file's first lines propose types; Arrow's reader proves them on every value, as it refuses what
doesn't fit, and then all values of the table are looked at (``readings``) before it is read again.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from treadle.errors import DataError, counted, nearest
from treadle.ingestion import dialect as dialects
from treadle.ingestion import text as texts
from treadle.ingestion.dialect import Dialect
from treadle.ingestion.readings import (
    FALSE,
    INTEGER,
    TEXT,
    TRUE,
    Proof,
    Reading,
    Words,
    by_formats,
    convert,
    fits,
)  # fmt: skip
from treadle.ingestion.rows import Partitions, Rows, Unproven, with_categories
from treadle.ingestion.stated import READINGS
from treadle.ingestion.text import TextFile
from treadle.snapshots import repaired
from treadle.spec import Table, ValueType

BLOCK_BYTES = 4 << 20


@dataclass
class _File:
    text: TextFile
    dialect: Dialect
    names: list[str]

    def batches(self, types: Mapping[str, pa.DataType], words: Words) -> Iterator[pa.RecordBatch]:
        """Yield the rows with these columns, as Arrow reads them (a column without a type: text).
        Raises pa.ArrowInvalid for a value of another type."""
        options = pacsv.ConvertOptions(
            column_types={name: types.get(name, pa.string()) for name in self.names},
            null_values=list(words.no_value),
            true_values=list(TRUE),
            false_values=list(FALSE),
            strings_can_be_null=False,
        )
        marks = self.dialect
        parsing = pacsv.ParseOptions(
            delimiter=marks.delimiter,
            quote_char=marks.quote or False,
            double_quote=marks.escape is None,
            escape_char=marks.escape or False,
            newlines_in_values=bool(marks.quote),
            # A table of one column says with an empty line that it has no value there.
            ignore_empty_lines=len(self.names) > 1,
        )
        reading = pacsv.ReadOptions(
            block_size=BLOCK_BYTES,
            column_names=self.names,
            skip_rows=marks.skip,
            skip_rows_after_names=int(marks.has_header),
        )
        with self.text.opened() as stream, texts.faults_in_words(self.text):
            try:
                reader = pacsv.open_csv(stream, reading, parsing, options)
            except pa.ArrowInvalid as error:
                is_header = self.text.path.stat().st_size < texts.HEAD_BYTES and (
                    len(self.text.head().splitlines()) <= marks.skip + marks.has_header
                )
                if "Empty CSV file" in str(error) or "no rows" in str(error) or is_header:
                    return
                raise
            yield from reader


@dataclass
class _Reader:
    files: list[_File]
    words: Words
    table: Table
    partitions: Partitions
    readings: dict[str, Reading] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_proven: bool = False

    @property
    def schema(self) -> pa.Schema:
        return self.partitions.extended(self._own_schema)

    @property
    def _own_schema(self) -> pa.Schema:
        return pa.schema([self._field(name, r) for name, r in self.readings.items()])

    def _field(self, name: str, reading: Reading) -> pa.Field:
        kind = self.table.types.get(name)
        return (
            with_categories(name, kind) if isinstance(kind, list) else pa.field(name, reading.type)
        )

    def propose(self) -> pa.Schema:
        """Find readings from the files' first lines."""
        return self._find(sample=True)

    def prove(self) -> pa.Schema:
        """Find readings from all values."""
        try:
            found = self._find(sample=False)
        except Unproven:  # by its encoding, which is another now
            found = self._find(sample=False)
        self.is_proven = True
        return found

    def _find(self, sample: bool) -> pa.Schema:
        names = list(dict.fromkeys(name for file in self.files for name in file.names))
        open_ = [name for name in names if name not in self.table.types]
        is_all = sample and len(self.files) == 1
        proofs = {name: Proof(self.words, is_all) for name in open_}
        for file in self.files:
            try:
                for batch in _head(file) if sample else file.batches({}, self.words):
                    for name in proofs.keys() & set(batch.schema.names):
                        proofs[name].add(batch.column(name))
            except pa.ArrowInvalid as error:
                raise self._fault(file, error) from error
        mixed = [name for name, proof in proofs.items() if proof.mixes_zones]
        if mixed:
            raise DataError(
                f"column {mixed[0]!r} of {self.files[0].text.path} mixes times with a zone and "
                "times without: write all in one way, or keep it as it is with source.types: "
                f"{{{mixed[0]}: text}}"
            )
        has_comma = any(proof.shows_comma for proof in proofs.values())
        self.readings = {
            name: proofs[name].reading(has_comma) if name in proofs else self._stated(name)
            for name in names
        }
        found = (_notes(name, proof, self.readings[name]) for name, proof in proofs.items())
        self.notes += [note for notes in found for note in notes if note not in self.notes]
        return self.schema

    def _stated(self, name: str) -> Reading:
        kind = self.table.types[name]
        if isinstance(kind, list):
            return TEXT
        if self.table.dates and kind in (ValueType.DATE, ValueType.TIME):
            return by_formats(self.table.dates)
        marked = self.words.decimal or self.words.thousands
        if marked and kind in (ValueType.NUMBER, ValueType.INTEGER):
            numbers = [r for r in self.words.numbers if r.type == READINGS[kind].type]
            return numbers[0] if numbers else READINGS[kind]
        return READINGS[kind]

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema, own = self.schema, self._own_schema
        types = {name: r.type for name, r in self.readings.items() if r.is_native}
        for place, file in enumerate(self.files):
            last = None
            try:
                for last in file.batches(types, self.words):
                    yield self.partitions.added(self._converted(last, own), place, schema)
            except pa.ArrowInvalid as error:
                raise self._fault(file, error) from error
            if last is not None:
                _refuse_open_quote(file, last)

    def _converted(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        columns = []
        for part in schema:
            reading = self.readings[part.name]
            if part.name not in batch.schema.names:
                columns.append(pa.nulls(batch.num_rows, part.type))
                continue
            column = batch.column(part.name)
            if reading == TEXT:
                column = _without(column, self.words.no_text)
                self._check_category(column, part.name)
            elif not reading.is_native:
                text = _without(column, self.words.no_value)
                column = convert(pc.utf8_trim_whitespace(text), reading)
                if column.null_count > text.null_count:
                    raise pa.ArrowInvalid(f"In CSV column {part.name}: {reading.words}")
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _check_category(self, column: pa.Array, name: str) -> None:
        known = self.table.types.get(name)
        if isinstance(known, list):
            found = pc.is_in(column.drop_null(), value_set=pa.array(known, pa.string()))
            if not pc.all(found, min_count=0).as_py():
                raise pa.ArrowInvalid(f"In CSV column {name}: no category")

    def _fault(self, file: _File, error: pa.ArrowInvalid) -> Exception:
        """Return what a refused value, line or byte means: the next step, or words for a person."""
        path, words = file.text.path, str(error)
        if "UTF8" in words and file.text.encoding == "utf-8":
            return self._fallback(file)
        if "CSV parse error" in words:
            where = odd_line(file.text, self.table, file.dialect)
            reason = where or " ".join(words.split())[:300]
            return DataError(f"{path}, {reason}")
        if "straddl" in words:
            mib = BLOCK_BYTES >> 20
            return DataError(
                f"{path} can't be read: a row is longer than {mib} MiB, as one is whose quote is "
                "never closed: mend it there, or state source.quote"
            )
        if "conversion error" not in words and "In CSV column" not in words:
            return DataError(
                f"{path} can't be read: {' '.join(words.split())[:300]}: mend it there"
            )
        if misfit := self._stated_misfit(file):
            return misfit
        return DataError(f"{path} changed while it was read: run it again when it is whole") \
            if self.is_proven else Unproven(words)  # fmt: skip

    def _fallback(self, file: _File) -> Exception:
        """Take a file whose first lines are ASCII for what it may be instead of UTF-8."""
        if self.table.encoding or not texts.is_text(file.text.path):
            return texts.not_text(file.text.path)
        file.text = replace(file.text, encoding=texts.FALLBACK)
        self.notes.append(texts.encoding_note(file.text))
        self.is_proven = False
        return Unproven(f"{file.text.path} is not UTF-8")

    def _stated_misfit(self, file: _File) -> DataError | None:
        """Name the first value that doesn't fit what the spec states of its column."""
        stated = {name: self.readings[name] for name in self.table.types if name in file.names}
        if not stated:
            return None
        row = 0
        for batch in file.batches({}, self.words):
            for name, reading in stated.items():
                kind = self.table.types[name]
                skip = self.words.no_text if reading == TEXT else self.words.no_value
                text = _without(batch.column(name), skip)
                for i, value in enumerate(text.to_pylist()):
                    if value is None or _is(value, kind, reading):
                        continue
                    called = (
                        f"one of {', '.join(kind)}" if isinstance(kind, list) else f"of type {kind}"
                    )
                    return DataError(
                        f"{file.text.path}, row {row + i + 1}, column {name!r}: {value!r:.60} is "
                        f"not {called}, as source.types states: mend it, or change what is stated"
                    )
            row += batch.num_rows
        return None


def _refuse_open_quote(file: _File, last: pa.RecordBatch) -> None:
    """Raise DataError where a quote is never closed: Arrow takes all that follows for its value,
    which then is the very last one and has several lines."""
    value = last.columns[-1][-1].as_py() if last.num_rows else None
    if not isinstance(value, str) or "\n" not in value:
        return
    if file.dialect.escape is not None or not texts.is_odd(file.text, file.dialect.quote):
        return
    raise DataError(
        f"{file.text.path} can't be read to its end: in its last column a quote "
        f"({file.dialect.quote}) is opened before {value.splitlines()[0][:60]!r} and never closed: "
        "close it there, or state source.quote"
    )


def _is(value: str, kind: ValueType | list[str], reading: Reading) -> bool:
    if isinstance(kind, list):
        return value in kind
    return fits(pa.array([value.strip()]), reading)


def read(paths: Sequence[Path], table: Table, scratch: Path, partitions: Partitions) -> Rows:
    """Return the rows of the files, one after the other; columns go by name.

    Raises DataError, while they are read as well, that names file, row and column of what doesn't
    fit.
    """
    words = Words(
        nulls=None if table.nulls is None else tuple(table.nulls),
        decimal=table.decimal,
        thousands=table.thousands,
        dates=None if table.dates is None else tuple(table.dates),
    )
    files, notes = _files(paths, table, scratch)
    names = list(dict.fromkeys(name for file in files for name in file.names))
    directories = {field.name for field in partitions.fields}
    for name in table.types:
        if name not in names and name not in directories:
            raise DataError(
                f"source.types names {name!r}, which is no column{nearest(name, names)}"
            )
    for file in files:
        missing = [name for name in names if name not in file.names]
        if missing:
            notes.append(f"{file.text.path} has no column {missing[0]!r}: null there")
    reader = _Reader(files, words, table, partitions, notes=notes)
    reader.propose()
    return Rows(reader.schema, reader.batches, reader.notes, reader.prove)


def _files(paths: Sequence[Path], table: Table, scratch: Path) -> tuple[list[_File], list[str]]:
    files, notes = [], list[str]()
    for path in paths:
        text = texts.found(path, table.encoding)
        told = dialects.with_told(text, table)
        try:
            dialect = dialects.find(text, told, scratch)
        except DataError:
            if words := odd_line(text, told):
                raise DataError(f"{path}, {words}; source.skip_rows leaves out what comes before a "
                                "table") from None  # fmt: skip
            raise
        names, repairs = repaired(dialect.names)
        files.append(_File(text, dialect, names))
        if path == paths[0]:
            notes += [*_dialect_notes(text, dialect, table), *repairs]
    return files, notes


def _dialect_notes(text: TextFile, dialect: Dialect, table: Table) -> list[str]:
    notes = []
    if text.encoding != "utf-8" and table.encoding is None:
        notes.append(texts.encoding_note(text))
    if dialect.delimiter != "," and table.delimiter is None:
        notes.append(f"its delimiter is {dialect.delimiter!r}")
    if not dialect.has_header and table.header is None:
        notes.append("it has no header")
    if dialect.skip > table.skip_rows:
        notes.append(f"left out before the table: {counted(dialect.skip, 'line')}")
    return notes


def _notes(name: str, proof: Proof, reading: Reading) -> Iterator[str]:
    """Say how a column is read where a person might have meant something else."""
    if reading == TEXT:
        if proof.odd is not None:
            yield (
                f"column {name!r} is text: {proof.odd!r:.60} is no number (if it means no value, "
                "say so with source.nulls)"
            )
        return
    if reading.words:
        yield f"column {name!r} has {reading.words}"
    if proof.doubt:
        yield f"column {name!r}: {proof.doubt}; state dates, decimal or thousands in source"
    if proof.signs:
        signs = ", ".join(repr(sign) for sign in sorted(proof.signs))
        yield f"column {name!r}: {signs} is no value there"
    if proof.has_leading_zeros and reading == INTEGER:
        yield (
            f"column {name!r} loses its leading zeros as a number; source.types: {{{name}: text}} "
            "keeps them"
        )


def _head(file: _File) -> Iterator[pa.RecordBatch]:
    """Yield the file's first rows, as text."""
    head = file.text.head()
    rows = file.dialect.rows(io.StringIO(head, newline=""))
    if file.dialect.has_header:
        next((row for row in rows if row), None)
    width = len(file.names)
    kept = [row for row in rows if len(row) == width]
    columns = list(zip(*kept, strict=True)) or [()] * width
    arrays = [pa.array(column, pa.string()) for column in columns]
    yield pa.RecordBatch.from_arrays(arrays, names=file.names)


def _without(text: pa.Array, words: Sequence[str]) -> pa.Array:
    """Return the text with null in place of the words that mean no value."""
    found = pc.is_in(text, value_set=pa.array(words, pa.string()))
    return pc.if_else(found, None, text) if pc.any(found).as_py() else text


def odd_line(file: TextFile, table: Table, dialect: Dialect | None = None) -> str | None:
    """Return words for the first line with another number of fields than the first one has, or
    None where every line has the same."""
    try:
        with file.opened() as stream:
            raw = stream if hasattr(stream, "readable") else pa.PythonFile(stream, "r")
            text = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8-sig", newline="")
            return _odd_line(text, dialect or _guessed(file, table))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def _guessed(file: TextFile, table: Table) -> Dialect:
    """Return the likeliest dialect of a file whose lines don't agree on one."""
    first = next(iter(file.head().splitlines()[table.skip_rows :]), "")
    counts = Counter({mark: first.count(mark) for mark in ",;\t|"})
    delimiter = table.delimiter or counts.most_common(1)[0][0]
    return Dialect(delimiter, '"', None, table.skip_rows, True, ())


def _odd_line(text: io.TextIOBase, dialect: Dialect) -> str | None:
    rows = dialect.rows(text)
    wanted: int | None = None
    for row in rows:
        if not row:
            continue
        wanted = wanted or len(row)
        if len(row) != wanted:
            # The names of the columns, if there are any, are known: the last one is where it ends.
            return (
                f"line {dialect.skip + rows.line_num} has {counted(len(row), 'field')} "
                f"where the first has {wanted}: mend that line (a value that holds the delimiter "
                f"{dialect.delimiter!r} needs quotes)"
            )
    return None
