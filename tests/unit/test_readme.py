"""The README keeps up with what there is."""

import re
from dataclasses import fields
from pathlib import Path

import typer.main
import yaml

from treadle.config import PREFIX, Settings
from treadle_pipelines.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_readme_and_no_other() -> None:
    wanted = {PREFIX + field.name.upper() for field in fields(Settings)}
    assert set(re.findall(r"`(TREADLE_[A-Z0-9_]+)`", README)) == wanted


def test_every_command_is_shown_in_the_readme() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"^\$ treadle ([a-z]+)", README, re.MULTILINE)) == commands


def test_every_make_target_that_the_documents_name_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    there = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    named: set[str] = set()
    for document in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for line in re.findall(r"(?:^|`|\$ )make ([a-z0-9 -]+)", text, re.MULTILINE):
            named |= set(line.split())
    assert {"run", "test", "lint", "type"} <= named <= there


def test_every_path_that_the_documents_name_is_there() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text("utf-8")):
            found = list(document.parent.resolve().glob(target + "*"))
            assert found or (document.parent / target).exists(), f"{document} names {target}"


def test_every_decision_has_a_number_of_its_own() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name.split("-")[0]) for path in decisions]
    assert numbers == list(range(1, len(decisions) + 1))
    for number, path in zip(numbers, decisions, strict=True):
        assert path.read_text(encoding="utf-8").startswith(f"# {number}. ")


def test_every_example_has_a_name_and_says_what_it_is_for() -> None:
    examples = list((ROOT / "examples").glob("*/*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert spec["description"]
        assert path.read_text(encoding="utf-8").startswith("# ")
