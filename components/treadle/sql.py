"""How DuckDB is asked, and how its SQL reads a column as the encoders do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from treadle.encoding import FALSE_WORDS, TIME_TEXT, TRUE_WORDS
from treadle.records import Kind

# The largest number that float32, and so a model, rounds to one that is finite.
LARGEST = 3.4028235677973362e38
NUMERIC = (Kind.NUMBER, Kind.TIME)
# Types of which every value is a number that is finite, and times that are read without a zone's
# help. DuckDB knows a column's type before it reads, so that what isn't of it costs nothing.
_WHOLE = "('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT')"
_CLOCKS = "('DATE', 'TIMESTAMP')"


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection of its own that reads times without a zone as UTC."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def quoted(name: str) -> str:
    """Quote a column's name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


def as_number(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as a number, as ``signature`` does: times become epoch
    seconds; what is no number, not finite or beyond float32 becomes null."""
    column = quoted(name)
    if kind is Kind.TIME:
        text = f"CAST({column} AS VARCHAR)"
        plain = f"typeof({column}) <> 'VARCHAR' OR regexp_full_match({text}, '{TIME_TEXT}')"
        moment = f"TRY_CAST(CASE WHEN {plain} THEN {column} END AS TIMESTAMPTZ)"
        # A cast to a time with a zone asks a calendar for every value.
        clock = f"epoch(TRY_CAST({column} AS TIMESTAMP))"
        return f"CASE WHEN typeof({column}) IN {_CLOCKS} THEN {clock} ELSE epoch({moment}) END"
    number = f"TRY_CAST({column} AS DOUBLE)"
    # Parquet's ranges leave NaN out, and DuckDB decides comparisons by them: isfinite is asked.
    finite = f"isfinite({number}) AND abs({number}) <= {LARGEST!r}"
    return f"CASE WHEN typeof({column}) IN {_WHOLE} OR ({finite}) THEN {number} END"


def as_text(name: str) -> str:
    """Return the SQL that reads a column as a category, as ``signature.category`` does (3.0: 3)."""
    column = quoted(name)
    text, number = f"CAST({column} AS VARCHAR)", f"TRY_CAST({column} AS DOUBLE)"
    whole = f"CAST(TRY_CAST({number} AS HUGEINT) AS VARCHAR)"
    double = f"CASE WHEN {number} = trunc({number}) THEN coalesce({whole}, {text}) ELSE {text} END"
    return (
        f"CASE WHEN typeof({column}) IN ('DOUBLE', 'FLOAT') "
        f"THEN CASE WHEN isfinite({number}) THEN {double} END "
        f"WHEN typeof({column}) LIKE 'DECIMAL%' "
        f"THEN regexp_replace(regexp_replace({text}, '(\\.[0-9]*?)0+$', '\\1'), '\\.$', '') "
        f"ELSE {text} END"
    )


def as_boolean(name: str) -> str:
    """Return the SQL that reads a column as a boolean, as ``true`` or ``false``."""
    column, text = quoted(name), f"lower(trim({as_text(name)}))"

    def among(words: Iterable[str]) -> str:
        return f"{text} IN ({', '.join(repr(word) for word in sorted(words))})"

    return (
        f"CASE WHEN typeof({column}) = 'BOOLEAN' THEN CAST({column} AS VARCHAR) "
        f"WHEN {among(TRUE_WORDS)} THEN 'true' WHEN {among(FALSE_WORDS)} THEN 'false' END"
    )


def as_read(name: str, kind: Kind) -> str:
    """Return the SQL that reads a column as its kind; null where it can't be."""
    match kind:
        case Kind.NUMBER | Kind.TIME:
            return as_number(name, kind)
        case Kind.BOOLEAN:
            return as_boolean(name)
        case Kind.CATEGORY:
            return as_text(name)


def single(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the one row of a query that has exactly one."""
    (row,) = connection.sql(query).fetchall()
    return row
