"""All that is kept goes into one file, and comes back into any registry and store as it was, or not
at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registries import Addressed, changed, new_version, stored_bundle
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.deployment import promotion
from treadle.errors import ModelError, RegistryError, StoreError, TreadleError
from treadle.ports import Registry
from treadle.records import ModelVersion
from treadle.registry.backup import Kept, backup, restore

OURS, OTHERS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
Change = Callable[[dict[str, bytes]], None]
MODEL = "größen"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def lived(
    embedded: SqliteMlflowRegistry, store: DirectoryStore, tmp_path: Path
) -> SqliteMlflowRegistry:
    """A registry after some life: versions 1, 2 and 4 (3 was deleted with MLflow's own tools),
    promotions, a rollback, a challenger, and another model that never had a champion."""
    for n, number in enumerate((1, 2, 4), start=1):
        bundle = stored_bundle(tmp_path / f"made-{n}", store, float(n))
        new = new_version(MODEL, f"1.{n}.0", bundle.digest)
        store.put_bytes(f"pages/{n}.html", f"<p>größer {n}</p>".encode())
        lineage = new.lineage.model_copy(update={"pages": {"report.html": f"pages/{n}.html"}})
        embedded.register(new.model_copy(update={"lineage": lineage}), {}, number=number)
    other = stored_bundle(tmp_path / "other", store, 9.0)
    embedded.register(new_version("other", "1.0.0", other.digest), {})
    fetch = partial(Bundle.fetch, store=store, verify_key=None)
    oldest_first = sorted(embedded.versions(MODEL), key=lambda version: version.version)
    for version in oldest_first[:2]:
        promotion.promote(version, embedded, fetch, "ada", "it's better")
    promotion.rollback(MODEL, embedded, fetch, "bob", "zu viele Beschwerden")
    embedded.set_alias(MODEL, "challenger", 4)
    store.put_bytes("log/2026/rows.parquet", os.urandom(2_000_000))
    store.put_bytes("searches/under-way/task.json", b"{}")
    return embedded


@pytest.fixture
def taken(lived: SqliteMlflowRegistry, store: DirectoryStore, tmp_path: Path) -> Path:
    out = tmp_path / "all.tar"
    kept = backup(lived, store, {"TREADLE_S3_REGION": "eu-1"}, out, OURS)
    assert (kept.models, kept.versions) == (2, 4)
    return out


def known(version: ModelVersion) -> ModelVersion:
    """A version but for where it lies."""
    return version.model_copy(update={"source": "", "registered_at": None})


def test_everything_comes_back_under_its_own_number_with_its_history(
    registry: Registry, taken: Path, lived: Registry, store: DirectoryStore, tmp_path: Path
) -> None:
    there = Addressed(tmp_path / "there")
    added = restore(taken, registry, there, OURS.public_key())
    assert (added.models, added.versions) == (2, 4)
    assert added.settings == {"TREADLE_S3_REGION": "eu-1"}
    for name in (MODEL, "other"):
        assert [known(v) for v in registry.versions(name)] == [
            known(v) for v in lived.versions(name)
        ]
        assert registry.history(name) == lived.history(name)
    assert dict(registry.aliases()[MODEL]) == {"champion": 1, "challenger": 4}
    lasting = [key for key in store.keys("") if key != "searches/under-way/task.json"]
    assert list(there.keys("")) == lasting
    assert all(there.get_bytes(key) == store.get_bytes(key) for key in lasting)
    champion = registry.aliased(MODEL, "champion")
    assert champion is not None
    assert champion.source == there.uri(f"bundles/{champion.digest}")
    Bundle.fetch(champion.digest, there, verify_key=None).prove()
    again = restore(taken, registry, there, None)
    assert (again.versions, again.objects) == (0, 0)


def test_a_restored_registry_goes_on(
    taken: Path, blank: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    there = DirectoryStore(tmp_path / "there")
    restore(taken, blank, there, None)
    fetch = partial(Bundle.fetch, store=there, verify_key=None)
    done = promotion.promote(blank.versions(MODEL)[0], blank, fetch, "eve", "")
    assert done is not None
    assert (done.from_version, done.to_version) == (1, 4)
    made = blank.register(new_version(MODEL, "2.0.0"), {})
    assert made.version == 5
    # What has gone further than the backup is not taken back by it.
    with pytest.raises(RegistryError, match=f"{MODEL} version 5 .*isn't in the backup; nothing"):
        restore(taken, blank, there, None)
    assert len(blank.versions(MODEL)) == 4


@pytest.fixture
def blank(tmp_path: Path, blank_database: Path) -> SqliteMlflowRegistry:
    """Another registry, with nothing in it."""
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "mlflow.db").write_bytes(blank_database.read_bytes())
    return SqliteMlflowRegistry(tmp_path / "blank" / "mlflow.db", tmp_path / "blank" / "files")


def test_what_is_there_with_another_content_is_left_alone(
    taken: Path, blank: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    there = DirectoryStore(tmp_path / "there")
    there.put_bytes("pages/2.html", b"ours")
    with pytest.raises(RegistryError, match=r"pages/2\.html is there already and isn't what the"):
        restore(taken, blank, there, None)
    assert list(there.keys()) == ["pages/2.html"]
    assert not blank.names()


def test_a_restore_that_is_killed_goes_on_where_it_is_run_again(
    taken: Path, blank: SqliteMlflowRegistry, lived: Registry, tmp_path: Path
) -> None:
    """Killed before each of its changes in turn: what there is then is never half a version, and
    the next restore ends as if nothing had happened."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from treadle.adapters.filesystem import DirectoryStore\n"
        "from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry\n"
        "from treadle.registry.backup import restore\n"
        "left = [int(sys.argv[1])]\n"
        "def dying(kind, name):\n"
        "    real = getattr(kind, name)\n"
        "    def called(*args, **named):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return real(*args, **named)\n"
        "    setattr(kind, name, called)\n"
        "dying(DirectoryStore, 'put_file')\n"
        "for name in ('register', 'change_champion', 'set_alias'):\n"
        "    dying(SqliteMlflowRegistry, name)\n"
        "home = Path(sys.argv[2])\n"
        "registry = SqliteMlflowRegistry(home / 'mlflow.db', home / 'files')\n"
        "restore(Path(sys.argv[3]), registry, DirectoryStore(home / 'objects'), None)\n"
    )
    home, ends = tmp_path / "blank", []
    for after in (0, 3, 20, 3, 1, 1, 2, 100):
        done = subprocess.run([sys.executable, "-c", code, str(after), str(home), str(taken)])
        ends.append(done.returncode)
        for name in blank.names():
            for version in blank.versions(name):
                Bundle.fetch(version.digest, DirectoryStore(home / "objects"), verify_key=None)
    assert set(ends[:3]) == {-signal.SIGKILL}
    assert ends[-1] == 0
    assert blank.history(MODEL) == lived.history(MODEL)
    assert blank.aliases() == lived.aliases()


