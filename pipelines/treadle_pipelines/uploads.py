"""Bring what a spec names on this machine to where a cluster's steps can read it: the object store.

Files go under the digest of their content, so each is sent once; the spec that is submitted names
them there. What has an address of its own (S3, HTTP, a database) stays as it is.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from treadle.errors import SpecError
from treadle.ingestion import database
from treadle.ingestion.files import PACKAGE_SCHEME, named_by
from treadle.ports import ObjectStore
from treadle.spec import Spec, Table

CHUNK_BYTES = 1 << 20
FOLDER = "sources"


def is_local(table: Table) -> bool:
    """Say whether a table is on this machine: a path, or a file that a Python package ships."""
    return "://" not in table.path or table.path.startswith(PACKAGE_SCHEME)


def uploaded(spec: Spec, open_store: Callable[[], ObjectStore], say: Callable[[str], None]) -> Spec:
    """Return the spec with every local file uploaded and named by its address in the store.

    ``open_store`` is called only if there is something to upload. Raises SpecError where the
    settings name no store that a cluster could reach, DataError for a file that isn't there.
    """
    local = {name: table for name, table in spec.source.tables.items() if is_local(table)}
    if not local:
        return spec
    store = open_store()
    if not store.uri("x").startswith("s3://"):
        first = next(iter(local.values())).path
        raise SpecError(
            f"{first} is on this machine, where the cluster can't read it: set "
            "TREADLE_OBJECT_STORE, TREADLE_S3_ENDPOINT and the S3 keys to the cluster's object "
            "store as it is reached from here, or name a source by an s3:// or https:// address"
        )
    tables = dict(spec.source.tables)
    for name, table in local.items():
        if database.is_database(table.path):
            raise SpecError(
                f"{table.path} is a database on this machine, which the cluster can't ask: write "
                "the rows to Parquet and name those"
            )
        address = _upload([path.absolute() for path in named_by(table.path)], store, say)
        tables[name] = table.model_copy(update={"path": address})
    source = spec.source.model_copy(update={"tables": tables})
    return spec.model_copy(update={"source": source})


def _upload(files: list[Path], store: ObjectStore, say: Callable[[str], None]) -> str:
    """Store the files in a folder named by their digest; return the address of the one file, or
    the pattern that matches them all."""
    base = _base(files)
    names = [file.relative_to(base).as_posix() for file in files]
    digest = hashlib.sha256()
    for name, file in zip(names, files, strict=True):
        digest.update(f"{name}\0{_digest(file)}\0".encode())
    folder = f"{FOLDER}/{digest.hexdigest()[:32]}"
    for name, file in zip(names, files, strict=True):
        key = f"{folder}/{name}"
        if not store.exists(key):
            say(f"uploading {file.name} ({file.stat().st_size / 1e6:.1f} MB)")
            store.put_file(key, file)
    one = names[0] if len(files) == 1 else "x"
    address = store.uri(f"{folder}/{one}")
    return address if len(files) == 1 else f"{address.removesuffix('x')}*"


def _base(files: list[Path]) -> Path:
    """Return the folder from which names are counted: directories called column=value stay in them,
    as they are columns."""
    base = Path(os.path.commonpath([file.absolute().parent for file in files]))
    marked = [position for position, part in enumerate(base.parts) if "=" in part]
    return Path(*base.parts[: marked[0]]) if marked else base


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
