"""A version in one file, to be carried to another registry: its record, its bundle, the report's
pages and the environment's lock. The rows it was trained on stay where they are.

    treadle.json           what there is: Contents, with the SHA-256 of every other file
    treadle.json.sig       its signature, where a key is set
    bundle/..., pages/..., environment.txt
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import ValidationError

from treadle import bundle as bundles
from treadle import signing
from treadle.bundle import Bundle
from treadle.errors import ModelError, RegistryError
from treadle.ports import ObjectStore, Registry
from treadle.records import ModelVersion, NewVersion, Record
from treadle.writing import written_aside

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

Told = TypeVar("Told", bound=Record)
FORMAT = 1
CONTENTS, SIGNED = "treadle.json", "treadle.json.sig"
ENVIRONMENT = "environment.txt"


class Contents(Record):
    """What an archive holds: ``files`` is name to SHA-256."""

    format: int
    files: dict[str, str]
    version: NewVersion


class _Format(Record, extra="ignore"):
    """All that every format has: its number."""

    format: int


def pack(
    version: ModelVersion,
    bundle: Bundle,
    store: ObjectStore,
    out: Path,
    signing_key: "Ed25519PrivateKey | None",
) -> None:
    """Write a version to the file ``out``, whole or not at all."""
    files = {f"bundle/{name}": path for name, path in bundle.files.items()}
    files |= {f"pages/{name}": store.local(key) for name, key in version.lineage.pages.items()}
    if version.lineage.environment:
        files[ENVIRONMENT] = store.local(version.lineage.environment)
    record = NewVersion(**{name: getattr(version, name) for name in NewVersion.model_fields})
    hashes = {name: sha256(path) for name, path in files.items()}
    contents = Contents(format=FORMAT, files=hashes, version=record).model_dump_json(indent=1)
    with TemporaryDirectory(prefix="treadle-") as scratch, written_aside(out) as aside:
        told = Path(scratch) / CONTENTS
        told.write_text(contents, encoding="utf-8")
        members = {CONTENTS: told}
        if signing_key is not None:
            members[SIGNED] = Path(scratch) / SIGNED
            members[SIGNED].write_bytes(signing.sign_text(told.read_bytes(), signing_key))
        with tarfile.open(aside, "w") as tar:
            for name, path in (members | files).items():
                tar.add(path.resolve(), name, recursive=False, filter=plain)


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose file it was and when: the same version makes the same archive."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def unpack(
    path: Path,
    store: ObjectStore,
    registry: Registry,
    signing_key: "Ed25519PrivateKey | None",
    verify_key: "Ed25519PublicKey | None",
) -> ModelVersion:
    """Check an archive and register its version; one that is there already is returned as it is.

    Raises RegistryError, and changes nothing, where the file is no archive, isn't whole, was
    altered or comes from a newer Treadle; ModelError where its bundle isn't what it says or lacks
    the signature that is asked for.
    """
    with TemporaryDirectory(prefix="treadle-") as scratch:
        contents = _extract(path, Path(scratch), verify_key)
        files = {name: Path(scratch) / name for name in contents.files}
        inside = _within(files, "bundle/")
        if bundles.SIGNATURE not in inside or signing.digest_of(inside) != contents.version.digest:
            raise ModelError(f"{path}: its bundle isn't {contents.version.digest}, as it says")
        bundle = Bundle(inside)
        bundle.prove()
        return _register(contents.version, bundle, files, store, registry, signing_key)


def _register(
    new: NewVersion,
    bundle: Bundle,
    files: Mapping[str, Path],
    store: ObjectStore,
    registry: Registry,
    signing_key: "Ed25519PrivateKey | None",
) -> ModelVersion:
    source = bundles.store_bundle(bundle, store, signing_key)
    former = registry.versions(new.name) if new.name in registry.names() else []
    for version in former:
        if (version.digest, version.lineage) == (new.digest, new.lineage):
            return version
    pages = _within(files, "pages/")
    for name, page in pages.items():
        store.put_file(new.lineage.pages[name], page)
    if new.lineage.environment and ENVIRONMENT in files:
        store.put_file(new.lineage.environment, files[ENVIRONMENT])
    return registry.register(new.model_copy(update={"source": source}), pages)


def _within(files: Mapping[str, Path], folder: str) -> dict[str, Path]:
    return {name.removeprefix(folder): p for name, p in files.items() if name.startswith(folder)}


def _extract(path: Path, place: Path, verify_key: "Ed25519PublicKey | None") -> Contents:
    """Take out what the contents name, and nothing else, each under its own name."""
    try:
        with tarfile.open(path) as tar:
            raw = read(tar, CONTENTS)
            contents = _contents(path, raw)
            if verify_key is not None:
                _check_signature(path, tar, raw, verify_key)
            for name, wanted in contents.files.items():
                data = read(tar, name)
                if hashlib.sha256(data).hexdigest() != wanted:
                    raise RegistryError(f"{path} was altered: {name} isn't what it was")
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
    except FileNotFoundError as error:
        raise RegistryError(f"there is no file {path}") from error
    except (KeyError, EOFError, tarfile.TarError) as error:
        raise RegistryError(
            f"{path} is no whole archive of a model version ({error}): treadle pack writes one"
        ) from error
    return contents


def _contents(path: Path, raw: bytes) -> Contents:
    contents = parsed(path, Contents, raw, FORMAT)
    expected = {f"bundle/{name}" for name in bundles.FILES} | {ENVIRONMENT}
    expected |= {f"pages/{name}" for name in contents.version.lineage.pages}
    for name in contents.files:
        if name not in expected or ".." in Path(name).parts:
            raise RegistryError(f"{path} names a file that no version has: {name!r}")
    return contents


def parsed(path: Path, kind: type[Told], raw: bytes, known: int) -> Told:
    """Parse what an archive says it holds. Raises RegistryError where its format is newer than
    ``known``, or it can't be read."""
    try:
        if (found := _Format.model_validate_json(raw).format) > known:
            raise RegistryError(
                f"{path} has format {found}, and this Treadle reads up to {known}: a newer one "
                "has written it; install that here"
            )
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise RegistryError(f"{path}: its contents can't be read: was it altered?") from error


def _check_signature(
    path: Path, tar: tarfile.TarFile, raw: bytes, verify_key: "Ed25519PublicKey"
) -> None:
    signature = read(tar, SIGNED) if SIGNED in tar.getnames() else b""
    if not signing.is_signed_text(raw, signature, verify_key):
        raise ModelError(
            f"{path} isn't signed with the key in TREADLE_VERIFY_KEY: pack it where "
            "TREADLE_SIGNING_KEY is set, or take that key away here"
        )


def read(tar: tarfile.TarFile, name: str) -> bytes:
    """Return a member's bytes. Raises KeyError where there is none."""
    with opened(tar, tar.getmember(name)) as content:
        return content.read()


def opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    """Open a member for reading. Raises KeyError where it is no file."""
    content = tar.extractfile(member)
    if content is None:
        raise KeyError(f"{member.name} is no file")
    return cast("io.BufferedReader", content)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
