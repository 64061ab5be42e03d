"""Every command in the documents is one that there is: asked of the parsers themselves. Those that
need no cluster are run too: tests/integration/test_documented_commands_run.py."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from documents import ROOT, Line, lines, treadle_lines
from treadle import runtime
from treadle_edge import __main__ as edge
from treadle_pipelines.cli import app
from treadle_pipelines.init import infer
from treadle_serving import openapi

LINES = list(lines())
# What people type that is neither ours nor asked here: each is known to the tests that say so.
OTHERS = {"source", "export", "openssl", "kubectl", "docker", "python3", "bentoml", "./install"}


def of(program: str) -> list[Line]:
    return [line for line in LINES if line.words[0] == program]


def test_every_program_in_the_documents_is_known_here() -> None:
    assert len(LINES) > 50
    assert {line.words[0] for line in LINES} <= OTHERS | {
        "treadle",
        "make",
        "curl",
        "./treadle-edge",
    }


@pytest.mark.parametrize("words", treadle_lines(), ids=" ".join)
def test_the_command_line_takes_what_the_documents_say(words: tuple[str, ...]) -> None:
    group: Any = typer.main.get_command(app)
    command = group.commands[words[0]]
    command.make_context(words[0], list(words[1:]))  # raises for what isn't there


def test_a_command_that_is_not_there_would_be_found() -> None:
    group: Any = typer.main.get_command(app)
    with pytest.raises(Exception, match="--nowhere"):
        group.commands["models"].make_context("models", ["--nowhere"])


def test_every_make_target_in_the_documents_is_there() -> None:
    there = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in of("make"):
        assert {word for word in line.words[1:] if "=" not in word} <= there, line


def test_every_path_that_curl_asks_is_served() -> None:
    paths = [re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(p)) for p in openapi.document(32)["paths"]]
    for line in of("curl"):
        address = next(word for word in line.words if "localhost" in word or "127.0.0.1" in word)
        path = re.sub(r"^(https?://)?[^/]+", "", address)
        known = any(re.fullmatch(each, path) for each in paths)
        assert known or path == "/predict", line  # the device's own
        bodies = [word for before, word in zip(line.words, line.words[1:], strict=False)
                  if before == "-d"]  # fmt: skip
        for body in bodies:
            assert set(json.loads(body)) <= {"rows", "ids", "labels", "explain"}, line


def test_the_device_takes_what_the_documents_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in of("./treadle-edge"):
        monkeypatch.setattr("sys.argv", list(line.words))
        assert edge._arguments().command


def test_every_manifest_and_file_that_is_named_is_there() -> None:
    for line in LINES:
        for word in line.words[1:]:
            if word.startswith(("manifests/", "examples/")):
                assert (ROOT / word).exists(), line


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_keys_are_made_as_the_recipes_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in of("openssl"):
        subprocess.run(line.words, cwd=tmp_path, check=True, capture_output=True)
    (exported,) = of("export")
    for word in exported.words[1:]:
        name, _, value = word.partition("=")
        monkeypatch.setenv(name, str(tmp_path / value))
    caches = (runtime.settings, runtime.signing_key, runtime.verify_key)
    for cached in caches:
        cached.cache_clear()
    try:
        assert runtime.signing_key() is not None
        assert runtime.verify_key() is not None
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()


def test_the_tutorials_table_is_made_and_a_spec_inferred_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/tutorial/own-table.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", program], check=True)
    spec, why = infer("customers.csv", "churned", "customers")
    assert spec.task == "binary"
    assert spec.preprocessing.split_column == "since"
    assert "customer" in why["preprocessing.exclude"]
