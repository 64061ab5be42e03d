"""A small HTTP endpoint: rows in, answers out, on this device.

POST /predict, /v1/models/{name}/predict   {"rows": [{column: value, …}, …]}
GET  /, /healthz                           which model answers, and since when
"""

import contextlib
import ctypes
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from treadle.errors import TreadleError
from treadle_edge.device import Device
from treadle_edge.model import Model, RowErrors

MOST_BODY_BYTES = 4 << 20
MOST_AT_ONCE = 8
SILENCE_S = 30
DISCARD_S = 2
LOOK_EVERY_S = 1.0


class Current:
    """The model that answers. It follows state.json: an update, or a way back."""

    def __init__(self, device: Device, key: bytes | None) -> None:
        self._device, self._key = device, key
        self._load()

    def _load(self) -> None:
        self._stamp = self._device.stamp()
        self.model: Model = self._device.opened(self._key)
        self.since = time.time()
        give_memory_back()

    def follow(self) -> None:
        """Load what state.json names, if it names another model than the one that answers."""
        if self._device.stamp() == self._stamp:
            return
        if self._device.state().current == self.model.identity["digest"]:
            self._stamp = self._device.stamp()
            return
        try:
            self._load()
        except TreadleError as error:
            print(f"treadle-edge: {error}; the former model answers on", file=sys.stderr)


def give_memory_back() -> None:
    """Let go of what loading a model took and freed; glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library may have none
    if trim is not None:
        trim(0)


class Refused(TreadleError):
    """A request that is refused with ``status``."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        super().__init__(words)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S
    server: "Server"

    def do_GET(self) -> None:
        """Say which model answers."""
        current = self.server.current
        if self.path in ("/", "/healthz"):
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(current.since))
            self._reply(200, {"ready": True, "since": since})
        else:
            self._reply(404, {"error": f"there is nothing at {self.path}: POST /predict"})

    def do_POST(self) -> None:
        """Answer rows."""
        with self.server.turns:
            model = self.server.current.model
            try:
                rows = self._rows()
                self._reply(200, model.answer(rows), model)
            except RowErrors as error:
                named = [{"row": row, "column": name, "error": why}
                         for row, name, why in error.errors[:100]]  # fmt: skip
                self._reply(422, {"error": str(error), "rows": named}, model)
            except Refused as error:
                self.close_connection = True
                self._reply(error.status, {"error": str(error)}, model)
            except OSError:
                raise  # the client has gone
            except Exception as error:
                print(f"treadle-edge: a request failed: {error!r}", file=sys.stderr)
                words = "the device failed at this; its log says more"
                self._reply(500, {"error": words}, model)

    def _rows(self) -> list[dict[str, Any]]:
        name = self.server.current.model.identity["model"]
        length = self.headers.get("content-length", "")
        if not length.isdecimal():
            raise Refused(411, "say with Content-Length how long the body is")
        if self.path not in ("/predict", f"/v1/models/{name}/predict"):
            self._discard(int(length))
            raise Refused(404, f"there is nothing at {self.path}: POST /predict")
        if int(length) > MOST_BODY_BYTES:
            self._discard(int(length))
            raise Refused(413, f"the body is larger than {MOST_BODY_BYTES >> 20} MiB: send fewer "
                          "rows at once")  # fmt: skip
        try:
            body = b"".join(self._received(int(length), SILENCE_S))
        except TimeoutError as error:
            raise Refused(408, f"the body didn't arrive within {SILENCE_S} s") from error
        return rows_of(body)

    def _received(self, length: int, seconds: float) -> Iterator[bytes]:
        """Yield a body of so many bytes; raises TimeoutError where it isn't there in time."""
        deadline = time.monotonic() + seconds
        while length > 0:
            self.connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = self.rfile.read1(min(length, 1 << 16))
            if not chunk:
                return
            length -= len(chunk)
            yield chunk
        self.connection.settimeout(SILENCE_S)

    def _discard(self, length: int) -> None:
        """Let a client send on for a moment: one that is cut off in the middle never reads why."""
        with contextlib.suppress(TimeoutError):
            for _ in self._received(length, DISCARD_S):
                pass

    def _reply(self, status: int, content: dict[str, Any], model: Model | None = None) -> None:
        identity = (model or self.server.current.model).identity
        body = json.dumps({**identity, **content}, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: a line a request wears a device's flash out."""


class Server(ThreadingHTTPServer):
    """Answers few requests at once, so that memory stays small."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], current: Current) -> None:
        super().__init__(address, Handler)
        self.current = current
        self.turns = threading.Semaphore(MOST_AT_ONCE)

    def drain(self, seconds: float) -> None:
        """Let requests that are under way end."""
        deadline = time.monotonic() + seconds
        for _ in range(MOST_AT_ONCE):
            self.turns.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go; anything else is worth a line."""
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"treadle-edge: a request failed: {error!r}", file=sys.stderr)


def rows_of(body: bytes) -> list[dict[str, Any]]:
    """Return a request's rows."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        raise Refused(400, 'the body must be {"rows": [{column: value, …}, …]} with at least one '
                      "row")  # fmt: skip
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Refused(400, f"row {position} is not an object")
    return rows


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON: write null")


def every(seconds: float, act: Callable[[], None], ended: threading.Event) -> threading.Thread:
    """Do something again and again beside the requests."""

    def run() -> None:
        while not ended.wait(seconds):
            try:
                act()
            except OSError as error:  # memory or processes are short: the next turn may do
                print(f"treadle-edge: {error}", file=sys.stderr)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def update_beside(root: str) -> None:
    """Update in a process of its own: what it loads and how it may fail is not this one's."""
    subprocess.run([sys.executable, "-OO", "-m", "treadle_edge", "--root", root, "update"],
                   stdout=subprocess.DEVNULL)  # fmt: skip
