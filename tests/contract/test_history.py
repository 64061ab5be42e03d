"""Promotion, rollback and their history, over every registry: at each moment there is one
champion, and the history says how it came to be."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from registries import new_version, stored_bundle
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow import MlflowRegistry
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.deployment import promotion
from treadle.errors import GateRefused, ModelError, Overtaken, RegistryError
from treadle.ports import Registry
from treadle.records import Change, ChangeKind, ModelVersion

Made = Callable[[str], list[ModelVersion]]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def fetch(store: DirectoryStore) -> promotion.Fetch:
    return partial(Bundle.fetch, store=store, verify_key=None)


@pytest.fixture
def made(registry: Registry, store: DirectoryStore, tmp_path: Path) -> Made:
    """Registers three versions of a model, each with a bundle that is there."""

    def make(name: str) -> list[ModelVersion]:
        bundles = [stored_bundle(tmp_path / f"{name}-{n}", store, float(n)) for n in (1, 2, 3)]
        return [
            registry.register(new_version(name, f"1.{n}.0", bundle.digest), {})
            for n, bundle in enumerate(bundles)
        ]

    return make


def champion(registry: Registry, name: str) -> int | None:
    found = registry.aliased(name, "champion")
    return found.version if found else None


def entry(former: int | None, to: int | None, age: timedelta = timedelta(0)) -> Change:
    return Change(
        id=uuid.uuid4().hex, kind=ChangeKind.PROMOTED, from_version=former, to_version=to,
        digest=None, who="ann", why="it's größer", at=datetime.now(UTC) - age,
    )  # fmt: skip


def test_a_promotion_is_written_down_with_who_and_why(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    first, second, _ = made("written")
    registry.set_alias("written", "challenger", 2)
    promotion.promote(first, registry, fetch, "ann", "first try")
    promotion.promote(second, registry, fetch, "bob", "it's größer")
    history = registry.history("written")
    assert [(c.kind.value, c.from_version, c.to_version, c.who, c.why) for c in history] == [
        ("promoted", None, 1, "ann", "first try"),
        ("promoted", 1, 2, "bob", "it's größer"),
    ]
    assert history[1].digest == second.digest
    assert abs((history[1].at - datetime.now(UTC)).total_seconds()) < 60
    assert champion(registry, "written") == 2
    assert registry.aliased("written", "challenger") is None
    assert promotion.promote(second, registry, fetch, "bob", "again") is None
    assert len(registry.history("written")) == 2


def test_rollback_restores_the_former_champion_and_then_the_one_before(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    for version in made("back"):
        promotion.promote(version, registry, fetch, "ann", "")
    for wanted in (2, 1):
        done = promotion.rollback("back", registry, fetch, "ann", "it was worse")
        assert (done.kind, done.to_version) == (ChangeKind.ROLLED_BACK, wanted)
        assert champion(registry, "back") == wanted
    with pytest.raises(RegistryError, match="no former champion"):
        promotion.rollback("back", registry, fetch, "ann", "")
    assert champion(registry, "back") == 1


def test_an_unknown_model_and_version_have_no_history(registry: Registry, made: Made) -> None:
    made("known")
    assert registry.history("known") == []
    with pytest.raises(RegistryError, match="did you mean 'known'"):
        registry.history("knwon")
    with pytest.raises(RegistryError, match="refused"):
        registry.change_champion("known", entry(None, 9), 0)
    assert registry.history("known") == []
    assert champion(registry, "known") is None


def test_of_two_changes_of_the_same_state_one_is_overtaken(registry: Registry, made: Made) -> None:
    made("raced")

    def change(to: int) -> bool:
        try:
            registry.change_champion("raced", entry(None, to), 0)
        except Overtaken as error:
            assert "ann" in str(error)
            return False
        return True

    with ThreadPoolExecutor(3) as threads:
        won = list(threads.map(change, (1, 2, 3)))
    assert won.count(True) == 1
    (written,) = registry.history("raced")
    assert written.to_version == champion(registry, "raced") == won.index(True) + 1


def test_many_at_once_end_with_the_champion_that_the_history_ends_with(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    versions = made("crowded")
    done: list[bool] = []

    def change(turn: int) -> None:
        try:
            promotion.promote(versions[turn % 3], registry, fetch, f"person {turn}", "")
            done.append(True)
        except Overtaken:
            done.append(False)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(change, range(12)))
    assert any(done)
    history = registry.history("crowded")
    assert champion(registry, "crowded") == history[-1].to_version
    for before, after in pairwise(history):
        assert after.from_version == before.to_version


def test_a_champion_that_was_set_elsewhere_is_noticed_and_can_be_rolled_back(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    _, _, third = made("elsewhere")
    registry.change_champion("elsewhere", entry(None, 1, timedelta(hours=1)), 0)
    registry.set_alias("elsewhere", "champion", 2)
    promotion.promote(third, registry, fetch, "ann", "")
    assert [
        (c.kind.value, c.from_version, c.to_version) for c in registry.history("elsewhere")
    ] == [
        ("promoted", None, 1),
        ("noticed", 1, 2),
        ("promoted", 2, 3),
    ]
    assert promotion.rollback("elsewhere", registry, fetch, "ann", "").to_version == 2
    assert promotion.rollback("elsewhere", registry, fetch, "ann", "").to_version == 1


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=1)])
def test_a_change_that_broke_off_before_the_alias_leaves_the_former_champion(
    registry: Registry, fetch: promotion.Fetch, made: Made, age: timedelta
) -> None:
    """As if a process had died between writing the entry and moving the alias."""
    name = f"broken-off-{age.days}-{age.seconds}"
    _, second, _ = made(name)
    registry.change_champion(name, entry(None, 1, timedelta(hours=2)), 0)
    registry.change_champion(name, entry(1, 2, age), 1)
    registry.set_alias(name, "champion", 1)
    if not age:
        with pytest.raises(Overtaken, match="right now"):
            promotion.promote(second, registry, fetch, "bob", "")
        assert champion(registry, name) == 1
        return
    promotion.promote(second, registry, fetch, "bob", "")
    kinds = [change.kind.value for change in registry.history(name)]
    assert kinds == ["promoted", "promoted", "noticed", "promoted"]
    assert champion(registry, name) == 2


def test_a_bundle_that_is_altered_or_missing_is_not_promoted(
    registry: Registry, store: DirectoryStore, fetch: promotion.Fetch, made: Made
) -> None:
    first, second, third = made("damaged")
    promotion.promote(first, registry, fetch, "ann", "")
    store.put_bytes(f"bundles/{second.digest}/reference.json", b"{}")
    for name in ("model.onnx", "signature.json", "reference.json", "golden.json"):
        store.delete(f"bundles/{third.digest}/{name}")
    for version, words in ((second, "altered"), (third, "missing")):
        with pytest.raises(ModelError, match=words):
            promotion.promote(version, registry, fetch, "ann", "")
    assert champion(registry, "damaged") == 1
    assert len(registry.history("damaged")) == 1


def test_a_rollback_to_a_bundle_that_is_gone_changes_nothing(
    registry: Registry, store: DirectoryStore, fetch: promotion.Fetch, made: Made
) -> None:
    first, second, _ = made("gone")
    promotion.promote(first, registry, fetch, "ann", "")
    promotion.promote(second, registry, fetch, "ann", "")
    store.delete(f"bundles/{first.digest}/model.onnx")
    with pytest.raises(ModelError, match=first.digest):
        promotion.rollback("gone", registry, fetch, "ann", "")
    assert champion(registry, "gone") == 2


def test_what_the_gate_refused_is_promoted_only_on_a_persons_word(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    version, _, _ = made("refused")
    no = version.decision.model_copy(update={"passed": False, "reasons": ["it is worse"]})
    refused = version.model_copy(update={"decision": no})
    with pytest.raises(GateRefused, match="it is worse"):
        promotion.promote(refused, registry, fetch, "ann", "")
    assert champion(registry, "refused") is None
    promotion.promote(refused, registry, fetch, "ann", "", override=True)
    assert champion(registry, "refused") == 1


def test_approval_is_asked_for_where_the_spec_says_so(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    version, _, _ = made("approved")
    spec = json.dumps({"name": "approved", "approval": "required"})
    lineage = version.lineage.model_copy(update={"spec": spec})
    asking = version.model_copy(update={"lineage": lineage})
    with pytest.raises(GateRefused, match="treadle approve approved 1"):
        promotion.promote(asking, registry, fetch, "ann", "")
    assert champion(registry, "approved") is None
    promotion.promote(asking, registry, fetch, "ann", "seen", kind=ChangeKind.APPROVED)
    assert champion(registry, "approved") == 1
    (entry,) = registry.history("approved")
    assert (entry.kind, entry.who, entry.why) == (ChangeKind.APPROVED, "ann", "seen")


def test_a_retired_version_never_comes_back(
    registry: Registry, fetch: promotion.Fetch, made: Made
) -> None:
    first, second, third = made("retired")
    for version in (first, second, third):
        promotion.promote(version, registry, fetch, "ann", "")
    with pytest.raises(RegistryError, match="version 3 is the champion"):
        promotion.retire(third, registry, "ann", "why not")
    registry.set_alias("retired", "challenger", 2)
    assert promotion.retire(second, registry, "ann", "wrong labels") is not None
    assert promotion.retire(second, registry, "ann", "again") is None
    assert registry.aliased("retired", "challenger") is None
    with pytest.raises(RegistryError, match="version 2 is retired"):
        promotion.promote(second, registry, fetch, "bob", "")
    assert champion(registry, "retired") == 3
    assert promotion.rollback("retired", registry, fetch, "bob", "").to_version == 1
    assert [c.retired for c in registry.history("retired")] == [None, None, None, 2, None]


def test_versions_are_found_by_their_snapshot(registry: Registry) -> None:
    versions = [new_version(name) for name in ("of-b", "of-a")]
    digest = uuid.uuid4().hex
    for version in versions:
        taken = version.lineage.snapshot.model_copy(update={"digest": digest})
        lineage = version.lineage.model_copy(update={"snapshot": taken})
        for _ in range(2):
            registry.register(version.model_copy(update={"lineage": lineage}), {})
    registry.set_alias("of-a", "champion", 2)
    found = [(v.name, v.version, v.aliases) for v in registry.of_snapshot(digest)]
    assert found == [("of-a", 2, ["champion"]), ("of-a", 1, []), ("of-b", 2, []), ("of-b", 1, [])]
    assert registry.of_snapshot("0" * 32) == []


def test_a_slow_process_does_not_undo_what_came_later(blank_database: Path, tmp_path: Path) -> None:
    """It has written its entry and sleeps; another's change comes; then it moves the alias."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(blank_database.read_bytes())

    class Slow(MlflowRegistry):
        def _follow(self, name: str, run_id: str) -> None:
            client.change_champion(name, entry(1, 2), 1)
            self._client.set_registered_model_alias(name, "champion", "1")
            super()._follow(name, run_id)

    client = MlflowRegistry(f"sqlite:///{database}")
    for semver in ("1.0.0", "1.1.0"):
        client.register(new_version("slow", semver), {})
    Slow(f"sqlite:///{database}").change_champion("slow", entry(None, 1), 0)
    assert champion(client, "slow") == client.history("slow")[-1].to_version == 2


