"""The exported Bento, as BentoML's own commands take it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from integration.conftest import Finished, environment, free_port, treadle, wait_for
from treadle.answers import same_answer

BENTOML = Path(sys.executable).with_name("bentoml")


@pytest.fixture(scope="module")
def store(wine: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Bento store with the exported Bento."""
    out = tmp_path_factory.mktemp("bento") / "store"
    done = treadle("export", "wine", "--to", "bento", "-o", out, "--json", home=wine.home)
    assert done.code == 0, done.err
    assert done.json["digest"] == wine.summary["digest"]
    return out


def settings(store: Path, home: Path) -> dict[str, str]:
    return {**environment(home), "BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True"}


def test_bentoml_serves_it_by_its_tag(store: Path, wine: Finished, tmp_path: Path) -> None:
    golden = json.loads(next(store.rglob("golden.json")).read_text("utf-8"))
    port = free_port()
    command = [BENTOML, "serve", "wine:latest", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env=settings(store, tmp_path / "home"),
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/readyz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_for(is_ready, 60, "the Bento answers")
        body = json.dumps({"rows": golden["rows"]}).encode()
        asked = urllib.request.Request(f"{url}/v1/models/wine/predict", body)
        asked.add_header("content-type", "application/json")
        with urllib.request.urlopen(asked) as answer:
            found = json.load(answer)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)
    assert (found["version"], found["digest"]) == (1, wine.summary["digest"])
    for got, wanted in zip(found["predictions"], golden["answers"], strict=True):
        assert same_answer(got, wanted)
    # It needs no home, and leaves none.
    assert not (tmp_path / "home").exists()


def test_bentoml_hands_docker_all_that_an_image_needs(store: Path, tmp_path: Path) -> None:
    """The client is a stand-in that looks at what it is given: no image is built here."""
    seen = tmp_path / "seen"
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(
        "#!/bin/sh\n"
        '[ "$1" = version ] && echo \'"27.3.1"\'\n'
        f'for last; do :; done\n[ "$1" = build ] && (cd "$last" && find . -type f) > {seen}\n'
        "exit 0\n"
    )
    docker.chmod(0o755)
    env = settings(store, tmp_path)
    env["PATH"] = f"{docker.parent}:{env['PATH']}"
    command = [BENTOML, "containerize", "wine:latest", "--backend", "docker"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    given = seen.read_text().splitlines()
    for name in ("env/docker/Dockerfile", "src/service.py", "src/treadle_serving/app.py",
                 "src/model/version.json"):  # fmt: skip
        assert f"./{name}" in given
