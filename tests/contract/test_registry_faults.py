"""Whatever breaks between two steps of a registration or a promotion: nothing half-visible, never
two champions, never none where there was one."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mounts import linux_root, mount, mounted_tmpfs
from registries import new_version, stored_bundle
from treadle.adapters import mlflow_sqlite
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow import MlflowRegistry
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.deployment import promotion
from treadle.errors import Overtaken, RegistryError, from_os_error

# Registers or promotes, and is killed right after the call that is named: MLflow's client over
# HTTP has no transactions. Each try is a fork of one process, since importing the client takes
# seconds.
KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from registries import new_version
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow import MlflowRegistry
from treadle.bundle import Bundle
from treadle.deployment import promotion

url, objects, *tries = sys.argv[1:]
store = DirectoryStore(Path(objects))

def work(name):
    registry = MlflowRegistry(url)
    if name.startswith("register"):
        registry.register(new_version(name), {})
        return
    (version,) = [v for v in registry.versions(name) if v.version == 2]
    fetch = lambda digest: Bundle.fetch(digest, store, verify_key=None)
    promotion.promote(version, registry, fetch, "ann", "")

def killed_after(call):
    def killed(self, *arguments, **named):
        call(self, *arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    return killed

for name in tries:
    step = name.partition("-")[2].replace("-", "_")
    child = os.fork()
    if not child:
        setattr(MlflowClient, step, killed_after(getattr(MlflowClient, step)))
        work(name)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), (step, status)
"""


REGISTRATION = ["register-create-run", "register-log-batch", "register-set-terminated",
                "register-create-registered-model"]  # fmt: skip
# Whose champion is which afterwards: before the alias followed it is the former one.
PROMOTION = {"promote-log-param": 1, "promote-set-registered-model-alias": 2}


def test_a_kill_between_two_steps_over_http_leaves_nothing_half_done(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, registry = DirectoryStore(tmp_path / "objects"), MlflowRegistry(server)
    fetch = partial(Bundle.fetch, store=store, verify_key=None)
    bundles = [stored_bundle(tmp_path / f"{n}", store, float(n)) for n in (1, 2, 3)]
    for name in PROMOTION:
        first, *_ = [registry.register(new_version(name, digest=b.digest), {}) for b in bundles]
        promotion.promote(first, registry, fetch, "ann", "")
    before = set(registry.names())
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, server, str(tmp_path / "objects"), *REGISTRATION,
         *PROMOTION],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(registry.names()) == set(registry.aliases()) == before
    for name in REGISTRATION:
        with pytest.raises(RegistryError, match="there is no model"):
            registry.versions(name)
        registry.register(new_version(name), {})
        assert [v.version for v in registry.versions(name)] == [1]
    # Whoever comes later settles what was broken off, and goes on.
    monkeypatch.setattr(promotion, "UNDER_WAY", timedelta(0))
    for name, left in PROMOTION.items():
        champion = registry.aliased(name, "champion")
        assert champion is not None
        assert champion.version == left
        third = registry.versions(name)[0]
        promotion.promote(third, registry, fetch, "bob", "")
        champion = registry.aliased(name, "champion")
        assert champion is not None
        assert champion.version == registry.history(name)[-1].to_version == 3


REGISTERING = """
import sys
from pathlib import Path
from registries import die_after_inserting_into, new_version
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

die_after_inserting_into(sys.argv[2])
home = Path(sys.argv[1])
SqliteMlflowRegistry(home / "mlflow.db", home / "artifacts").register(new_version("cut"), {})
"""


@pytest.mark.parametrize("table", ["registered_models", "runs", "model_versions"])
def test_a_kill_within_a_registration_leaves_nothing_visible(
    embedded: SqliteMlflowRegistry, tmp_path: Path, table: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REGISTERING, str(tmp_path), table],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == -signal.SIGKILL
    assert embedded.names() == []
    with pytest.raises(RegistryError, match="there is no model"):
        embedded.versions("cut")
    assert embedded.register(new_version("cut"), {}).version == 1


