"""Everything that is kept, in one file: every model with its versions, aliases and history, and
every object. It is restored into any registry and object store, of whatever kind.

    models/<name>.json     BackedUpModel
    objects/<key>          the object's bytes
    backup.json            what there is: BackupContents, with the SHA-256 of every other member
    backup.json.sig        its signature, where a key is set

The registry is read first. Objects are put before a version names them and never changed, so all
that a version names is among them, whatever happens while the backup is taken. Searches that are
under way are left out. What there is comes last: a file that was cut short has none.
"""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import Field

from treadle import signing
from treadle.errors import ModelError, RegistryError
from treadle.ports import ObjectStore, Registry
from treadle.records import Change, ModelVersion, NewVersion, Record
from treadle.registry import archive, lineage
from treadle.writing import written_aside

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

FORMAT = 1
CONTENTS, SIGNED = "backup.json", "backup.json.sig"
MODELS, OBJECTS = "models/", "objects/"
# The state of searches that are under way: it goes when they end.
PASSING = "searches/"


class BackedUpModel(Record):
    """A model as the registry had it: versions by their number, history oldest first."""

    name: str
    versions: list[ModelVersion]
    aliases: dict[str, int]
    history: list[Change]


class BackupContents(Record):
    """What a backup holds: ``files`` is member to SHA-256."""

    format: int
    taken_at: datetime
    code: str = Field(description="the Treadle that took it")
    settings: dict[str, str] = Field(description="what was set then, without secrets")
    files: dict[str, str]


@dataclass(frozen=True)
class Kept:
    """What a backup holds, or what a restore added, counted."""

    models: int
    versions: int
    objects: int
    taken_at: datetime
    settings: Mapping[str, str]


def backup(
    registry: Registry,
    store: ObjectStore,
    settings: Mapping[str, str],
    out: Path,
    signing_key: "Ed25519PrivateKey | None",
) -> Kept:
    """Write all of a registry and an object store to the file ``out``, whole or not at all.

    Raises RegistryError where a version's bundle is missing: what can't be served again is no
    backup."""
    taken_at = datetime.now(UTC)
    with (
        TemporaryDirectory(prefix="treadle-") as scratch,
        written_aside(out) as aside,
        tarfile.open(aside, "w") as tar,
    ):
        told = Path(scratch) / "member"
        files: dict[str, str] = {}
        digests: dict[str, str] = {}
        versions = 0
        for name in registry.names():
            model = _read(registry, name)
            versions += len(model.versions)
            digests |= {version.digest: f"{name} {version.version}" for version in model.versions}
            told.write_text(model.model_dump_json(), encoding="utf-8")
            files[f"{MODELS}{name}.json"] = _add(tar, f"{MODELS}{name}.json", told)
        models = len(files)
        for key in store.keys(""):
            if not key.startswith(PASSING):
                files[OBJECTS + key] = _add(tar, OBJECTS + key, store.local(key))
        _check_bundles(digests, files)
        contents = BackupContents(
            format=FORMAT, taken_at=taken_at, code=lineage.code(), settings=dict(settings),
            files=files,
        )  # fmt: skip
        told.write_text(contents.model_dump_json(indent=1), encoding="utf-8")
        _add(tar, CONTENTS, told)
        if signing_key is not None:
            told.write_bytes(signing.sign_text(told.read_bytes(), signing_key))
            _add(tar, SIGNED, told)
    return Kept(models, versions, len(files) - models, taken_at, contents.settings)


