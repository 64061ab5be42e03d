"""Signed bundles: an ed25519 signature over the names and SHA-256 digests of a bundle's files; and
over which bundle is a model's champion, for those who follow it without a registry.

The key is PEM, as ``openssl genpkey -algorithm ed25519`` writes it. What is signed is plain text,
so that a browser or an edge device can check it with what it has: the line STATEMENT, then a line
``<name> <sha256>`` for each file, sorted by name, each ended by a newline.

The edge runtime carries this very file: what it calls needs the standard library, nothing else.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.errors import SpecError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

FILE = "bundle.sig"
STATEMENT = "treadle bundle 1"
CHAMPION_STATEMENT = "treadle champion 1"
# What is said of a champion: the last is the number of the change that made it so, by which an old
# copy is told from a newer one.
CHAMPION_FIELDS = ("model", "version", "semver", "digest", "change")


def digest_of(files: Mapping[str, Path]) -> str:
    """Return the digest of named files: 32 hexadecimal digits."""
    return digest_of_contents({name: sha256_of(path) for name, path in files.items()})


def digest_of_contents(contents: Mapping[str, str]) -> str:
    """Return the digest of files whose SHA-256 digests are known."""
    whole = hashlib.sha256()
    for name in sorted(contents):
        whole.update(f"{name}\0{contents[name]}\0".encode())
    return whole.hexdigest()[:32]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file: 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def statement(files: Mapping[str, Path]) -> bytes:
    """Return what is signed."""
    lines = [f"{name} {sha256_of(files[name])}" for name in files]
    return "".join(f"{line}\n" for line in [STATEMENT, *sorted(lines)]).encode()


def champion_key(model: str) -> str:
    """Return the object store's key of what is said of a model's champion."""
    return f"champions/{model}.json"


def champion_statement(told: Mapping[str, object]) -> bytes:
    """Return what is signed of a champion: a line ``<field> <value>`` for each of
    CHAMPION_FIELDS."""
    lines = [CHAMPION_STATEMENT, *(f"{name} {told[name]}" for name in CHAMPION_FIELDS)]
    return "".join(f"{line}\n" for line in lines).encode()


def sign(files: Mapping[str, Path], key: "Ed25519PrivateKey") -> bytes:
    """Return the signature of a bundle's files, in base64."""
    return sign_text(statement(files), key)


def sign_text(text: bytes, key: "Ed25519PrivateKey") -> bytes:
    """Return the signature of a text, in base64."""
    return base64.b64encode(key.sign(text))


def is_signed(files: Mapping[str, Path], signature: bytes, key: "Ed25519PublicKey") -> bool:
    """Say whether ``signature`` is the key's, of exactly these files."""
    return is_signed_text(statement(files), signature, key)


def is_signed_text(text: bytes, signature: bytes, key: "Ed25519PublicKey") -> bool:
    """Say whether ``signature`` is the key's, of exactly this text."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def private_key(words: str) -> "Ed25519PrivateKey":
    """Read the private key from PEM, or from the file of that name. Raises SpecError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _read("TREADLE_SIGNING_KEY", words, lambda pem: load_pem_private_key(pem, None))
    if not isinstance(found, Ed25519PrivateKey):
        raise _not_ed25519("TREADLE_SIGNING_KEY")
    return found


def public_key(words: str) -> "Ed25519PublicKey":
    """Read the public key from PEM, or from the file of that name. Raises SpecError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = _read("TREADLE_VERIFY_KEY", words, load_pem_public_key)
    if not isinstance(found, Ed25519PublicKey):
        raise _not_ed25519("TREADLE_VERIFY_KEY")
    return found


def _read(setting: str, words: str, parse: Callable[[bytes], Any]) -> Any:
    """Parse a key; what is said of a fault never shows the key."""
    from cryptography.exceptions import UnsupportedAlgorithm

    given_here = words.lstrip().startswith("-----BEGIN")
    try:
        pem = words.encode() if given_here else Path(words).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such file"
        raise SpecError(
            f"{setting} is neither PEM nor a file that can be read: {reason}"
        ) from error
    try:
        return parse(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_ed25519(setting) from error


def _not_ed25519(setting: str) -> SpecError:
    kind = "private" if setting.endswith("SIGNING_KEY") else "public"
    command = "openssl genpkey -algorithm ed25519 -out treadle.key"
    if kind == "public":
        command = "openssl pkey -in treadle.key -pubout -out treadle.pub"
    return SpecError(f"{setting} holds no {kind} ed25519 key in PEM: {command} makes one")
