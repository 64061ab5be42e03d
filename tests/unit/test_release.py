"""What a release needs is there, and the review of dependencies keeps up with what is asked for."""

import re
import tomllib

from documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REVIEW = (ROOT / "docs/adr/0006-dependencies.md").read_text(encoding="utf-8")
# Not installed with Treadle, and reviewed all the same: fetched at export, and used in a build.
ELSEWHERE = {"onnxruntime-web", "cyclonedx-bom"}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?", requirement)
    assert found is not None
    return found[0]


def wanted(*groups: list[str]) -> set[str]:
    return {name_of(requirement).partition("[")[0] for group in groups for requirement in group}


def reviewed(part: str) -> dict[str, list[str]]:
    """The rows of a table by the packages they are about."""
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return {
        name.partition("[")[0]: rest
        for packages, *rest in rows
        for name in packages.split(", ")
        if packages != "package" and not packages.startswith("---")
    }


def test_every_dependency_is_reviewed_and_nothing_that_is_gone() -> None:
    used, _, development = REVIEW.partition("## For development")
    extras = PROJECT["project"]["optional-dependencies"].values()
    assert set(reviewed(used.replace("default,tune", ""))) == (
        wanted(PROJECT["project"]["dependencies"], *extras) | ELSEWHERE
    )
    assert set(reviewed(development)) == wanted(PROJECT["dependency-groups"]["dev"])


def test_a_review_says_version_month_licence_and_purpose() -> None:
    for package, row in reviewed(REVIEW.replace("default,tune", "")).items():
        released, licence, purpose = row
        assert re.fullmatch(r"\S+, 20\d\d-(0[1-9]|1[0-2])", released), package
        assert len(licence) > 2, package
        assert len(purpose) > 4, package


def test_the_version_is_released_and_the_changelog_says_what_is_in_it() -> None:
    number = PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", number)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(number)}, 20\d\d-\d\d-\d\d$", changelog, re.MULTILINE)


def test_the_wheel_holds_every_package() -> None:
    roots = ("components", "pipelines", "serving")
    found = {
        str(p.parent.relative_to(ROOT)) for r in roots for p in ROOT.glob(f"{r}/*/__init__.py")
    }
    assert found == set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


def test_the_release_check_tries_every_extra() -> None:
    script = (ROOT / "scripts/release-check").read_text(encoding="utf-8")
    extras = ",".join(sorted(PROJECT["project"]["optional-dependencies"]))
    assert f"treadle[{extras}]" in script


def test_a_stranger_finds_how_to_report_a_weakness() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "in private" in policy
    assert "Which versions are mended" in policy
