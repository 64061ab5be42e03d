"""Builds of the manifests, as kubectl would apply them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from builds import MANIFESTS, OVERLAYS, Build, Document
from kubernetes_schemas import LOADER


@pytest.fixture(scope="session")
def kustomize() -> Callable[[Path], list[Document]]:
    """Build a directory's kustomization."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed: either builds the manifests")

    def build(directory: Path) -> list[Document]:
        done = subprocess.run([*command, str(directory)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, f"kustomize warns: {done.stderr}"
        return [document for document in yaml.load_all(done.stdout, LOADER) if document]

    return build


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, kustomize: Callable[[Path], list[Document]]) -> Build:
    """Each overlay."""
    return Build(request.param, kustomize(MANIFESTS / "overlays" / request.param))


@pytest.fixture(scope="session")
def kind(kustomize: Callable[[Path], list[Document]]) -> Build:
    """The overlay of a kind cluster."""
    return Build("kind", kustomize(MANIFESTS / "overlays" / "kind"))


@pytest.fixture(scope="session")
def composed(
    kustomize: Callable[[Path], list[Document]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Sequence[str]], Build]:
    """Build the base with some of the components."""

    def compose(components: Sequence[str]) -> Build:
        directory = tmp_path_factory.mktemp("composed")
        parts = ("base", "base/kuberay-operator")
        text = {
            "resources": [os.path.relpath(MANIFESTS / part, directory) for part in parts],
            "components": [
                os.path.relpath(MANIFESTS / "components" / name, directory) for name in components
            ],
        }
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(text))
        return Build("+".join(components) or "base", kustomize(directory))

    return compose
