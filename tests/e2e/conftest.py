"""The whole system on a kind cluster, as a person has it: deployed by `make deploy`, used through
the commands and the Service."""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from treadle.adapters.model_server import free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TREADLE = Path(sys.executable).with_name("treadle")
NODE = "treadle-control-plane"
SERVER = "http://127.0.0.1:3000"


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What ``--json`` printed."""
        assert self.code in (0, 3), self.err[-4000:]
        return json.loads(self.out)


@dataclass(frozen=True)
class Running:
    """A command under way, and what it has said so far."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def words(self) -> str:
        """What it has said so far, on both channels."""
        return self.log.read_text("utf-8", errors="replace")

    def end(self) -> None:
        """See that it ends."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)


@dataclass(frozen=True)
class Cluster:
    """A deployed cluster and how to use it from here."""

    settings: Mapping[str, str]
    scratch: Path

    def treadle(self, *arguments: object, timeout: float = 900, **others: str) -> Outcome:
        """Run the command with the cluster's settings, but for ``others``."""
        words = [str(TREADLE), *map(str, arguments)]
        return run(*words, timeout=timeout, env={**self._environment(), **others})

    def begin(self, *arguments: object) -> Running:
        """Start the command with the cluster's settings, and don't wait for it."""
        log = self.scratch / f"{time.monotonic_ns()}.log"
        with log.open("wb") as both:
            words = [str(TREADLE), *map(str, arguments)]
            process = subprocess.Popen(
                words, stdout=both, stderr=both, cwd=ROOT, env=self._environment()
            )
        return Running(process, log)

    def _environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
        return {**plain, **self.settings}

    def kubectl(self, *arguments: str, timeout: float = 180, check: bool = True) -> str:
        """Run kubectl in Treadle's namespace; return what it printed."""
        done = run(
            "kubectl", "--context", "kind-treadle", "-n", "treadle", *arguments, timeout=timeout
        )
        assert not check or done.code == 0, done.err[-2000:]
        return done.out

    def pods(self, name: str) -> list[str]:
        """Return the names of a part's pods."""
        wanted = f"app.kubernetes.io/name={name}"
        return self.kubectl("get", "pods", "-l", wanted, "-o", "name").split()

    def predict(self, model: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the server through the Service."""
        return ask(f"{SERVER}/v1/models/{model}/predict", {"rows": [row]})

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects to the cluster."""
        command = ["kubectl", "--context", "kind-treadle", "apply", "-f", "-"]
        whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        subprocess.run(command, input=whole, text=True, check=True, capture_output=True)

    def in_node(self, command: str) -> str:
        """Run a line of shell in the node."""
        done = run("docker", "exec", NODE, "sh", "-c", command)
        assert done.code == 0, done.err
        return done.out

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """Yield an address on this machine that leads to a service."""
        here = free_port()
        command = ["kubectl", "--context", "kind-treadle", "-n", namespace, "port-forward",
                   f"service/{service}", f"{here}:{port}"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: is_open(here), 30, f"the way to {service}")
            yield f"http://127.0.0.1:{here}"
        finally:
            process.terminate()
            process.wait(timeout=10)

    def settle(self, timeout: float = 300) -> None:
        """Wait until everything is as it should be again."""
        for kind in ("statefulset", "deployment"):
            for each in self.kubectl("get", kind, "-o", "name").split():
                self.kubectl(
                    "rollout", "status", each, f"--timeout={timeout:.0f}s", timeout=timeout + 20
                )


def run(*command: str, timeout: float = 180, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a program to its end."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=env
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def is_open(port: int) -> bool:
    """Say whether something listens on a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True


def ask(url: str, body: Any = None, timeout: float = 20) -> Any:
    """Ask over HTTP, on a connection of its own; return the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what ``condition`` returns as soon as it is true; fail after ``seconds``. What can't
    be asked yet isn't true yet."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, AssertionError) as error:
            last = f" ({error})"
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds:.0f} s{last}")


@dataclass
class Load:
    """Requests one after another, each on a connection of its own, and how they ended."""

    model: str
    rows: Sequence[Mapping[str, Any]]
    digests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        number = 0
        while not self._stop.wait(0.02):
            number += 1
            row = self.rows[number % len(self.rows)]
            try:
                answer = ask(f"{SERVER}/v1/models/{self.model}/predict", {"rows": [row]}, 30)
                self.digests.append(answer["digest"])
            except (OSError, ValueError, KeyError) as error:
                self.faults.append(f"{time.strftime('%X')} {error!r}")

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Send requests while the block runs."""
        threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster that `make deploy` brings up; what is there already is used."""
    done = run("make", "deploy", "KFP=0", timeout=3600)
    assert done.code == 0, done.err[-6000:]
    lines = (ROOT / ".kind.env").read_text(encoding="utf-8").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    pairs = [word[-1].partition("=") for word in words if word]
    settings = {name: value for name, _, value in pairs}
    return Cluster(settings, tmp_path_factory.mktemp("said"))
