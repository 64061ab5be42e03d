"""The documentation keeps up with the code: what is undocumented, or documented and gone, fails."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from documentation import commands_page, http_page, metrics_page, settings_page, site, spec_page
from documentation.links import ROOT, on_site
from documentation.markdown import UndocumentedError, words
from treadle.config import PREFIX, Settings
from treadle.spec import Spec
from treadle_serving import openapi, routes

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "manifests/README.md",
]
# Gauges of the device and names of files begin alike.
METRIC = re.compile(r"`(treadle_[a-z_]+)(?:\{[^`]*\})?`")
PACKAGES = {"treadle_edge", "treadle_pipelines", "treadle_serving", "treadle_browser"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site."""
    return site.build(tmp_path_factory.mktemp("documentation") / "whole")


def test_every_key_of_the_spec_is_in_the_reference() -> None:
    page = spec_page.render()
    assert len(set(spec_page.places())) > 100
    for place in spec_page.places():
        section, _, key = place.rpartition(".")
        heading = f"## `{section}`\n" if section else "## The whole\n"
        assert f"| `{key}` |" in page.split(heading)[1].split("\n## ")[0], place


def test_what_the_spec_holds_in_a_new_place_is_in_the_reference_too() -> None:
    written = yaml.safe_load(Spec(name="a", target="b", source="c.csv").model_dump_json())  # type: ignore[arg-type]

    def paths(value: Any, place: str = "") -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield f"{place}{key}"
            yield from paths(inner, f"{place}{key}.")

    known = set(spec_page.places())
    for place in paths(written):
        assert re.sub(r"^source\.tables\.data", "source.tables.NAME", place) in known | {
            "source.tables.NAME"
        }


def test_every_setting_is_in_the_reference() -> None:
    page = settings_page.render()
    for field in fields(Settings):
        assert f"`{PREFIX}{field.name.upper()}`" in page


def test_every_command_and_every_option_is_in_the_reference() -> None:
    page = commands_page.render()
    for name, command in commands_page.commands().items():
        part = page.split(f"## treadle {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name not in ("home", "as_json"):
                said = parameter.opts if parameter.param_type_name == "option" else ()
                assert all(f"{option}" in part for option in said), (name, parameter.name)


def test_every_path_of_the_server_is_in_the_reference() -> None:
    app: Any = object()
    page = http_page.render()
    for route in routes.application(app).routes:
        path = re.sub(r":int", "", route.path)  # type: ignore[attr-defined]
        assert f" {path}`" in page or f"`{path}`" in page, path
    for name in openapi.document(32)["components"]["schemas"]:
        assert name == "Anything" or f"### {name}\n" in page


def test_every_metric_is_in_the_reference_and_no_document_names_another() -> None:
    page, known = metrics_page.render(), metrics_page.names()
    shown = [name for name in known if not re.search(r"_(bucket|count|sum)$", name)]
    assert len(shown) > 15
    assert all(f"`{name}`" in page for name in shown)
    for document in DOCUMENTS:
        for name in METRIC.findall(document.read_text(encoding="utf-8")):
            is_beginning = name.endswith("_") and any(each.startswith(name) for each in known)
            assert name in known | PACKAGES or is_beginning, f"{document} names {name}"


def test_the_alerts_and_the_dashboard_ask_for_metrics_that_there_are() -> None:
    monitoring = ROOT / "manifests/components/monitoring"
    asked = {
        name
        for path in monitoring.rglob("*")
        if path.suffix in (".yaml", ".json")
        for name in re.findall(r"\btreadle_[a-z_]+", path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 10
    assert asked <= metrics_page.names()


def test_no_document_names_a_setting_that_there_is_not() -> None:
    known = {PREFIX + field.name.upper() for field in fields(Settings)} | {"TREADLE_COMMIT"}
    for document in DOCUMENTS:
        for name in re.findall(r"\bTREADLE_[A-Z0-9_]+", document.read_text(encoding="utf-8")):
            assert name in known, f"{document} names {name}"


def test_what_has_no_words_is_named() -> None:
    with pytest.raises(UndocumentedError, match=r"training\.trials has no words"):
        words("", "the spec's training.trials")
    assert words("two\n  lines", "anything") == "two lines"


def test_a_link_leads_to_the_page_or_names_the_file() -> None:
    pages = {Path("docs/a.md"): "a.md", Path("docs/adr/1.md"): "adr/1.md",
             Path("components/treadle/spec.py"): "reference/spec.md"}  # fmt: skip
    text = "[one](../a.md#x) [spec](../../components/treadle/spec.py) [make](../../Makefile)"
    text += " [web](https://example.org)\n```\n[kept](../a.md)\n```\n"
    found = on_site(text, Path("docs/adr/1.md"), pages)
    assert found.startswith(
        "[one](../a.md#x) [spec](../reference/spec.md) make (`Makefile`) [web]("
    )
    assert "[kept](../a.md)" in found


def test_every_page_is_in_the_navigation() -> None:
    pages = {*site.on_the_site().values(), *site.GENERATED}
    written = {page for page in pages if page.endswith(".md") and not re.match(r"adr/\d", page)}
    assert set(site.in_navigation()) == written


def test_the_site_is_built_and_every_link_in_it_leads_somewhere(built: Path) -> None:
    pages = sorted(built.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^"]*)"', page.read_text(encoding="utf-8")):
            path, _, _ = target.partition("#")
            if path and not re.match(r"[a-z]+:|/", path) and page.name != "404.html":
                assert (page.parent / path).resolve().exists(), f"{page.name} names {target}"


def test_a_page_of_the_site_fetches_nothing_from_elsewhere(built: Path) -> None:
    fetched = re.compile(
        r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^>]*"""
    )
    for page in built.rglob("*.html"):
        assert not fetched.findall(page.read_text(encoding="utf-8")), page.name
    for sheet in built.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?https?://", sheet.read_text("utf-8"))
