"""The next semantic version follows from what changed."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from registries import new_version
from treadle.records import Feature, Kind, ModelVersion, Snapshot
from treadle.registry.register import next_semver
from treadle.spec import Spec

SPEC = {"name": "m", "target": "y", "source": "a.csv"}


def spec(**changes: Any) -> str:
    return Spec.model_validate(SPEC | changes).model_dump_json()


def version(semver: str = "2.3.4", told: str | None = None) -> ModelVersion:
    new = new_version("m", semver)
    lineage = new.lineage.model_copy(update={"spec": told or spec()})
    fields = dict(new) | {"lineage": lineage}
    return ModelVersion(**fields, version=1, created_at=datetime.now(UTC))


def snapshot(digest: str = "s" * 32) -> Snapshot:
    return Snapshot(digest=digest, rows=3, columns=[], size_bytes=9, source="a.csv")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, "2.3.5"),
        ({"owner": "ann", "description": "x", "tags": {"a": "b"}}, "2.3.5"),
        ({"approval": "required"}, "2.3.5"),
        ({"source": "moved.csv"}, "2.3.5"),
        ({"training": {"trials": 99}}, "2.4.0"),
        ({"training": {"seed": 1}}, "2.4.0"),
        ({"preprocessing": {"test_share": 0.5}}, "2.4.0"),
    ],
)
def test_parameters_are_minor_and_a_rebuild_is_a_patch(change: dict[str, Any], wanted: str) -> None:
    former = version()
    assert next_semver(former, former.signature, snapshot(), spec(**change)) == wanted


def test_other_rows_are_minor() -> None:
    former = version()
    assert next_semver(former, former.signature, snapshot("t" * 32), spec()) == "2.4.0"


def test_a_signature_that_asks_or_answers_otherwise_is_major() -> None:
    former = version()
    signature = former.signature
    more = [*signature.features, Feature(name="new", kind=Kind.NUMBER)]
    stricter = [f.model_copy(update={"nullable": False}) for f in signature.features]
    for change in (
        {"features": more},
        {"features": stricter},
        {"classes": ["ja", "nein", "vielleicht"]},
        {"target": "other"},
    ):
        changed = signature.model_copy(update=change)
        assert next_semver(former, changed, snapshot(), spec()) == "3.0.0"
    turned = signature.model_copy(update={"features": more})
    around = signature.model_copy(update={"features": more[::-1]})
    later = former.model_copy(update={"signature": turned})
    assert next_semver(later, around, snapshot(), spec()) == "2.3.5"


def test_a_spec_of_an_earlier_release_is_read_as_it_was_meant() -> None:
    told = json.loads(spec())
    del told["approval"], told["tags"], told["resources"]
    former = version(told=json.dumps(told))
    assert next_semver(former, former.signature, snapshot(), spec()) == "2.3.5"
    former = version(told=json.dumps(told | {"gone": 1}))
    assert next_semver(former, former.signature, snapshot(), spec()) == "2.3.5"


def test_the_first_version_is_1_0_0() -> None:
    assert next_semver(None, version().signature, snapshot(), spec()) == "1.0.0"