def newer(members: dict[str, bytes]) -> None:
    members["backup.json"] = json.dumps({"format": 2, "all": "else"}).encode()


def later(members: dict[str, bytes]) -> None:
    members["backup.json"] = members["backup.json"].replace(b"eu-1", b"eu-2")


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (newer, None, "has format 2, and this Treadle reads up to 1: a newer one"),
        (later, OURS, "isn't signed with the key in TREADLE_VERIFY_KEY"),
        (lambda members: None, OTHERS, "isn't signed with the key in TREADLE_VERIFY_KEY"),
        (lambda m: m.update({"objects/pages/1.html": b"{}"}), None, "altered: objects/pages/1.htm"),
        (lambda m: m.update({"models/other.json": b"{}"}), None, "altered: models/other.json"),
        (lambda m: m.pop("objects/pages/1.html"), None, "pages/1.html isn't in it any more"),
        (lambda m: m.pop("backup.json"), None, "no backup.json at its end: it was cut short"),
        (lambda m: m.update({"backup.json": b"{}"}), None, "can't be read: was it altered"),
    ],
)
def test_what_is_not_as_it_was_is_refused_whole(
    change: Change, key: Ed25519PrivateKey | None, words: str, taken: Path,
    blank: SqliteMlflowRegistry, tmp_path: Path,
) -> None:  # fmt: skip
    there = DirectoryStore(tmp_path / "there")
    verify = key.public_key() if key else None
    with pytest.raises((RegistryError, ModelError), match=words):
        restore(changed(taken, change), blank, there, verify)
    assert not list(there.keys())
    assert not blank.names()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.99])
def test_a_backup_that_was_cut_short_is_refused(
    share: float, taken: Path, blank: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    os.truncate(taken, int(taken.stat().st_size * share))
    with pytest.raises(RegistryError, match=r"no whole backup|no backup\.json at its end"):
        restore(taken, blank, DirectoryStore(tmp_path / "there"), None)
    assert not blank.names()


@pytest.mark.parametrize("name", ["nothing.tar", "."])
def test_a_file_that_is_none_is_said(
    name: str, blank: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match=r"there is no file|is a directory: name the file"):
        restore(tmp_path / name, blank, DirectoryStore(tmp_path / "there"), None)


def test_a_store_that_belongs_to_another_registry_is_no_backup(
    lived: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    out = tmp_path / "all.tar"
    with pytest.raises(RegistryError, match="isn't in the object store: name the store that"):
        backup(lived, DirectoryStore(tmp_path / "empty"), {}, out, None)
    assert not list(tmp_path.glob("*.tar"))


def test_a_backup_that_fails_leaves_the_former_one(
    lived: SqliteMlflowRegistry, taken: Path, tmp_path: Path
) -> None:
    former = taken.read_bytes()

    class Dead(DirectoryStore):
        def local(self, key: str) -> Path:
            raise StoreError("the object store doesn't answer")

    with pytest.raises(TreadleError, match="doesn't answer"):
        backup(lived, Dead(tmp_path / "objects"), {}, taken, None)
    assert taken.read_bytes() == former
    assert [path.name for path in tmp_path.glob("*all*")] == ["all.tar"]


def test_what_changes_while_a_backup_is_taken_is_in_it_whole_or_not_at_all(
    lived: SqliteMlflowRegistry, store: DirectoryStore, blank: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    fetch = partial(Bundle.fetch, store=store, verify_key=None)

    class Busy(SqliteMlflowRegistry):
        """Somebody promotes between any two questions, three times."""

        times = 3

        def versions(self, name: str) -> list[ModelVersion]:  # type: ignore[override]
            found = list(super().versions(name))
            if self.times and name == MODEL:
                self.times -= 1
                promotion.promote(found[self.times % 2], lived, fetch, "eve", "meanwhile")
            return found

    busy = Busy(tmp_path / "mlflow.db", tmp_path / "artifacts")
    kept: Kept = backup(busy, store, {}, tmp_path / "all.tar", None)
    assert kept.taken_at <= datetime.now(UTC)
    restore(tmp_path / "all.tar", blank, DirectoryStore(tmp_path / "there"), None)
    assert blank.history(MODEL) == lived.history(MODEL)
    assert blank.aliases()[MODEL]["champion"] == lived.history(MODEL)[-1].to_version
