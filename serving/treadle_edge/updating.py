"""Follow the champion: fetch it, prove it, switch to it. Whatever breaks off in between, what was
there answers on, and the next update goes on from what was fetched."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle import signing
from treadle.errors import ModelError, StoreError
from treadle_edge.device import ASIDE, Device, refused, synced, written
from treadle_edge.model import CHAMPION, ONNX, Damaged, Model, check, is_signed
from treadle_edge.settings import Settings
from treadle_edge.sources import Missing, Source

MOST_TOLD_BYTES = 1 << 20


@dataclass(frozen=True)
class Told:
    """What the object store says of the champion (signing.champion_statement). ``files`` gives the
    SHA-256 and the size of each of the bundle's files."""

    model: str
    version: int
    semver: str
    digest: str
    change: int
    files: dict[str, tuple[str, int]]
    content: bytes


def update(device: Device, settings: Settings, again: bool = False) -> dict[str, Any]:
    """Install the champion, if it is another than what is here; return what was done. ``again``
    tries one that was refused. Raises TreadleError; nothing is changed then."""
    with device.locked("update", wait=False):
        source = Source(settings)
        told = champion(source, settings)
        state = device.state()
        done = {"model": told.model, "version": told.version, "semver": told.semver,
                "digest": told.digest}  # fmt: skip
        if told.change < state.change:
            raise ModelError(
                f"the source's champion of {told.model} is of change {told.change}, and change "
                f"{state.change} was followed here already: it is an old copy, or a replay"
            )
        if told.digest == state.current and is_whole(device.models / told.digest, settings.key):
            if told.change != state.change:
                device.switch(told.digest, told.change)
            device.tidy()  # the power may have gone before
            return {**done, "installed": False}
        if told.digest in state.refused and not again:
            raise ModelError(
                f"{told.model} version {told.version} was refused here: "
                f"{state.refused[told.digest]} (--again tries it once more)"
            )
        install(device, source, told, settings.key)
        device.switch(told.digest, told.change)
        device.tidy()
        return {**done, "installed": True}


def champion(source: Source, settings: Settings) -> Told:
    """Return what the source says of the champion. Raises ModelError where it isn't signed as it
    must be, or there is none."""
    key = signing.champion_key(settings.model)
    try:
        content = source.small(key, MOST_TOLD_BYTES)
    except Missing as error:
        raise StoreError(
            f"{error}; the first promotion of {settings.model} writes it, and treadle export does"
        ) from error
    given = read(content, key, settings)
    if given["version"] is None:
        raise ModelError(f"{settings.model} has no champion: what is here answers on")
    try:
        files = {name: (str(one["sha256"]), int(one["size_bytes"]))
                 for name, one in given["files"].items()}  # fmt: skip
        told = Told(settings.model, int(given["version"]), str(given["semver"]),
                    str(given["digest"]), int(given["change"]), files, content)  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{key} of {settings.source} can't be read: {error!r}") from error
    if ONNX not in files:
        raise ModelError(f"{told.model} version {told.version} has no {ONNX}, so that it can't run "
                         "here: what is here answers on")  # fmt: skip
    if any(name != Path(name).name or name[0] == "." for name in (*files, told.digest)):
        raise ModelError(f"{key} of {settings.source} names files outside of the bundle")
    if signing.digest_of_contents({name: one[0] for name, one in files.items()}) != told.digest:
        raise ModelError(f"{key} of {settings.source} names other files than the bundle's digest")
    return told


def read(content: bytes, key: str, settings: Settings) -> dict[str, Any]:
    """Return what is said of a champion, if the right one says it."""
    try:
        given = json.loads(content)
        text = signing.champion_statement(given)
        signature = str(given.get("signature") or "").encode()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{key} of {settings.source} can't be read: {error!r}") from error
    if settings.key is not None and not is_signed(text, signature, settings.key):
        raise ModelError(f"{key} of {settings.source} isn't signed with verify_key of edge.json: "
                         "it is left alone")  # fmt: skip
    if given["model"] != settings.model:
        raise ModelError(f"{key} of {settings.source} is of {given['model']!r:.80}, not "
                         f"{settings.model!r}")  # fmt: skip
    return dict(given)


def is_whole(directory: Path, key: bytes | None) -> bool:
    """Say whether a bundle's files are those that were put there, signed as they must be."""
    try:
        check(directory, key)
    except ModelError:
        return False
    return True


def install(device: Device, source: Source, told: Told, key: bytes | None) -> None:
    """Bring a bundle under its name, fetched whole and proven. Raises ModelError for one that fails
    its golden rows: it won't be tried again."""
    place = device.models / told.digest
    if not (place.is_dir() and is_whole(place, key)):
        coming = device.models / f"{ASIDE}{told.digest}" / told.digest
        fetch(source, told, coming, key is not None)
        prove(device, told, coming, key)
        if place.exists():  # damaged
            place.rename(device.models / f"{ASIDE}damaged-{told.digest}")
        coming.rename(place)
        synced(device.models)
    else:
        prove(device, told, place, key)


def fetch(source: Source, told: Told, folder: Path, is_signed: bool) -> None:
    """Bring a bundle's files into ``folder``; those that an earlier update brought stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (sha256, size_bytes) in told.files.items():
        path = folder / name
        if not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256):
            key = f"bundles/{told.digest}/{name}"
            written(path, limited(source.chunks(key), size_bytes, key))
    if is_signed:
        try:
            signature = source.small(f"bundles/{told.digest}/{signing.FILE}", MOST_TOLD_BYTES)
        except Missing as error:
            raise ModelError(f"bundle {told.digest} isn't signed, and edge.json has a verify_key: "
                             "it is left alone") from error  # fmt: skip
        written(folder / signing.FILE, [signature])
    written(folder / CHAMPION, [told.content])
    synced(folder)


def limited(chunks: Iterator[bytes], size_bytes: int, key: str) -> Iterator[bytes]:
    """Pass chunks on; raises StoreError where they aren't as long as was said."""
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > size_bytes:
            break
        yield chunk
    if seen != size_bytes:
        raise StoreError(f"{key} broke off or was altered: {seen:,} bytes of {size_bytes:,}; the "
                         "next update fetches it again")  # fmt: skip


def prove(device: Device, told: Told, folder: Path, key: bytes | None) -> None:
    """Answer the golden rows with a bundle."""
    try:
        Model(folder, key).prove()
    except Damaged:
        shutil.rmtree(folder)  # the next update fetches it anew
        raise
    except ModelError as error:
        with device.locked():
            device.note(refused(device.state(), told.digest, str(error)))
        raise ModelError(f"{told.model} version {told.version} is refused, what is here answers "
                         f"on: {error}") from error  # fmt: skip
