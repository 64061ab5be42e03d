"""Treadle as a person runs it: the installed command, in a process of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle, store_bundle
from treadle.records import NewVersion

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TREADLE = Path(sys.executable).with_name("treadle")
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What ``--json`` printed."""
        return json.loads(self.out)


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with no setting but those given."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    return {**plain, "TREADLE_HOME": str(home), **(extra or {})}


def treadle(
    *arguments: object,
    home: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 280,
) -> Outcome:
    """Run the command to its end."""
    done = subprocess.run(
        [str(TREADLE), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(home, env),
        timeout=timeout,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def started(
    *arguments: object, home: Path, log: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start the command in a process group of its own, as a terminal would."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(TREADLE), *map(str, arguments)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(home, env),
            start_new_session=True,
            # A test runner may ignore SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what ``condition`` returns as soon as it is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


def free_port() -> int:
    """A loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running ``treadle serve``."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def request(
        self, path: str, body: bytes | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON (or text) of an answer."""
        asked = urllib.request.Request(self.url + path, data=body, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode(errors="replace")

    def predict(self, model: str, rows: list[dict[str, Any]]) -> tuple[int, Any]:
        """POST rows to a model."""
        return self.request(f"/v1/models/{model}/predict", json.dumps({"rows": rows}).encode())

    def is_ready(self) -> bool:
        """Whether it answers its readiness check."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.request("/readyz")[0] == 200
        except OSError:
            return False


@contextmanager
def serving(home: Path, directory: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run ``treadle serve`` on a free port."""
    port, log = free_port(), directory / "serve.log"
    process = started("serve", "--port", port, home=home, log=log, env=env)
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(server.is_ready, 60, "the server is ready")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def changed_spec(name: str, directory: Path, changes: Mapping[str, Any]) -> Path:
    """Copy an example's spec with some keys changed (sections are merged)."""
    (source,) = EXAMPLES.glob(f"{name}/*.yaml")
    spec = yaml.safe_load(source.read_text(encoding="utf-8"))
    for key, value in changes.items():
        spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec, allow_unicode=True), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Finished:
    """A home in which a spec has been run."""

    home: Path
    spec: Path
    summary: dict[str, Any]


def copied(finished: Finished, directory: Path) -> Path:
    """Copy a home, so that a test may change it."""
    # A server that runs there writes its log: that is none of the copy's.
    logs = shutil.ignore_patterns("spool", "predictions")
    return Path(shutil.copytree(finished.home, directory / "home", ignore=logs))


def another_version(home: Path, registry: SqliteMlflowRegistry) -> str:
    """Register the champion's model a second time in a bundle of its own; return its digest."""
    champion = registry.aliased("wine", "champion")
    assert champion is not None
    rebuilt = home / "rebuilt"
    shutil.copytree(home / "objects/bundles" / champion.digest, rebuilt)
    reference = rebuilt / "reference.json"
    reference.write_text(reference.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    bundle = Bundle.at(rebuilt)
    source = store_bundle(bundle, DirectoryStore(home / "objects"))
    fields = {name: getattr(champion, name) for name in NewVersion.model_fields}
    registry.register(
        NewVersion(**{**fields, "digest": bundle.digest, "source": source, "semver": "1.0.1"}), {}
    )
    return bundle.digest


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The wine example, run once with few trials. Tests read it; none changes its champion."""
    directory = tmp_path_factory.mktemp("wine")
    spec = changed_spec("wine", directory, {"training": {"trials": 3}})
    done = treadle("run", spec, "--json", home=directory / "home")
    assert done.code == 0, done.err
    return Finished(directory / "home", spec, done.json)


Mount = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mount a small file system of its own; unmounted in the end."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        if not IS_ROOT:
            pytest.skip("only root may mount")
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)
