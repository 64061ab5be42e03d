"""Tables and queries of databases: a DuckDB file, or whatever SQLAlchemy has a driver for."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from treadle.errors import DataError, counted, nearest
from treadle.ingestion.rows import BATCH_ROWS, Rows, aligned, with_categories
from treadle.spec import Table
from treadle.sql import quoted

DUCKDB = {".duckdb", ".ddb"}


def is_database(path: str) -> bool:
    """Say whether a table's path names a database."""
    scheme, mark, _ = path.partition("://")
    if mark:
        return scheme not in ("http", "https", "s3", "package")
    return Path(path).suffix.lower() in DUCKDB


def shown(path: str) -> str:
    """Return an address without its password and without what a signed address carries."""
    scheme, mark, rest = path.partition("://")
    if not mark:
        return path
    place, slash, tail = rest.partition("/")
    login, at, host = place.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}{at}{host}{slash}{tail.partition('?')[0]}"


def read(table: Table, scratch: Path, password: str | None) -> Rows:
    """Return the rows of ``table.query``, a table's name or a query.

    ``password`` is for an address that names a user alone. Raises DataError with the database's own
    reason where it refuses.
    """
    if Path(table.path).suffix.lower() in DUCKDB and "://" not in table.path:
        return _duckdb_file(table)
    return _sqlalchemy(table, scratch, password)


def _asked(table: Table, names: Sequence[str], quote: Any) -> str:
    """Return the query: what stands there, or all of the table that it names."""
    asked = (table.query or "").strip().rstrip(";")
    if not asked and len(names) == 1:
        return f"SELECT * FROM {quote(names[0])}"
    if asked in names:
        return f"SELECT * FROM {quote(asked)}"
    if not asked or " " not in asked:
        known = ", ".join(sorted(names)[:20]) or "none"
        said = f"no table {asked!r}{nearest(asked, names)}" if asked else "several tables or none"
        raise DataError(
            f"{shown(table.path)} has {said} (tables: {known}): name one in source.query"
        )
    return asked


def _duckdb_file(table: Table) -> Rows:
    path = Path(table.path).expanduser()
    if not path.is_file():
        raise DataError(f"no such file: {path}: check the path")

    def opened() -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            raise _refused(table, error) from error
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    with opened() as connection:
        names = [name for (name,) in connection.sql(
            "SELECT table_name FROM information_schema.tables").fetchall()]  # fmt: skip
        query = _asked(table, names, quoted)
        try:
            schema = relation_schema(connection.sql(query))
        except duckdb.Error as error:
            raise _refused(table, error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        with opened() as connection:
            try:
                for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
                    yield aligned(batch, schema)
            except (duckdb.Error, pa.ArrowException) as error:
                raise _refused(table, error) from error

    return Rows(schema, batches)


def _field(field: pa.Field, kind: Any) -> pa.Field:
    """Return a column's field; of an ENUM as text with its categories."""
    return with_categories(field.name, kind.children[0][1]) if kind.id == "enum" else field


def relation_schema(relation: duckdb.DuckDBPyRelation) -> pa.Schema:
    """Return the Arrow schema of a relation; an ENUM is text whose categories have its order."""
    plain = relation.limit(0).to_arrow_table().schema
    return pa.schema(
        [_field(field, kind) for field, kind in zip(plain, relation.types, strict=True)]
    )


def _refused(table: Table, error: Exception) -> DataError:
    words = " ".join(str(getattr(error, "orig", None) or error).split())[:300].rstrip(".")
    asked = f" {table.query!r:.120}" if table.query else ""
    return DataError(
        f"{shown(table.path)} refused the query{asked}: {words}: mend source.path or source.query"
    )


def _sqlalchemy(table: Table, scratch: Path, password: str | None) -> Rows:
    """Fetch the rows once, a part at a time, and keep them aside: a database may answer otherwise
    the second time, and tells no types that can be relied on."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    parts: list[Path] = []
    schemas: list[pa.Schema] = []
    try:
        url = sqlalchemy.make_url(table.path)
        if password and url.username and url.password is None:
            url = url.set(password=password)
        engine = sqlalchemy.create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise DataError(
            f"{shown(table.path)} is no database that can be asked here: {error}: install its "
            "SQLAlchemy driver, or mend the address"
        ) from error
    try:
        inspector = sqlalchemy.inspect(engine)
        names = [*inspector.get_table_names(), *inspector.get_view_names()]
        quote = engine.dialect.identifier_preparer.quote
        asked = _asked(table, names, quote)
        statement: Any = sqlalchemy.text(asked)
        known = next((n for n in names if asked == f"SELECT * FROM {quote(n)}"), None)
        if known is not None:  # its declared types are known then: SQLite has no others
            statement = sqlalchemy.select(sqlalchemy.Table(known, sqlalchemy.MetaData(),
                                                           autoload_with=engine))  # fmt: skip
        with engine.connect().execution_options(yield_per=BATCH_ROWS) as connection:
            result = connection.execute(statement)
            columns = list(result.keys())
            for rows in result.partitions():
                arrays = [_array(list(cells)) for cells in zip(*rows, strict=True)]
                # Names may be there twice, which Parquet has no objection to.
                part = pa.Table.from_arrays(arrays, names=columns)
                path = scratch / f"rows-{len(parts)}-{id(table)}.parquet"
                pq.write_table(part, path, compression="lz4")
                parts.append(path)
                schemas.append(part.schema)
    except SQLAlchemyError as error:
        raise _refused(table, error) from error
    finally:
        engine.dispose()
    schema = _promoted(schemas, columns, table)

    def batches() -> Iterator[pa.RecordBatch]:
        for path in parts:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    cast = [
                        _as(column, field.type)
                        for column, field in zip(batch.columns, schema, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(cast, schema=schema)

    return Rows(schema, batches)


def _array(cells: list[Any]) -> pa.Array:
    """Return a column's values as Arrow has them; as text where they are of several types."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, Decimal} or kinds == {int, bool}:
        cells = [None if cell is None else _number(cell, kinds) for cell in cells]
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if kinds <= {int}:
            return pa.array([None if c is None else Decimal(c) for c in cells])
        if kinds <= {int, float}:
            return pa.array([None if c is None else float(c) for c in cells], pa.float64())
        return pa.array([None if c is None else str(c) for c in cells], pa.string())


def _number(cell: Any, kinds: set[type]) -> Any:
    """Return a whole number among decimals as a decimal, a boolean among numbers as a number."""
    return Decimal(cell) if Decimal in kinds else int(cell)


def _promoted(schemas: Sequence[pa.Schema], columns: Sequence[str], table: Table) -> pa.Schema:
    if not schemas:
        raise DataError(
            f"{shown(table.path)} has {counted(len(columns), 'column')} but no rows: there is "
            "nothing to learn"
        )
    fields = []
    for place, name in enumerate(columns):
        kinds = [schema.field(place).type for schema in schemas]
        zones = {kind.tz is None for kind in kinds if pa.types.is_timestamp(kind)}
        if len(zones) > 1:
            raise DataError(
                f"column {name!r} mixes times with a zone and times without: cast it in "
                "source.query"
            )
        one = [pa.schema([pa.field("x", kind)]) for kind in kinds]
        try:
            kind = pa.unify_schemas(one, promote_options="permissive").field(0).type
        except pa.ArrowException:
            kind = pa.string()
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind) and not pa.types.is_string(column.type):
        texts = [None if cell is None else str(cell) for cell in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column.cast(kind)
