"""The model server as deployment sees it: one that runs already, or one started for the proof."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

from treadle.config import Settings
from treadle.errors import EnvironmentFault, ModelError

START_S = 60.0
REQUEST_S = 30.0


class HttpServer:
    """A model server at ``url``; ``alone`` where it is known that no other answers there. Each
    request has a connection of its own, so that a cluster's Service spreads them."""

    def __init__(self, url: str, alone: bool = False, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.alone = alone
        # What is asked for the proof is nobody's request, and not logged.
        self._headers = {"content-type": "application/json", "x-treadle-proof": "1"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"

    def predict(self, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """POST rows to a model and return the answer."""
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked in the settings
            f"{self.url}/v1/models/{model}/predict",
            data=json.dumps({"rows": rows}).encode(),
            headers=self._headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:  # noqa: S310
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")[:300]
            raise ModelError(f"the server at {self.url} says {error.code}: {words}") from error
        except OSError as error:
            raise EnvironmentFault(f"the server at {self.url} doesn't answer: {error}") from error

    def is_ready(self) -> bool:
        """Say whether the server answers its readiness check."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def started(settings: Settings) -> Iterator[HttpServer]:
    """Start a server on a free loopback port, and stop it at the end."""
    port = free_port()
    command = [sys.executable, "-m", "treadle_serving", "--port", str(port)]
    environment = {**os.environ, **settings.as_environment()}
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            server = HttpServer(f"http://127.0.0.1:{port}", True, settings.server_api_key)
            _wait(server, process, log)
            yield server
        finally:
            _stop(process)


def free_port() -> int:
    """Return a loopback port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: HttpServer, process: "subprocess.Popen[bytes]", log: Any) -> None:
    deadline = time.monotonic() + START_S
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            tail = log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise EnvironmentFault(f"the model server didn't start: {' '.join(tail)}")
        time.sleep(0.1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and its workers: they are a process group of their own."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, end)
            process.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return
