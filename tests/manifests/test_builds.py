"""Every overlay and every choice of components builds into what the API server takes."""

from collections.abc import Callable, Sequence

import pytest
from builds import COMPONENTS, MANIFESTS, Build, choices
from kubernetes_schemas import faults


@pytest.mark.parametrize("chosen", choices(), ids="+".join)
def test_components_go_together(
    composed: Callable[[Sequence[str]], Build], chosen: Sequence[str]
) -> None:
    build = composed(chosen)
    assert [fault for document in build.documents for fault in faults(document)] == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_says_what_it_is_for(name: str) -> None:
    text = (MANIFESTS / "components" / name / "README.md").read_text("utf-8")
    assert f"components/{name}" in text
