"""What the air gap builds is named by its content: nothing is built twice, no change is missed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

AIRGAP = Path(__file__).parents[2] / "airgap"
# Answers as Docker does for the images it has built, and writes down what was asked of it.
FAKE_DOCKER = """#!/bin/bash
echo "$*" >>"$FAKE/asked"
case $1 in
    image) [[ -f $FAKE/${*: -1} ]] && cat "$FAKE/${*: -1}" ;;
    build) while (($#)); do
        case $1 in --tag) tag=$2 ;; --label) label=${2#*=} ;; esac
        shift
    done
    mkdir -p "$FAKE/$(dirname "$tag")" && echo "$label" >"$FAKE/$tag" ;;
esac
"""


@pytest.fixture
def airgap(tmp_path: Path) -> Path:
    """A copy, so that a test may change it."""
    copy = tmp_path / "airgap"
    shutil.copytree(AIRGAP, copy)
    return copy


@pytest.fixture
def bash(tmp_path: Path, airgap: Path) -> Callable[[str], str]:
    """Runs a line with airgap/lib.sh sourced and a Docker that only remembers."""
    fake = tmp_path / "docker"
    fake.write_text(FAKE_DOCKER)
    fake.chmod(0o755)
    (tmp_path / "images").mkdir()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "FAKE": str(tmp_path / "images")}

    def run(line: str) -> str:
        script = f"set -euo pipefail; source {airgap}/lib.sh; docker={fake}; {line}"
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def _folder(at: Path) -> Path:
    at.mkdir()
    (at / "one").write_text("1")
    (at / "two").write_text("2")
    return at


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file's content": lambda folder: (folder / "one").write_text("9"),
    "a file's name": lambda folder: (folder / "one").rename(folder / "three"),
    "a file's mode": lambda folder: (folder / "one").chmod(0o755),
    "a further file": lambda folder: (folder / "three").write_text(""),
    "a file less": lambda folder: (folder / "two").unlink(),
    "contents exchanged": lambda folder: (
        (folder / "one").write_text("2"),
        (folder / "two").write_text("1"),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_key_changes_with_every_input(
    bash: Callable[[str], str], tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = _folder(tmp_path / "folder")
    before = bash(f"key_of {folder} x")
    assert before == bash(f"key_of {folder} x")
    change(folder)
    assert bash(f"key_of {folder} x") != before


def test_a_key_is_that_of_the_content_wherever_it_lies(
    bash: Callable[[str], str], tmp_path: Path
) -> None:
    one, two = _folder(tmp_path / "one"), _folder(tmp_path / "elsewhere")
    assert bash(f"key_of {one} x") == bash(f"key_of {two} x") != bash(f"key_of {one} y")


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, whose version is in the key")
@pytest.mark.parametrize("name", ["go.mod", "go.sum", "coredns/main.go", "build-binaries"])
def test_programs_are_compiled_anew_where_their_sources_changed(
    bash: Callable[[str], str], airgap: Path, name: str
) -> None:
    before = bash("binaries_directory")
    assert before == bash("binaries_directory")
    with (airgap / name).open("a") as file:
        file.write("\n")
    assert bash("binaries_directory") != before


def test_an_image_is_built_once_and_again_where_its_folder_changed(
    bash: Callable[[str], str], airgap: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "images" / "asked"

    def builds() -> int:
        bash("image some/image:1 postgres")
        return sum(line.startswith("build") for line in asked.read_text().splitlines())

    assert [builds(), builds()] == [1, 1]
    with (airgap / "images/postgres/entrypoint").open("a") as file:
        file.write("\n")
    assert [builds(), builds()] == [2, 2]


def test_an_image_is_built_again_where_what_it_builds_on_was(
    bash: Callable[[str], str], tmp_path: Path
) -> None:
    base = tmp_path / "images/treadle-airgap/debian:bookworm"
    base.parent.mkdir()
    base.write_text("first")
    before = bash("context_key $(lay_context postgres)")
    base.write_text("second")
    assert bash("context_key $(lay_context postgres)") != before


def test_the_versions_are_those_of_the_pinned_modules(bash: Callable[[str], str]) -> None:
    modules = (AIRGAP / "go.mod").read_text()
    assert f"k8s.io/kubernetes {bash('echo $kubernetes')} " in modules
    assert bash("echo $operator_image").startswith("quay.io/kuberay/operator:v")
    assert bash("echo $seaweedfs_image").partition(":")[2]
    assert f"replace (\n\tk8s.io/api => k8s.io/api v0.{bash('echo ${kubernetes#v1.}')}" in modules
