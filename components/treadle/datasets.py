"""Datasets: the versions of a table, each a list of snapshots. New partitions append a snapshot;
the versions before stay as they are."""

from pydantic import ValidationError

from treadle.errors import DataError, StoreError, nearest
from treadle.ports import ObjectStore
from treadle.records import DatasetVersion

_FOLDER = "datasets"


def names(store: ObjectStore) -> list[str]:
    """Return the datasets' names, sorted."""
    return sorted({key.split("/")[1] for key in store.keys(f"{_FOLDER}/")})


def versions(name: str, store: ObjectStore) -> list[DatasetVersion]:
    """Return a dataset's versions, oldest first; none for an unknown name. The first is version 1.

    Raises StoreError for a record that can't be read.
    """
    found = []
    for key in store.keys(f"{_FOLDER}/{name}/"):
        try:
            found.append(DatasetVersion.model_validate_json(store.get_bytes(key)))
        except ValidationError as error:
            raise StoreError(
                f"{store.uri(key)} is no dataset version: remove it, then run it again"
            ) from error
    return sorted(found, key=lambda version: (version.created_at, version.digest))


def known(name: str, store: ObjectStore) -> list[DatasetVersion]:
    """Return a dataset's versions. Raises DataError, with the nearest name, for an unknown one."""
    found = versions(name, store)
    if not found:
        there = names(store)
        near = nearest(name, there) or (f" (datasets: {', '.join(there)})" if there else "")
        raise DataError(f"there is no dataset {name!r}{near}: treadle run SPEC makes one")
    return found


def add(version: DatasetVersion, store: ObjectStore) -> None:
    """Register a version, unless there is one of the same rows."""
    key = f"{_FOLDER}/{version.dataset}/{version.digest}.json"
    if not store.exists(key):
        store.put_bytes(key, version.model_dump_json(indent=1).encode())
