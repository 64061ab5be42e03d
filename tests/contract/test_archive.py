"""A version goes from one registry to another in a file, and arrives as it was or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registries import Addressed, changed, new_version, stored_bundle
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.errors import ModelError, RegistryError, TreadleError
from treadle.ports import Registry
from treadle.records import ModelVersion, NewVersion
from treadle.registry import archive

OURS, OTHERS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
Change = Callable[[dict[str, bytes]], None]


@pytest.fixture
def version(embedded: SqliteMlflowRegistry, store: DirectoryStore, tmp_path: Path) -> ModelVersion:
    bundle = stored_bundle(tmp_path / "made", store, 2.0)
    new = new_version("carried", "1.2.0", bundle.digest)
    store.put_bytes("pages/a.html", "<p>größer</p>".encode())
    store.put_bytes("environments/e.txt", b"treadle==0.1\n")
    kept = {"pages": {"a.html": "pages/a.html"}, "environment": "environments/e.txt"}
    lineage = new.lineage.model_copy(update=kept)
    return embedded.register(new.model_copy(update={"lineage": lineage}), {})


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def packed(version: ModelVersion, store: DirectoryStore, tmp_path: Path) -> Path:
    out = tmp_path / "carried.tar"
    bundle = Bundle.fetch(version.digest, store, verify_key=None)
    archive.pack(version, bundle, store, out, OURS)
    return out


def test_what_arrives_is_what_was_sent(
    registry: Registry, packed: Path, version: ModelVersion, tmp_path: Path
) -> None:
    there = Addressed(tmp_path / "there")
    arrived = archive.unpack(packed, there, registry, None, OURS.public_key())
    wanted = NewVersion(**{n: getattr(version, n) for n in NewVersion.model_fields})
    found = NewVersion(**{n: getattr(arrived, n) for n in NewVersion.model_fields})
    assert found == wanted.model_copy(update={"source": there.uri(f"bundles/{version.digest}")})
    Bundle.fetch(version.digest, there, verify_key=None).prove()
    assert there.get_bytes("pages/a.html").decode() == "<p>größer</p>"
    assert there.get_bytes("environments/e.txt") == b"treadle==0.1\n"
    again = archive.unpack(packed, there, registry, None, None)
    assert again.version == arrived.version
    assert len(registry.versions("carried")) == 1


def newer(members: dict[str, bytes]) -> None:
    told = json.loads(members["treadle.json"])
    members["treadle.json"] = json.dumps({"format": 2, "content": told, "files": []}).encode()


def other_metrics(members: dict[str, bytes]) -> None:
    members["treadle.json"] = members["treadle.json"].replace(b"0.8", b"0.9")


def other_name(members: dict[str, bytes]) -> None:
    told = json.loads(members["treadle.json"])
    told["files"]["../../escaped"] = "0" * 64
    members["treadle.json"] = json.dumps(told).encode()


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (newer, None, "has format 2, and this Treadle reads up to 1: a newer one"),
        (other_name, None, "names a file that no version has: '../../escaped'"),
        (other_metrics, OURS, "isn't signed with the key in TREADLE_VERIFY_KEY"),
        (lambda members: None, OTHERS, "isn't signed with the key in TREADLE_VERIFY_KEY"),
        (lambda members: members.pop("treadle.json.sig"), OURS, "isn't signed with the key"),
        (lambda m: m.update({"bundle/golden.json": b"{}"}), None, "altered: bundle/golden.json"),
        (lambda members: members.pop("bundle/model.onnx"), None, "no whole archive"),
        (lambda members: members.pop("treadle.json"), None, "treadle pack writes one"),
        (lambda m: m.update({"treadle.json": b"{}"}), None, "can't be read: was it altered"),
    ],
)
def test_what_is_not_as_it_was_is_refused_and_changes_nothing(
    embedded: SqliteMlflowRegistry,
    packed: Path,
    tmp_path: Path,
    change: Change,
    key: Ed25519PrivateKey | None,
    words: str,
) -> None:
    there = DirectoryStore(tmp_path / "there")
    public = key.public_key() if key else None
    with pytest.raises((RegistryError, ModelError)) as told:
        archive.unpack(changed(packed, change), there, embedded, None, public)
    assert words in str(told.value)
    assert list(there.keys()) == []
    assert len(embedded.versions("carried")) == 1


def test_a_file_that_is_cut_short_or_is_something_else_is_refused(
    embedded: SqliteMlflowRegistry, packed: Path, tmp_path: Path
) -> None:
    there = DirectoryStore(tmp_path / "there")
    whole = packed.read_bytes()
    for content in (whole.rstrip(b"\0")[:-1500], whole[:700], b"", b"garbage" * 300):
        packed.write_bytes(content)
        with pytest.raises(TreadleError, match=r"carried\.tar"):
            archive.unpack(packed, there, embedded, None, None)
    with pytest.raises(RegistryError, match="there is no file"):
        archive.unpack(tmp_path / "nowhere.tar", there, embedded, None, None)
    assert list(there.keys()) == []


def test_the_same_version_makes_the_same_archive(
    packed: Path, version: ModelVersion, store: DirectoryStore, tmp_path: Path
) -> None:
    first = packed.read_bytes()
    bundle = Bundle.fetch(version.digest, store, verify_key=None)
    archive.pack(version, bundle, store, packed, OURS)
    assert packed.read_bytes() == first
