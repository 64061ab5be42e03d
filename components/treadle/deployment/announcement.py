"""Tell those who follow a champion without a registry, as edge devices do: a small file in the
object store, ``champions/<model>.json``, signed where there is a key."""

import json
from typing import TYPE_CHECKING, Any

from treadle import signing
from treadle.bundle import Bundle
from treadle.deployment.promotion import CHAMPION, Fetch
from treadle.errors import StoreError
from treadle.ports import ObjectStore, Registry
from treadle.records import ModelVersion

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def announce(
    model: str,
    registry: Registry,
    store: ObjectStore,
    fetch: Fetch,
    key: "Ed25519PrivateKey | None",
) -> None:
    """Write who the champion of a model is, if that isn't said already. Others may change it
    meanwhile: whoever comes last writes what is true then. Raises StoreError."""
    place = signing.champion_key(model)
    try:
        written = store.get_bytes(place) if store.exists(place) else None
        while (current := _current(model, registry, fetch, key)) != written:
            store.put_bytes(place, current)
            written = current
    except StoreError as error:
        raise StoreError(
            f"{error}; the registry knows the champion of {model}, but edge devices weren't told: "
            f"treadle promote {model} VERSION with that version tells them"
        ) from error


def _current(
    model: str, registry: Registry, fetch: Fetch, key: "Ed25519PrivateKey | None"
) -> bytes:
    # The history first: a change that comes in between is seen when this is asked again.
    changes = len(registry.history(model))
    champion = registry.aliased(model, CHAMPION)
    if champion is None:
        return _signed({"model": model, "change": changes}, key)
    return told(champion, fetch(champion.digest), changes, key)


def told(
    version: ModelVersion, bundle: Bundle, changes: int, key: "Ed25519PrivateKey | None"
) -> bytes:
    """Return what is said of a version. ``changes`` is how often the model's champion has changed
    until then."""
    files = {
        name: {"sha256": signing.sha256_of(path), "size_bytes": path.stat().st_size}
        for name, path in sorted(bundle.files.items())
    }
    return _signed(
        {
            "model": version.name,
            "version": version.version,
            "semver": version.semver,
            "digest": version.digest,
            "change": changes,
            "files": files,
        },
        key,
    )


def _signed(content: dict[str, Any], key: "Ed25519PrivateKey | None") -> bytes:
    whole = {**dict.fromkeys(signing.CHAMPION_FIELDS), **content}
    if key is not None:
        statement = signing.champion_statement(whole)
        whole["signature"] = signing.sign_text(statement, key).decode()
    return json.dumps(whole, indent=1).encode()
