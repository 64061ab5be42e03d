"""The object store of one machine: a directory."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from treadle.adapters.keys import ASIDE, can_begin_key, check_key, shown
from treadle.errors import StoreError, from_os_error

CHUNK_BYTES = 1 << 20
STALE_S = 24 * 3600


class DirectoryStore:
    """Blobs are files under ``root``, which is made at the first put.

    A put writes a part file in ``root/.tmp`` (the same file system), syncs it and renames it over
    the key, so a reader sees the former blob or the whole new one, also after a crash. Parts that
    a killed process left are swept at a store's first put once they are a day old.

    A key can't also be a folder of other keys (``a`` beside ``a/b``): StoreError. A full disk, a
    read-only file system and the like raise EnvironmentFault and leave no part behind.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._aside = self._root / ASIDE
        self._swept = False

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``, replacing what was there."""
        self._put(key, [data])

    def create(self, key: str, data: bytes) -> bool:
        """Store ``data`` under ``key`` where there is nothing yet; say whether it was."""
        if self.exists(key):
            return False
        try:
            self._put(key, [data], _link)
        except _Taken:
            return False
        return True

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path`` under ``key``, replacing what was there. Raises StoreError
        where it can't be read to its end."""
        self._put(key, _chunks(path, key))

    def get_bytes(self, key: str) -> bytes:
        """Return the blob. Raises StoreError where there is none."""
        with self._faults_in_words(f"can't read {shown(key)}"):
            return self.local(key).read_bytes()

    def local(self, key: str) -> Path:
        """Return the blob's own path; never write to it. Raises StoreError where there is none."""
        if not self.exists(key):
            raise StoreError(f"there is no blob {shown(key)} in {self._root}: put it there first")
        return self._path(key)

    def exists(self, key: str) -> bool:
        """Say whether there is a blob under ``key``."""
        with self._faults_in_words(f"can't look for {shown(key)}"):
            return self._path(key).is_file()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with ``prefix``, in the order of their code points."""
        if not can_begin_key(prefix):
            return iter(())
        with self._faults_in_words(f"can't list {shown(prefix)}"):
            return iter(sorted(key for key in self._walk(prefix) if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """Remove the blob and the folders it leaves empty; no error where there is none."""
        path = self._path(key)
        if not self.exists(key):
            return
        with self._faults_in_words(f"can't delete {shown(key)}"):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._root:
                return
            try:
                folder.rmdir()
            except OSError:
                return  # it holds other blobs

    def uri(self, key: str) -> str:
        """Return the blob's ``file://`` address."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _walk(self, prefix: str) -> Iterator[str]:
        start = self._root / prefix.rpartition("/")[0]
        for folder, folders, files in os.walk(start, onerror=_unless_missing):
            if Path(folder) == self._root and ASIDE in folders:
                folders.remove(ASIDE)
            for file in files:
                yield (Path(folder) / file).relative_to(self._root).as_posix()

    def _put(
        self,
        key: str,
        chunks: Iterable[bytes],
        place: Callable[[Path, Path], object] = Path.replace,
    ) -> None:
        path = self._path(key)
        part = self._aside / f".part-{uuid4().hex}"
        with self._faults_in_words(f"can't store {shown(key)}"):
            try:
                self._aside.mkdir(parents=True, exist_ok=True)
                self._sweep()
                _write_synced(part, chunks)
                _move(part, path, place)
            finally:
                # Gone already after a move; nothing to add to the fault that is on its way.
                with suppress(OSError):
                    part.unlink()

    def _sweep(self) -> None:
        if self._swept:
            return
        self._swept = True
        for part in self._aside.glob(".part-*"):
            # Another process may finish or sweep the same part meanwhile.
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > STALE_S:
                    part.unlink()

    @contextmanager
    def _faults_in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise StoreError(
                f"{what} in {self._root}: {error.filename} is in the way; "
                "a key can't also be a folder of other keys, so choose another"
            ) from error
        except OSError as error:
            if error.filename is None:  # a full disk fails in write(), which knows no name
                error.filename = str(self._root)
            words = f"{what} in {self._root}: {error.strerror or error}; check that directory"
            raise from_os_error(error) or StoreError(words) from error


def _chunks(path: Path, key: str) -> Iterator[bytes]:
    # The source's faults are caught here, where they can't be taken for those of the store.
    try:
        with path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
            # A file cut short under our hands reads like one that ended.
            changed = source.tell() != os.fstat(source.fileno()).st_size
    except OSError as error:
        raise StoreError(
            f"can't read {path} to store it as {shown(key)}: {error.strerror or error}; "
            "check the path and its permissions"
        ) from error
    if changed:
        raise StoreError(f"{path} changed while it was stored as {shown(key)}: store it again")


def _write_synced(part: Path, chunks: Iterable[bytes]) -> None:
    with part.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


class _Taken(Exception):
    """There is a blob under the key already."""


def _link(part: Path, path: Path) -> None:
    """Unlike a rename, fail where there is a file."""
    try:
        os.link(part, path)
    except FileExistsError as error:
        if path.is_dir():
            raise
        raise _Taken from error


def _move(part: Path, path: Path, place: Callable[[Path, Path], object]) -> None:
    for tries_left in reversed(range(10)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            place(part, path)
            break
        except (FileNotFoundError, FileExistsError):
            # A delete in another process took the empty folder meanwhile, which mkdir can also
            # report as FileExistsError (it looks again, and finds no folder).
            if not tries_left:
                raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Without it a power cut can undo the rename. Best effort: the blob itself is on disk, some
    # file systems refuse to sync a folder, and a delete may just have taken it.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


if TYPE_CHECKING:
    from treadle.ports import ObjectStore

    _: ObjectStore = DirectoryStore(Path())
