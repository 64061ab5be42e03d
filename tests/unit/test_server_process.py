"""The model server's process: slow clients, and an end that cuts nobody off."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_fakes import Listening

from treadle_serving import process

PREDICT = "/v1/models/sum/predict"
BODY = json.dumps({"rows": [{"x": 1, "y": 2}]})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Listening]:
    found = Listening(tmp_path)
    try:
        yield found
    finally:
        found.end()


def ask(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    connection.request("POST", PREDICT, BODY)
    answer = connection.getresponse()
    assert json.loads(answer.read())["predictions"][0]["prediction"] == 3.0
    return answer.status, answer.headers["connection"]


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /v1", b"POST /v1/models/sum/predict HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_client_that_never_ends_its_request_is_told_and_let_go(
    running: Listening, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(process, "ASK_S", 0.2)
    with socket.create_connection(running.address, timeout=10) as slow:
        slow.sendall(begun)
        said = b""
        while part := slow.recv(1000):
            said += part
    assert said.startswith(b"HTTP/1.1 408 Request Timeout")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"].startswith("the request was not")


def test_bytes_between_requests_do_not_keep_a_connection_for_ever(
    running: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ASK_S", 0.2)
    connection = running.connected()
    assert ask(connection) == (200, None)
    connection.sock.sendall(b"\r\n")
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 408")
    connection.close()


def test_an_ending_server_answers_what_comes_on_kept_connections_and_closes_them(
    tmp_path: Path,
) -> None:
    found = Listening(tmp_path)
    kept = [found.connected() for _ in range(3)]
    assert [ask(connection) for connection in kept] == [(200, None)] * 3
    found.server.should_exit = True
    time.sleep(0.3)
    assert ask(kept[0]) == (200, "close")
    kept[1].request("GET", "/readyz")
    answer = kept[1].getresponse()
    assert (answer.status, json.loads(answer.read())["state"]) == (503, "ending")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(found.address, timeout=5)
    found.thread.join(timeout=5)
    assert not found.thread.is_alive()
    for connection in kept:
        connection.close()


def test_who_connected_before_the_end_and_asks_after_it_began_is_answered(tmp_path: Path) -> None:
    found = Listening(tmp_path)
    waiting = [found.connected() for _ in range(5)]
    for connection in waiting:
        connection.connect()
    found.server.should_exit = True
    time.sleep(0.3)
    assert {ask(connection)[0] for connection in waiting} == {200}
    found.end()
    for connection in waiting:
        connection.close()