def _read(registry: Registry, name: str) -> BackedUpModel:
    """Read a model at one moment: its history didn't change meanwhile."""
    history = registry.history(name)
    while True:
        versions = sorted(registry.versions(name), key=lambda version: version.version)
        before, history = history, registry.history(name)
        if before == history:
            break
    aliases = {alias: version.version for version in versions for alias in version.aliases}
    return BackedUpModel(name=name, versions=versions, aliases=aliases, history=list(history))


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file; return its SHA-256."""
    tar.add(path.resolve(), name, recursive=False, filter=archive.plain)
    return archive.sha256(path)


def _check_bundles(digests: Mapping[str, str], files: Mapping[str, str]) -> None:
    there = {key.split("/")[2] for key in files if key.startswith(f"{OBJECTS}bundles/")}
    for digest, version in digests.items():
        if digest not in there:
            raise RegistryError(
                f"the bundle {digest} of {version} isn't in the object store: name the store that "
                "belongs to this registry in TREADLE_OBJECT_STORE"
            )


def restore(
    path: Path,
    registry: Registry,
    store: ObjectStore,
    verify_key: "Ed25519PublicKey | None",
) -> Kept:
    """Put back what a backup holds: objects first, then versions under their own numbers, history
    and aliases. Broken off, it goes on where it is run again.

    Raises RegistryError, and changes nothing, where the file is no whole backup, was altered or
    comes from a newer Treadle, or where the registry or the store holds something else under the
    same name; ModelError where it lacks the signature that is asked for.
    """
    with _opened(path) as tar:
        contents = _contents(path, tar, verify_key)
        found = _examined(path, tar, contents.files)
        missing = _missing(found, contents.files, store)
        models = [member for name, member in found.items() if name.startswith(MODELS)]
        for member in models:
            _check_beginning(_model(tar, member), registry)
        with TemporaryDirectory(prefix="treadle-") as scratch:
            place = Path(scratch, "object")
            for key, member in missing.items():
                with archive.opened(tar, member) as content, place.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
                store.put_file(key, place)
        added = sum(_put_back(_model(tar, member), registry, store) for member in models)
    return Kept(len(models), added, len(missing), contents.taken_at, contents.settings)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as tar:
            yield tar
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise RegistryError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise RegistryError(f"{path} is a directory: name the file") from error
    except (EOFError, tarfile.TarError) as error:
        raise RegistryError(
            f"{path} is no whole backup ({error}): treadle backup writes one"
        ) from error


def _contents(
    path: Path, tar: tarfile.TarFile, verify_key: "Ed25519PublicKey | None"
) -> BackupContents:
    names = tar.getnames()
    if CONTENTS not in names:
        raise RegistryError(
            f"{path} has no {CONTENTS} at its end: it was cut short, or treadle backup didn't "
            "write it"
        )
    raw = archive.read(tar, CONTENTS)
    if verify_key is not None:
        signature = archive.read(tar, SIGNED) if SIGNED in names else b""
        if not signing.is_signed_text(raw, signature, verify_key):
            raise ModelError(
                f"{path} isn't signed with the key in TREADLE_VERIFY_KEY: take the backup where "
                "TREADLE_SIGNING_KEY is set, or take that key away here"
            )
    return archive.parsed(path, BackupContents, raw, FORMAT)


def _examined(
    path: Path, tar: tarfile.TarFile, files: Mapping[str, str]
) -> dict[str, tarfile.TarInfo]:
    """Hold every member that the contents name against its digest; return them by name."""
    found = {member.name: member for member in tar if member.name in files}
    for name, wanted in files.items():
        if name not in found:
            raise RegistryError(f"{path} was altered: {name} isn't in it any more")
        with archive.opened(tar, found[name]) as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != wanted:
                raise RegistryError(f"{path} was altered: {name} isn't what it was")
    return found


def _missing(
    found: Mapping[str, tarfile.TarInfo], files: Mapping[str, str], store: ObjectStore
) -> dict[str, tarfile.TarInfo]:
    """Return the objects that the store lacks, by key. Raises RegistryError for one that it has
    with another content."""
    there, missing = set(store.keys()), {}
    for name, member in found.items():
        key = name.removeprefix(OBJECTS)
        if not name.startswith(OBJECTS):
            continue
        if key not in there:
            missing[key] = member
        elif archive.sha256(store.local(key)) != files[name]:
            raise RegistryError(
                f"{store.uri(key)} is there already and isn't what the backup has; nothing was "
                "changed: restore into an empty place, with another --home or TREADLE_OBJECT_STORE"
            )
    return missing


def _model(tar: tarfile.TarFile, member: tarfile.TarInfo) -> BackedUpModel:
    with archive.opened(tar, member) as content:
        return BackedUpModel.model_validate_json(content.read())


def _check_beginning(model: BackedUpModel, registry: Registry) -> None:
    """Raise RegistryError unless what the registry has of a model is what the backup begins with:
    restoring goes on, and never takes anything away."""
    if model.name not in registry.names():
        return
    known = {version.version: (version.digest, version.lineage) for version in model.versions}
    for version in registry.versions(model.name):
        if known.get(version.version) != (version.digest, version.lineage):
            raise _another(f"{model.name} version {version.version} (bundle {version.digest})")
    history = registry.history(model.name)
    if list(history) != model.history[: len(history)]:
        raise _another(f"history of {model.name}")


def _another(what: str) -> RegistryError:
    return RegistryError(
        f"the registry's {what} isn't in the backup; nothing was changed: restore into an empty "
        "place, with another --home or TREADLE_MLFLOW_URI"
    )


def _put_back(model: BackedUpModel, registry: Registry, store: ObjectStore) -> int:
    """Register what isn't there, in order; return how many versions were."""
    is_known = model.name in registry.names()
    there = {version.version for version in registry.versions(model.name)} if is_known else set()
    added = [version for version in model.versions if version.version not in there]
    for version in added:
        kept = {name: getattr(version, name) for name in NewVersion.model_fields}
        kept["source"] = store.uri(f"bundles/{version.digest}")
        kept["registered_at"] = version.created_at
        pages = {name: store.local(key) for name, key in version.lineage.pages.items()}
        made = registry.register(NewVersion(**kept), pages, number=version.version)
        if made.version != version.version:
            raise RegistryError(
                f"the registry gave {model.name} version {version.version} the number "
                f"{made.version}: a version of that name was deleted there; restore into an empty "
                "place, with another --home or TREADLE_MLFLOW_URI"
            )
    for position in range(len(registry.history(model.name)), len(model.history)):
        registry.change_champion(model.name, model.history[position], position)
    for alias, number in model.aliases.items():
        carrier = registry.aliased(model.name, alias)
        if carrier is None or carrier.version != number:
            registry.set_alias(model.name, alias, number)
    return len(added)