def test_mlflows_client_reads_the_history_that_was_written_directly(
    embedded: SqliteMlflowRegistry, tmp_path: Path
) -> None:
    embedded.register(new_version("both"), {})
    embedded.change_champion("both", entry(None, 1), 0)
    client = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db")
    client.change_champion("both", entry(1, None), 1)
    embedded.change_champion("both", entry(None, 1), 2)
    assert embedded.history("both") == client.history("both")
    assert len(client.history("both")) == 3
    assert client.names() == ["both"]
    assert champion(client, "both") == 1


# For what the suites share.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
KILLED = """
import sys
from registries import die_after_inserting_into
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.records import Change
from pathlib import Path

home, change = Path(sys.argv[1]), Change.model_validate_json(sys.argv[2])

die_after_inserting_into(sys.argv[3])
SqliteMlflowRegistry(home / "mlflow.db", home / "artifacts").change_champion("killed", change, 1)
"""


@pytest.mark.parametrize("table", ["params", "registered_model_aliases"])
def test_a_kill_within_the_change_leaves_it_undone(
    embedded: SqliteMlflowRegistry, tmp_path: Path, table: str
) -> None:
    for semver in ("1.0.0", "1.1.0"):
        embedded.register(new_version("killed", semver), {})
    embedded.change_champion("killed", entry(None, 1), 0)
    arguments = [str(tmp_path), entry(1, 2).model_dump_json(), table]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=ENVIRONMENT)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "mlflow.db-journal").exists()
    assert champion(embedded, "killed") == 1
    assert [change.to_version for change in embedded.history("killed")] == [1]
    embedded.change_champion("killed", entry(1, 2), 1)
    assert champion(embedded, "killed") == 2
