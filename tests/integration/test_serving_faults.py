"""What a model server does when it ends, is killed, loses its store, or meets clients that don't
behave."""

import http.client
import json
import random
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from conftest import Finished, Server, another_version, copied, serving, wait_for
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

BODY = json.dumps({"rows": [{"hue": 1.0}]}).encode()
PREDICT = "/v1/models/wine/predict"


class Clients:
    """Ask over kept connections until stopped, or until the server says that it closes them."""

    def __init__(self, server: Server, count: int = 6) -> None:
        self._address = server.url.removeprefix("http://")
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.ids: list[str] = []
        self.broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        try:
            while not self._stop.is_set():
                connection.request("POST", PREDICT, BODY)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                self.statuses[answer.status] += 1
                self.ids += [found["id"] for found in content.get("predictions", [])]
                if answer.headers["connection"] == "close":
                    return
        except (OSError, http.client.HTTPException) as error:
            self.broken.append(error)
        finally:
            connection.close()

    @contextmanager
    def asking(self) -> Iterator["Clients"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(timeout=30)


def logged_ids(home: Path) -> list[str]:
    """The ids in the prediction log, as often as they are there."""
    files = (home / "objects/predictions/wine").rglob("*.parquet")
    return [id_ for file in files for id_ in pq.read_table(file)["prediction_id"].to_pylist()]


def test_a_server_that_ends_under_load_answers_every_request_and_logs_every_answer(
    wine: Finished, tmp_path: Path
) -> None:
    home = copied(wine, tmp_path)
    with serving(home, tmp_path) as server, Clients(server).asking() as clients:
        wait_for(lambda: clients.statuses[200] > 200, 20, "clients are answered")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=20)
    assert clients.broken == []
    assert set(clients.statuses) == {200}
    assert sorted(logged_ids(home)) == sorted(clients.ids)
    assert list((home / "spool").iterdir()) == []


def test_promotions_and_rollbacks_under_load_fail_no_request(
    wine: Finished, tmp_path: Path
) -> None:
    home = copied(wine, tmp_path)
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    another_version(home, registry)
    with serving(home, tmp_path) as server, Clients(server).asking() as clients:
        for number in (2, 1, 2):
            registry.set_alias("wine", "champion", number)
            wait_for(lambda n=number: server.predict("wine", [{}])[1]["version"] == n, 10, "swap")  # type: ignore[misc]
    assert clients.broken == []
    assert set(clients.statuses) == {200}


def test_what_a_killed_server_has_answered_is_logged_once_by_its_successor(
    wine: Finished, tmp_path: Path
) -> None:
    home = copied(wine, tmp_path)
    with serving(home, tmp_path) as server, Clients(server).asking() as clients:
        wait_for(lambda: clients.statuses[200] > 200, 20, "clients are answered")
        server.process.kill()
        server.process.wait(timeout=10)
    assert set(logged_ids(home)) == set()
    with serving(home, tmp_path):
        wait_for(lambda: logged_ids(home), 20, "the successor logs")
    found = logged_ids(home)
    assert set(clients.ids) <= set(found)
    # A request may have been written down and not answered any more: one a client.
    assert len(set(found)) <= len(clients.ids) + 6
    assert len(found) == len(set(found))


def test_a_store_that_goes_and_comes_back_loses_nothing(wine: Finished, tmp_path: Path) -> None:
    home = copied(wine, tmp_path)
    with serving(home, tmp_path) as server:
        ids = [server.predict("wine", [{}])[1]["predictions"][0]["id"]]
        shutil.move(home / "objects", home / "elsewhere")
        (home / "objects").write_text("no directory")
        wait_for(lambda: "store" in server.request("/readyz")[1]["wrong"], 15, "it is noticed")
        status, state = server.request("/readyz")
        assert (status, state["state"]) == (200, "degraded")
        ids.append(server.predict("wine", [{}])[1]["predictions"][0]["id"])
        (home / "objects").unlink()
        shutil.move(home / "elsewhere", home / "objects")
        wait_for(lambda: server.request("/readyz")[1]["wrong"] == {}, 15, "it is noticed")
    assert sorted(logged_ids(home)) == sorted(ids)


@pytest.fixture(scope="module")
def server(wine: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("faults")
    with serving(copied(wine, directory), directory) as running:
        yield running


def raw(server: Server, content: bytes, wait_s: float = 5) -> bytes:
    """What comes back for these bytes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        connection.sendall(content)
        if b"connection: close" not in content:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def test_random_bytes_are_refused_and_the_server_answers_on(server: Server) -> None:
    draw = random.Random(0)
    for _ in range(60):
        said = raw(server, draw.randbytes(draw.randrange(1, 2000)), 2)
        assert said[:12] in (b"", b"HTTP/1.1 400"), said[:200]
    head = (b"POST %b HTTP/1.1\r\nconnection: close\r\ncontent-length: 64\r\n\r\n"
            % PREDICT.encode())  # fmt: skip
    for _ in range(30):
        said = raw(server, head + draw.randbytes(64), 2)
        assert said[:12] == b"HTTP/1.1 400", said[:200]
    assert server.predict("wine", [{}])[0] == 200


def test_clients_that_never_end_their_request_hold_nobody_up(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall((b"", b"POST /v1", b"POST " + PREDICT.encode() + b" HTTP/1.1\r\n"
                                b"host: x\r\ncontent-length: 9\r\n\r\n{")[number % 3])  # fmt: skip
        assert server.predict("wine", [{}])[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_bodies_that_are_too_large_cost_no_memory(server: Server) -> None:
    resident = psutil.Process(server.process.pid).memory_info().rss
    head = (
        b"POST %b HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        % PREDICT.encode()
    )
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    assert raw(server, head + chunk * 40 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413")
    announced = head.replace(b"transfer-encoding: chunked", b"content-length: 99999999999")
    assert raw(server, announced + b"{}").startswith(b"HTTP/1.1 413")
    assert psutil.Process(server.process.pid).memory_info().rss < resident + 100 * 2**20
