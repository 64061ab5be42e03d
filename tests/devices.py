"""What tests of the edge share: a store that says who the champion is, and a device that follows
it."""

import json
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registries import new_version, stored_bundle
from treadle import signing
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle, store_bundle
from treadle.deployment import announcement
from treadle.ports import ObjectStore
from treadle.records import ModelVersion
from treadle_edge.device import Device
from treadle_edge.settings import Settings

MODEL = "slope"


def pem(key: Ed25519PrivateKey) -> str:
    """The public half, as a device is told."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def published(
    store: ObjectStore, bundle: Bundle, number: int, key: Ed25519PrivateKey | None = None
) -> None:
    """Make a bundle the champion, by change ``number``."""
    if key is not None:
        store_bundle(bundle, store, key)
    new = new_version(MODEL, f"1.{number}.0", bundle.digest)
    version = ModelVersion(**dict(new), version=number, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    told = announcement.told(version, bundle, number, key)
    store.put_bytes(signing.champion_key(MODEL), told)


def sloped(store: ObjectStore, folder: Path, slope: float) -> Bundle:
    """A bundle that answers ``slope`` times x, in the store."""
    return stored_bundle(folder / f"made {slope}", store, slope)


def device(root: Path, source: str, key: Ed25519PrivateKey | None = None) -> Device:
    """A device that has no model yet."""
    (root / "models").mkdir(parents=True)
    told = {"model": MODEL, "source": source, "verify_key": pem(key) if key else None}
    (root / "edge.json").write_text(json.dumps(told), encoding="utf-8")
    return Device(root)


def followed(store: DirectoryStore, folder: Path, slope: float = 2.0) -> tuple[Device, Bundle]:
    """A device that has followed a first champion."""
    from treadle_edge import updating

    first = sloped(store, folder, slope)
    published(store, first, 1)
    made = device(folder / "device", str(folder / "objects"))
    assert updating.update(made, Settings.read(made.root))["installed"]
    return made, first