class Slow:
    """MLflow's client, each of whose calls takes a while, before and after what it does."""

    def __init__(self, client: Any, seed: int) -> None:
        self._client, self._random = client, Random(seed)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def slowly(*arguments: Any, **named: Any) -> Any:
            time.sleep(self._random.uniform(0, 0.15))
            answer = call(*arguments, **named)
            time.sleep(self._random.uniform(0, 0.15))
            return answer

        return slowly


def test_promotions_over_a_slow_registry_end_with_one_champion(server: str, tmp_path: Path) -> None:
    store, quick = DirectoryStore(tmp_path / "objects"), MlflowRegistry(server)
    fetch = partial(Bundle.fetch, store=store, verify_key=None)
    bundles = [stored_bundle(tmp_path / f"{n}", store, float(n)) for n in range(4)]
    first, *others = [
        quick.register(new_version("sluggish", digest=bundle.digest), {}) for bundle in bundles
    ]
    promotion.promote(first, quick, fetch, "ann", "")
    over = threading.Event()
    seen: set[int | None] = set()

    def look() -> None:
        while not over.is_set():
            found = quick.aliased("sluggish", "champion")
            seen.add(found and found.version)

    def promote(number: int) -> bool:
        slow = MlflowRegistry(server)
        slow.__dict__["_client"] = Slow(quick._client, number)
        try:
            promotion.promote(others[number], slow, fetch, f"user {number}", "")
        except Overtaken:
            return False
        return True

    watch = threading.Thread(target=look)
    watch.start()
    try:
        with ThreadPoolExecutor(3) as threads:
            done = list(threads.map(promote, range(3)))
    finally:
        over.set()
        watch.join()
    assert any(done)
    assert None not in seen
    champion = quick.aliased("sluggish", "champion")
    assert champion is not None
    assert champion.version == quick.history("sluggish")[-1].to_version
    assert len(quick.history("sluggish")) == 1 + sum(done)


def test_a_server_that_takes_requests_and_never_answers_is_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryError, match=url):
            MlflowRegistry(url).names()


def test_a_database_that_another_keeps_locked_is_put_into_words_and_left_as_it_was(
    embedded: SqliteMlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.register(new_version("held"), {})
    monkeypatch.setattr(mlflow_sqlite, "_BUSY_S", 0.1)
    waiting = SqliteMlflowRegistry(tmp_path / "mlflow.db", tmp_path / "artifacts")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=0)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for work, verb in (
            (lambda: waiting.names(), "read"),
            (lambda: waiting.register(new_version("held"), {}), "written"),
            (lambda: waiting.set_alias("held", "champion", 1), "written"),
        ):
            words = rf"mlflow\.db can't be {verb}: another process has kept it locked .* try again"
            with pytest.raises(RegistryError, match=words):
                work()
    assert [v.version for v in waiting.versions("held")] == [1]
    assert waiting.aliased("held", "champion") is None
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


@linux_root
def test_a_read_only_database_is_put_into_words_and_still_read(
    blank_database: Path, tmp_path: Path
) -> None:
    def opened(place: Path) -> SqliteMlflowRegistry:
        return SqliteMlflowRegistry(place / "mlflow.db", place / "artifacts")

    def refused(place: Path) -> tuple[str, str]:
        """What is said to a change; nothing stays open afterwards."""
        with pytest.raises(RegistryError) as alias:
            opened(place).set_alias("kept", "champion", 1)
        with pytest.raises(OSError) as registration:
            opened(place).register(new_version("more"), {})
        return str(alias.value), str(from_os_error(registration.value))

    with mounted_tmpfs(tmp_path / "fixed", "size=16m") as place:
        shutil.copyfile(blank_database, place / "mlflow.db")
        opened(place).register(new_version("kept"), {})
        mount("-o", "remount,ro", str(place))
        alias, registration = refused(place)
        assert "mlflow.db can't be written: it is read-only: make the file and its" in alias
        assert "the file system is read-only" in registration
        assert opened(place).names() == ["kept"]
        assert [v.version for v in opened(place).versions("kept")] == [1]
