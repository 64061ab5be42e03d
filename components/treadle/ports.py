"""What the stages need from the outside world; ``treadle.adapters`` provides it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from treadle.records import Change, ModelVersion, NewVersion, Query, SourceFile, Training


class ObjectStore(Protocol):
    """Named blobs. Keys are relative POSIX paths; a blob appears whole or not at all."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``, replacing what was there."""

    def create(self, key: str, data: bytes) -> bool:
        """Store ``data`` under ``key`` where there is nothing yet, and say whether it was: of
        several who try at once, one succeeds."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path`` under ``key``, replacing what was there."""

    def get_bytes(self, key: str) -> bytes:
        """Return the blob. Raises StoreError where there is none."""

    def local(self, key: str) -> Path:
        """Return a path at which the blob can be read (a cached copy where the store is
        remote). Never write to it. Raises StoreError where there is none."""

    def exists(self, key: str) -> bool:
        """Say whether there is a blob under ``key``."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with ``prefix``, in order."""

    def delete(self, key: str) -> None:
        """Remove the blob; no error where there is none."""

    def uri(self, key: str) -> str:
        """Return the address under which other tools find the blob."""


class Outside(Protocol):
    """What lies beyond this machine: files by their address, and who asks for them."""

    @property
    def password(self) -> str | None:
        """The password of databases whose address names a user alone."""

    def found(self, address: str) -> Sequence[SourceFile]:
        """Return the files that an address or a pattern names, sorted. Raises DataError for none,
        StoreError where it can't be asked."""

    def fetched(self, file: SourceFile, folder: Path) -> Path:
        """Return a local copy, in ``folder`` if there is none yet."""


class Registry(Protocol):
    """Model versions and the aliases that point at them."""

    def names(self) -> Sequence[str]:
        """Return the names of all models, sorted."""

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Return the aliases of every model: model to alias to version. One question, however many
        models there are: the model server asks it every second."""

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first. Raises RegistryError for an unknown
        name."""

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that carries ``alias``, or None (also for an unknown name)."""

    def register(
        self,
        new: NewVersion,
        files: Mapping[str, Path],
        number: int | None = None,
        training: Training | None = None,
    ) -> ModelVersion:
        """Add a version under the next number, or under ``number``, which must not be lower: then
        those in between stay without a version. ``files`` (name to path) are shown beside it, and
        the trials of ``training`` as runs nested under its own. All or nothing."""

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point ``alias`` at a version, taking it from whichever had it."""

    def remove_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away; no error where there is none."""

    def history(self, name: str) -> Sequence[Change]:
        """Return the changes of a model's champion, oldest first. Raises RegistryError for an
        unknown name."""

    def change_champion(self, name: str, change: Change, position: int) -> None:
        """Append ``change`` to the history as its entry number ``position`` (from 0) and point
        ``champion`` where it says, ``challenger`` no longer there. Both or nothing: at each moment
        there is one champion, and none only where the change says so. Raises Overtaken where the
        history has an entry of that number already, RegistryError for an unknown version."""

    def find(self, wanted: Query, limit: int, offset: int = 0) -> Sequence[ModelVersion]:
        """Return up to ``limit`` versions for which all of ``wanted`` holds, by name, newest first,
        leaving out the first ``offset``."""

    def of_snapshot(self, digest: str) -> Sequence[ModelVersion]:
        """Return every version of any model that was made from a snapshot, by name, newest
        first."""
