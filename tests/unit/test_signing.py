"""Bundles are signed, and what isn't is refused where a key is set."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registries import stored_bundle
from treadle import bundle as bundles
from treadle import signing
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle
from treadle.errors import ModelError, SpecError

OURS, OTHERS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def test_a_signed_bundle_opens_and_is_the_same_to_those_without_a_key(
    store: DirectoryStore, tmp_path: Path
) -> None:
    made = stored_bundle(tmp_path / "made", store, 2.0)
    bundles.store_bundle(made, store, OURS)
    for key in (OURS.public_key(), None):
        assert Bundle.fetch(made.digest, store, verify_key=key).digest == made.digest


def test_a_bundle_without_the_right_signature_is_refused(
    store: DirectoryStore, tmp_path: Path
) -> None:
    made = stored_bundle(tmp_path / "made", store, 2.0)
    key = OURS.public_key()
    with pytest.raises(ModelError, match="isn't signed, and TREADLE_VERIFY_KEY"):
        Bundle.fetch(made.digest, store, verify_key=key)
    bundles.store_bundle(made, store, OTHERS)
    with pytest.raises(ModelError, match="isn't signed with the key"):
        Bundle.fetch(made.digest, store, verify_key=key)
    other = stored_bundle(tmp_path / "other", store, 3.0)
    bundles.store_bundle(other, store, OURS)
    moved = store.get_bytes(bundles.key(other.digest, signing.FILE))
    for wrong in (moved, b"", b"no base64!", moved[:-8]):
        store.put_bytes(bundles.key(made.digest, signing.FILE), wrong)
        with pytest.raises(ModelError, match="isn't signed with the key"):
            Bundle.fetch(made.digest, store, verify_key=key)


def test_what_is_signed_is_text_that_anyone_can_write(
    store: DirectoryStore, tmp_path: Path
) -> None:
    made = stored_bundle(tmp_path / "made", store, 2.0)
    names = sorted(made.files)
    sums = subprocess.run(["sha256sum", *names], cwd=tmp_path / "made", capture_output=True,
                          text=True, check=True).stdout.split()[::2]  # fmt: skip
    lines = [f"{name} {digest}" for name, digest in zip(names, sums, strict=True)]
    assert signing.statement(made.files).decode() == "\n".join(["treadle bundle 1", *lines, ""])


def test_keys_come_from_openssl_as_a_file_or_as_text(tmp_path: Path) -> None:
    private, public = tmp_path / "treadle.key", tmp_path / "treadle.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    for words in (str(private), private.read_text()):
        found = signing.private_key(words).public_key()
        for other in (str(public), public.read_text()):
            assert found == signing.public_key(other)


def test_what_is_no_key_is_said_without_showing_it(tmp_path: Path) -> None:
    rsa = tmp_path / "rsa.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", rsa], check=True,
                   capture_output=True)  # fmt: skip
    pem = rsa.read_text()
    for words in (pem, str(rsa), "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"):
        with pytest.raises(SpecError, match="openssl genpkey -algorithm ed25519") as told:
            signing.private_key(words)
        assert "SECRET" not in str(told.value)
    for words in ("nowhere.pem", "x" * 9999, "a\0b"):
        with pytest.raises(SpecError, match="TREADLE_VERIFY_KEY is neither PEM nor a file"):
            signing.public_key(words)
