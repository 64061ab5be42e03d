"""Find the files behind a source and hand them to DuckDB as named tables."""

import glob
import gzip
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from treadle import snapshots
from treadle.errors import DataError, nearest
from treadle.ingestion.delimited import csv_fault
from treadle.profile import quoted
from treadle.spec import Source, Table

PACKAGE_SCHEME = "package://"
_TEXT = {".csv", ".tsv", ".txt"}
_JSON = {".jsonl", ".ndjson", ".json"}
_PARQUET = {".parquet", ".pq"}
_COMPRESSED = {".gz", ".zst"}


def files_of(table: Table) -> list[Path]:
    """Return the files that ``table.path`` names, sorted. Raises DataError for none."""
    if table.path.startswith(PACKAGE_SCHEME):
        return [_package_file(table.path)]
    # A pattern may be absolute, which Path.glob doesn't take.
    named = Path(table.path).expanduser()
    if named.is_file():  # also where its name holds a bracket
        return [named]
    if named.is_dir():
        raise DataError(f"{table.path} is a directory: name its files, as in {named / '*.csv'}")
    matches = sorted(Path(match) for match in glob.glob(str(named), recursive=True))  # noqa: PTH207
    files = [path for path in matches if path.is_file()]
    if not files and glob.has_magic(str(named)):
        raise DataError(f"{table.path} matches no file: check the pattern and its directory")
    if not files:
        near = _near_file(named) or ": check the path"
        raise DataError(f"no such file: {table.path}{near}")
    return files


def fingerprint(source: Source) -> str:
    """Return words that change when a file behind the source does: path, size and time of each.

    The launcher passes it to the ingestion step, so that a step's cache notices a changed file.
    """
    lines = []
    for name, table in sorted(source.tables.items()):
        for path in files_of(table):
            stat = path.stat()
            lines.append(f"{name} {path} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(lines)


@contextmanager
def opened(source: Source) -> Iterator[duckdb.DuckDBPyRelation]:
    """Yield the source's rows as a DuckDB relation; nothing is read before it is asked for.

    Raises DataError where a file can't be read or the query is wrong, with DuckDB's reason.
    """
    with TemporaryDirectory(prefix="treadle-") as scratch, duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = true")
        connection.execute(f"SET temp_directory = '{scratch}'")
        for name, table in source.tables.items():
            _create_view(connection, name, table, Path(scratch))
        query = source.sql or f'SELECT * FROM "{next(iter(source.tables))}"'
        try:
            yield connection.sql(query)
        except duckdb.Error as error:
            if full := snapshots.scratch_fault(error, Path(scratch)):
                raise full from error
            if source.sql:
                words = f"the query in source.sql can't run, mend it there: {_reason(error)}"
                raise DataError(words) from error
            raise _unreadable(next(iter(source.tables.values())), error) from error


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, scratch: Path
) -> None:
    given = files_of(table)
    for path in given:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has no header and no rows; write the table again")
    files = [_plain_named(_unzipped(path, scratch), scratch) for path in given]
    try:
        relation = _reader(connection, files, table)
        relation.create_view(name)
    except duckdb.Error as error:
        if full := snapshots.scratch_fault(error, scratch):
            raise full from error
        for path, file in zip(given, files, strict=True):
            words = csv_fault(file, table) if _format(file) == "csv" else None
            if words:
                raise DataError(f"{path}, {words}") from error
        raise _unreadable(table, error) from error


def _reader(
    connection: duckdb.DuckDBPyConnection, files: list[Path], table: Table
) -> duckdb.DuckDBPyRelation:
    names = [str(path) for path in files]
    match _format(files[0]):
        case "parquet":
            return connection.read_parquet(names)
        case "json":
            return connection.read_json(names, format="newline_delimited")
        case _:
            return _read_csv(connection, names, _csv_options(table, files[0]))


def _read_csv(
    connection: duckdb.DuckDBPyConnection, names: list[str], options: Mapping[str, Any]
) -> duckdb.DuckDBPyRelation:
    """Read CSV. DuckDB takes yes and no, t and f, for booleans; a person who wrote ``yes`` wants
    to read ``yes`` in the prediction, so only true and false are."""
    found = connection.read_csv(names, **options)
    typed = zip(found.columns, found.types, strict=True)
    booleans = {name: "VARCHAR" for name, kind in typed if str(kind) == "BOOLEAN"}
    if not booleans:
        return found
    raw = connection.read_csv(names, **options, dtype=booleans)
    words = ", ".join(
        f"bool_and(lower(trim({quoted(name)})) IN ('true', 'false'))" for name in booleans
    )
    ((*plain,),) = raw.aggregate(words).fetchall()
    worded = [name for name, is_plain in zip(booleans, plain, strict=True) if not is_plain]
    texts = dict.fromkeys(worded, "VARCHAR")
    return connection.read_csv(names, **options, dtype=texts) if texts else found


