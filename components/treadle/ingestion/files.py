"""Which files a table's path names, what their directories say of them, and whether they stay as
they are while they are read."""

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path
from urllib.parse import unquote

from treadle.errors import DataError, nearest
from treadle.ingestion import text
from treadle.records import SourceFile
from treadle.spec import Format, Table

PACKAGE_SCHEME = "package://"
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
ENDINGS = {
    ".csv": Format.CSV, ".tsv": Format.CSV, ".txt": Format.CSV,
    ".json": Format.JSON, ".jsonl": Format.JSON, ".ndjson": Format.JSON,
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET,
    ".xlsx": Format.EXCEL, ".xlsm": Format.EXCEL, ".xls": Format.EXCEL, ".xlsb": Format.EXCEL,
    ".ods": Format.EXCEL,
}  # fmt: skip


def named_by(path: str) -> list[Path]:
    """Return the files that ``path`` names, sorted. Raises DataError for none."""
    if path.startswith(PACKAGE_SCHEME):
        return [_package_file(path)]
    # A pattern may be absolute, which Path.glob doesn't take.
    named = Path(path).expanduser()
    if named.is_file():  # also where its name holds a bracket
        return [named]
    if named.is_dir():
        return _inside(named)
    matches = sorted(Path(match) for match in glob.glob(str(named), recursive=True))  # noqa: PTH207
    found = [path for path in matches if path.is_file()]
    if not found and glob.has_magic(str(named)):
        raise DataError(f"{path} matches no file: check the pattern and its directory")
    if not found:
        near = _near_file(named) or ": check the path"
        raise DataError(f"no such file: {path}{near}")
    return found


def _inside(folder: Path) -> list[Path]:
    """Return the tables in a directory and those below it; what begins with a dot or an underscore
    is bookkeeping of other tools."""
    below = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = [
        path
        for path in below
        if not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and _by_ending(path) is not None
    ]
    if not found:
        raise DataError(
            f"{folder} is a directory without a table: name one, as in {folder / '*.csv'}"
        )
    kinds = {_by_ending(path) for path in found}
    if len(kinds) > 1:
        listed = " and ".join(sorted(kind for kind in kinds if kind))
        raise DataError(
            f"{folder} is a directory of {listed} files: name those that make up the table, as in "
            f"{folder / '*'}{found[0].suffix}"
        )
    return found


def _by_ending(path: Path, name: Path | None = None) -> Format | None:
    return ENDINGS.get(text.inner_name(path, name).suffix.lower())


def format_of(path: Path, name: Path, table: Table) -> Format:
    """Return how the file at ``path`` is written: as the spec says, else by the ending of its
    ``name``, which is another where it is a copy of a remote one."""
    if table.format is not None:
        return table.format
    found = _by_ending(path, name)
    if found is None:
        known = ", ".join(sorted(ENDINGS))
        ending = text.inner_name(path, name).suffix or "nothing"
        raise DataError(
            f"{name} ends in {ending}, which says no format I know ({known}): state it as "
            "source.format"
        )
    return found


def has_own_types(table: Table, new: Sequence[str]) -> bool:
    """Say whether files are of a format whose values have types."""
    if table.format is not None:
        return table.format is not Format.CSV
    plain = (Path(re.sub(r"[.](gz|zst|bz2|zip)$", "", name, flags=re.IGNORECASE)) for name in new)
    return any(ENDINGS.get(name.suffix.lower(), Format.CSV) is not Format.CSV for name in plain)


def partition(path: Path) -> dict[str, str | None]:
    """Return what directories named ``column=value`` say of a file (Hive's way)."""
    parts = (part.partition("=") for part in path.parent.parts if "=" in part)
    return {
        unquote(name): None if value == NO_PARTITION else unquote(value)
        for name, _, value in parts
        if name
    }


def seen(path: Path) -> SourceFile:
    """Return the file as it is now."""
    stat = path.stat()
    return SourceFile(path=str(path), size_bytes=stat.st_size,
                      stamp=f"{stat.st_mtime_ns}-{stat.st_ino}")  # fmt: skip


@contextmanager
def unchanged(paths: Sequence[Path]) -> Iterator[None]:
    """Raise DataError where a file changes while the block runs: what was read of it is of two
    tables, whatever else was found wrong with it."""
    before = [seen(path) for path in paths]
    try:
        yield
    finally:
        for file in before:
            path = Path(file.path)
            if not path.exists() or seen(path) != file:
                raise DataError(
                    f"{path} changed while it was read: run it again when nothing writes to it"
                )


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
