"""Versions are found by words, tags, owner, metrics and alias, over every registry."""

import json
import math
from typing import Any

import pytest

from registries import new_version
from treadle.adapters.mlflow import MlflowRegistry
from treadle.ports import Registry
from treadle.records import Bound, Metric, Query

FIRST = "treadle.owner"


def register(registry: Registry, name: str, value: float = 0.8, **spec: Any) -> None:
    new = new_version(name)
    told = json.dumps({"name": name, **spec})
    metric = Metric(name="roc_auc", value=value, low=0, high=1, higher_is_better=True)
    lineage = new.lineage.model_copy(update={"spec": told})
    registry.register(new.model_copy(update={"lineage": lineage, "metrics": [metric]}), {})


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """Four versions of three models; made once a registry."""
    if "find-a" not in registry.names():
        register(registry, "find-a", 0.7, owner="ann", description="Größte 100% Kündiger")
        register(registry, "find-a", 0.9, owner="ann", tags={"team": "risk"})
        register(registry, "find-b", 0.8, owner='it\'s "bob"', tags={"team": "risk"})
        register(registry, "find-c", math.nan, tags={"team": 'it\'s "x"'})
        registry.set_alias("find-a", "champion", 1)
    return registry


def bound(sign: str, value: float) -> Bound:
    return Bound(metric="roc_auc", sign=sign, value=value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Query(words=["find-"]), ["find-a 2", "find-a 1", "find-b 1", "find-c 1"]),
        # Case is folded as Unicode has it: ß is ss.
        (Query(words=["FIND-", "GRÖSSTE"]), ["find-a 1"]),
        (Query(words=["find-", "GRÖßte"]), ["find-a 1"]),
        (Query(words=["find-", "100%"]), ["find-a 1"]),
        (Query(words=["find-", "1_0"]), []),
        (Query(words=["find-", 'it\'s "bob"']), ["find-b 1"]),
        (Query(words=["find-", "linear", "gekündigt"]), [
            "find-a 2", "find-a 1", "find-b 1", "find-c 1",
        ]),
        (Query(words=["find-"], tags={"team": "risk"}), ["find-a 2", "find-b 1"]),
        (Query(words=["find-"], tags={"team": "ris_"}), []),
        (Query(tags={"team": 'it\'s "x"'}), ["find-c 1"]),
        (Query(words=["find-"], tags={FIRST: "ann"}), ["find-a 2", "find-a 1"]),
        (Query(words=["find-"], tags={FIRST: "ann", "team": "risk"}), ["find-a 2"]),
        (Query(words=["find-"], bounds=[bound(">", 0.7)]), ["find-a 2", "find-b 1"]),
        (Query(words=["find-"], bounds=[bound(">=", 0.7), bound("<", 0.9)]), [
            "find-a 1", "find-b 1",
        ]),
        (Query(words=["find-"], bounds=[Bound(metric="rmse", sign="<", value=1)]), []),
        (Query(words=["find-"], alias="champion"), ["find-a 1"]),
    ],
)  # fmt: skip
def test_what_is_looked_for_is_found(filled: Registry, wanted: Query, expected: list[str]) -> None:
    found = [f"{v.name} {v.version}" for v in filled.find(wanted, 10)]
    assert found == expected


def test_a_page_is_a_part_of_the_whole(filled: Registry) -> None:
    whole = filled.find(Query(words=["find-"]), 10)
    pages = [filled.find(Query(words=["find-"]), 3, offset) for offset in (0, 3, 6)]
    assert [len(page) for page in pages] == [3, 1, 0]
    numbers = [(v.name, v.version) for page in pages for v in page]
    assert numbers == [(v.name, v.version) for v in whole]
    assert whole[1].aliases == ["champion"]


def test_an_empty_registry_has_nothing_to_find(tmp_path_factory: pytest.TempPathFactory) -> None:
    from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

    directory = tmp_path_factory.mktemp("empty")
    registry = SqliteMlflowRegistry(directory / "mlflow.db", directory / "artifacts")
    assert registry.find(Query(words=["x"]), 10) == []
    assert not (directory / "mlflow.db").exists()


def test_a_tag_that_was_set_with_mlflows_own_tools_is_found(filled: Registry) -> None:
    if isinstance(filled, MlflowRegistry):
        filled._client.set_model_version_tag("find-b", "1", "stage", "später")
        found = filled.find(Query(tags={"stage": "später"}), 10)
        assert [v.name for v in found] == ["find-b"]
