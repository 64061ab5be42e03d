"""``treadle export``: what it refuses, and a device that runs what it wrote and follows."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import treadle_edge
from integration.conftest import (
    Finished,
    Mount,
    another_version,
    copied,
    free_port,
    treadle,
    wait_for,
)
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.answers import same_answer


@pytest.fixture(scope="module")
def golden(wine: Finished) -> dict[str, Any]:
    """The bundle's golden rows and their answers."""
    place = wine.home / "objects/bundles" / wine.summary["digest"] / "golden.json"
    return dict(json.loads(place.read_text(encoding="utf-8")))


def exported(home: Path, out: Path, *options: str) -> Path:
    """A device's folder, whose Python sees numpy and onnxruntime of this one, and nothing else."""
    done = treadle("export", "wine", "--to", "edge", "-o", out, *options, home=home)
    assert done.code == 0, done.err
    site = out / "site"
    site.mkdir()
    for package in ("numpy", "numpy.libs", "onnxruntime"):
        if (place := Path(np.__file__).parents[1] / package).exists():
            (site / package).symlink_to(place)
    python = out / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:{site}"\nexec {sys.executable} -S "$@"\n'
    )
    python.chmod(0o755)
    return out


def on_device(
    folder: Path, *arguments: object, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    command = [str(folder / "treadle-edge"), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)


def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    wine: Finished, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("x")
    out = tmp_path / "out"
    for arguments, code, words in (
        (("wnie", "--to", "edge", "-o", out), 1, "did you mean 'wine'?"),
        (("wine", "--to", "edge", "-o", out, "--version", "9"), 1, "wine has no version 9"),
        (("wine", "--to", "edge"), 2, "'-o'"),
        (("wine", "-o", out), 2, "'--to'"),
        (("wine", "--to", "edge", "-o", full), 2, "isn't empty: name a new folder"),
    ):
        done = treadle("export", *arguments, home=wine.home)
        assert (done.code, done.out) == (code, ""), (arguments, done.err)
        assert words in done.err, (arguments, done.err)
        assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_altered_bundle_is_not_exported(wine: Finished, tmp_path: Path) -> None:
    home = copied(wine, tmp_path)
    model = home / "objects/bundles" / wine.summary["digest"] / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    done = treadle("export", "wine", "--to", "edge", "-o", tmp_path / "out", home=home)
    assert (done.code, done.out) == (1, "")
    assert "was altered" in done.err
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_champion_is_not_exported(wine: Finished, tmp_path: Path) -> None:
    home = copied(wine, tmp_path)
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    registry.remove_alias("wine", "champion")
    done = treadle("export", "wine", "--to", "edge", "-o", tmp_path / "out", home=home)
    assert (done.code, "no champion" in done.err) == (1, True)


def test_a_full_or_read_only_disk_is_said_and_nothing_stays(wine: Finished, mounted: Mount) -> None:
    for options, words in (("size=64k", "the disk is full"), ("ro", "read-only")):
        place = mounted(options)
        done = treadle("export", "wine", "--to", "edge", "-o", place / "out", home=wine.home)
        assert (done.code, done.out) == (1, ""), done.err
        assert words in done.err
        assert "-o" in done.err
        assert list(place.iterdir()) == []


def test_a_device_answers_and_follows_the_champion(
    wine: Finished, golden: dict[str, Any], tmp_path: Path
) -> None:
    home = copied(wine, tmp_path)
    folder = exported(home, tmp_path / "device")
    done = on_device(folder, "predict", given=json.dumps({"rows": golden["rows"]}))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["version"], answer["digest"]) == (1, wine.summary["digest"])
    for got, wanted in zip(answer["predictions"], golden["answers"], strict=True):
        assert same_answer(got, wanted)
    assert json.loads(on_device(folder, "update").stdout)["installed"] is False
    digest = another_version(home, SqliteMlflowRegistry(home / "mlflow.db", home / "artifacts"))
    with served(folder, "--update-every", "0.3") as url:
        assert asked(url, golden["rows"][:1])["version"] == 1
        assert treadle("promote", "wine", "2", home=home).code == 0
        wait_for(lambda: asked(url, golden["rows"][:1])["digest"] == digest, 20, "version 2")
        assert treadle("rollback", "wine", home=home).code == 0
        wait_for(lambda: asked(url, golden["rows"][:1])["version"] == 1, 20, "version 1 again")
    told = json.loads(on_device(folder, "status").stdout)
    assert (told["version"], told["signed"], told["previous"]) == (1, False, digest)


def test_a_device_says_what_is_wrong_with_a_request(
    wine: Finished, golden: dict[str, Any], tmp_path: Path
) -> None:
    folder = exported(wine.home, tmp_path / "device", "--version", "1.0.0")
    with served(folder) as url:
        for body, status, words in (
            (b'{"rows": [{"alcohol": "much"}]}', 422, "row 0, alcohol: 'much' is not a number"),
            (b"{", 400, "not JSON"),
            (b'{"rows": [NaN]}', 400, "write null"),
            (b'{"rows": []}', 400, "at least one row"),
            (b'{"rows": [3]}', 400, "row 0 is not an object"),
            (b"[" * 100_000, 400, "not JSON"),
            (b"x" * (5 << 20), 413, "larger than 4 MiB"),
        ):
            found = refused(url + "/predict", body)
            assert (found[0], words in found[1]["error"]) == (status, True), found
            assert (found[1]["version"], found[1]["digest"]) == (1, wine.summary["digest"])
        assert refused(url + "/v1/models/other/predict", b"{}")[0] == 404
        health = json.loads(urllib.request.urlopen(url + "/healthz").read())
        assert (health["ready"], health["version"]) == (True, 1)
        assert asked(url, golden["rows"])["predictions"]
    wrong = on_device(folder, "predict", given='{"rows": [{"alcohol": []}]}')
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "row 0, alcohol: [] is not a number" in wrong.stderr
    assert "no file /nowhere" in on_device(folder, "predict", "/nowhere").stderr
    assert on_device(folder, "serve", "--port", "70000").returncode == 2


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The device's endpoint, ended by SIGTERM."""
    port = free_port()
    command = [str(folder / "treadle-edge"), "serve", "--port", str(port), *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: is_up(url, process), 20, "the device answers")
        yield url
    finally:
        process.terminate()
        started = time.monotonic()
        assert process.wait(timeout=20) == 0, (folder / "log").read_text()
        assert time.monotonic() - started < 8


def is_up(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None
    try:
        with urllib.request.urlopen(url + "/healthz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def asked(url: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    body = json.dumps({"rows": rows}).encode()
    with urllib.request.urlopen(f"{url}/predict", data=body) as answer:
        return dict(json.load(answer))


def refused(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        urllib.request.urlopen(url, data=body)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    raise AssertionError("it was not refused")


@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"])
def test_a_devices_lock_has_wheels_for_its_platform(platform: str, tmp_path: Path) -> None:
    lock = Path(treadle_edge.__path__[0]) / "folder/requirements.txt"
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--dry-run", "--no-deps", "--only-binary", ":all:",
               "--require-hashes", "-r", lock, "--target", tmp_path / "site",
               "--python-version", "3.11", "--python-platform", platform]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr
    assert {"+ numpy==", "+ onnxruntime=="} <= set(re.findall(r"\+ \w+==", done.stderr))
