"""The model server's image, under what a careful cluster allows it."""

import json
import os
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from docker.errors import ImageNotFound  # type: ignore[import-untyped]
from docker.models.containers import Container  # type: ignore[import-untyped]
from test_containers import GROUP, USER, connected

from conftest import Finished, copied
from treadle.code import code_digest

IMAGE = f"treadle-server:{code_digest()}"
START_S = 90
ASK = """
import sys, urllib.error, urllib.request
path, body = sys.argv[1], sys.argv[2].encode() or None
try:
    with urllib.request.urlopen("http://127.0.0.1:3000" + path, body, timeout=20) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.fixture(scope="module")
def server(wine: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container that serves a copy of wine's home: no network, no capability, nobody's user,
    nothing writable but the home and /tmp."""
    client = connected()
    if isinstance(client, str):
        pytest.skip(f"no Docker engine answers: {client}")
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        client.close()
        pytest.skip(f"Docker has no image {IMAGE}: build it with components/build-image")
    home = copied(wine, tmp_path_factory.mktemp("server"))
    for path in (home, *home.rglob("*")):
        os.chown(path, USER, GROUP)
    container = client.containers.run(
        IMAGE,
        name=f"treadle-server-{uuid4().hex[:8]}",
        detach=True,
        environment={"TREADLE_HOME": str(home)},
        volumes={str(home): {"bind": str(home), "mode": "rw"}},
        user=f"{USER}:{GROUP}",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": "rw,size=256m"},
    )
    try:
        yield container
    finally:
        container.remove(force=True)
        client.close()


def ask(server: Container, path: str, body: str = "") -> tuple[int, str]:
    """The status and the text of an answer, 0 where there is none."""
    code, output = server.exec_run(["python3", "-c", ASK, path, body])
    if code:
        return 0, output.decode()
    status, text = output.decode().split(" ", 1)
    return int(status), text


def test_it_answers_for_a_champion(server: Container, wine: Finished) -> None:
    deadline = time.monotonic() + START_S
    while ask(server, "/readyz")[0] != 200 and time.monotonic() < deadline:
        time.sleep(1)
    assert ask(server, "/readyz")[0] == 200, server.logs().decode()[-3000:]
    (golden,) = wine.home.glob("objects/bundles/*/golden.json")
    rows = json.loads(golden.read_text("utf-8"))["rows"][:2]
    status, text = ask(server, "/v1/models/wine/predict", json.dumps({"rows": rows}))
    assert status == 200, text
    assert len(json.loads(text)["predictions"]) == 2


def test_it_has_what_serving_needs_and_no_more(server: Container) -> None:
    find = "import importlib.util as u; print(*filter(u.find_spec, {}))"
    wanted = ["bentoml", "onnxruntime", "sklearn", "skops"]
    unwanted = ["ray", "kfp", "matplotlib", "sqlalchemy"]
    _, output = server.exec_run(["python3", "-c", find.format([*wanted, *unwanted])])
    assert output.decode().split() == wanted


def test_it_carries_an_inventory_and_no_compiler(server: Container) -> None:
    _, inventory = server.exec_run(["cat", "/opt/venv/sbom.cdx.json"])
    assert json.loads(inventory)["bomFormat"] == "CycloneDX"
    code, _ = server.exec_run(["sh", "-c", "command -v gcc cc ld make"])
    assert code != 0


def test_it_stops_when_asked_to(server: Container) -> None:
    begun = time.monotonic()
    server.stop(timeout=60)
    assert time.monotonic() - begun < 30