def _csv_options(table: Table, path: Path) -> Mapping[str, object]:
    given: dict[str, object] = {
        "delimiter": table.delimiter or ("\t" if ".tsv" in path.suffixes else None),
        "header": table.header,
        "names": table.names,
        "skiprows": table.skip_rows or None,
        "na_values": table.nulls,
        # Types are proven on every row, not guessed from the first ones.
        "sample_size": -1,
    }
    return {key: value for key, value in given.items() if value is not None}


def _format(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last in _PARQUET:
        return "parquet"
    if last in _JSON:
        return "json"
    if last in _TEXT:
        return "csv"
    known = ", ".join(sorted(_TEXT | _JSON | _PARQUET))
    raise DataError(f"{path} ends in {last or 'nothing'}, which says no format I know ({known})")


def _unzipped(path: Path, scratch: Path) -> Path:
    """Unpack a zip of one file; check a gzip to its end, as DuckDB may stop early at a fault."""
    if path.suffix.lower() == ".gz":
        _check_gzip(path)
    if path.suffix.lower() != ".zip":
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            if len(members) != 1:
                raise DataError(
                    f"{path} holds {len(members)} files; a table's zip holds one: unpack it, and "
                    "name the file"
                )
            target = scratch / f"{len(list(scratch.iterdir()))}-{Path(members[0].filename).name}"
            with archive.open(members[0]) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
            return target
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        # A RuntimeError is a zip with a password, NotImplementedError an unusual compression.
        reason = str(error)[:1].lower() + str(error)[1:].rstrip(".")
        raise DataError(f"{path} can't be unpacked: {reason}: fetch or pack it again") from error
    except OSError as error:
        raise snapshots.scratch_fault(error, scratch) or _may_not(path, error) from error


def _check_gzip(path: Path) -> None:
    try:
        with gzip.open(path) as packed:
            while packed.read(1 << 20):
                continue
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        words = f"{path} is not a whole gzip file: {reason}: fetch or pack it again"
        raise DataError(words) from error
    except OSError as error:
        raise _may_not(path, error) from error


def _may_not(path: Path, error: OSError) -> DataError:
    reason = (error.strerror or str(error)).lower()
    return DataError(f"{path} can't be read: {reason}: check its permissions and its disk")


def _plain_named(path: Path, scratch: Path) -> Path:
    """Return a path that DuckDB doesn't take for a pattern."""
    if not glob.has_magic(str(path)):
        return path
    alias = scratch / f"alias-{len(list(scratch.iterdir()))}{''.join(path.suffixes[-2:])}"
    alias.symlink_to(path.absolute())
    return alias


def _package_file(address: str) -> Path:
    """Resolve ``package://PACKAGE/PATH`` without importing the package."""
    package, _, inside = address.removeprefix(PACKAGE_SCHEME).partition("/")
    root = _package_root(package)
    path = root / inside
    if not inside or not path.is_file():
        siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"{address}: the package has no such file{nearest(path.name, siblings)}")
    return path


def _package_root(package: str) -> Path:
    try:
        found: Distribution = distribution(package)
    except PackageNotFoundError:
        owners = packages_distributions().get(package)
        if not owners:
            raise DataError(
                f"the Python package {package!r} is not installed: pip install {package}"
            ) from None
        found = distribution(owners[0])
    return Path(str(found.locate_file(package)))


def _near_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no directory {folder})"
    return nearest(path.name, [p.name for p in folder.iterdir()])


def _unreadable(table: Table, error: Exception) -> DataError:
    reason = _reason(error)
    # DuckDB's reasons that say nothing to a person, and what to do about them.
    if "was not possible to automatically detect" in reason:
        reason = "its delimiter, quotes or header can't be made out: say them in source"
    elif "unicode" in reason.lower() or "not utf-8" in reason.lower():
        reason = "it is no text in UTF-8: save it as CSV in UTF-8, or name another file"
    elif "No magic bytes" in reason or "too small to be a Parquet" in reason:
        reason = "it is no Parquet file: write it again, or name it for what it is"
    else:
        reason += ": mend it there, then run it again"
    return DataError(f"{table.path} can't be read: {reason}")


def _reason(error: Exception, most: int = 3) -> str:
    """DuckDB's messages run long: the first lines hold the reason, after the kind of error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if set(line) != {"^"}]
    words = re.sub(r"^(?:[A-Z][\w-]+ )+Error: ", "", " ".join(lines[:most]))
    return words[:400].rstrip(".")
