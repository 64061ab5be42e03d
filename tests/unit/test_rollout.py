"""Deployment waits until every server behind an address answers with the new version."""

from itertools import chain, repeat
from typing import Any

import pytest

from treadle.deployment import rollout
from treadle.errors import EnvironmentFault, ModelError
from treadle.records import ModelVersion

VERSION = ModelVersion.model_construct(name="wine", version=2, digest="new")


class Replicas:
    """Servers that take turns; each answers with what it serves at that moment."""

    url = "http://server:3000"

    def __init__(self, *digests: str, alone: bool = False) -> None:
        self.alone = alone
        self.asked = 0
        self._digests = chain(digests, repeat(digests[-1]))

    def predict(self, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked += 1
        digest = next(self._digests)
        if digest == "down":
            raise EnvironmentFault("the server at http://server:3000 doesn't answer")
        return {"digest": digest}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "ASK_EVERY_S", 0.0)


def test_one_replica_that_lags_is_waited_for() -> None:
    servers = Replicas(*["new", "old"] * 5, "new")
    rollout._wait_until_served(VERSION, {}, servers)
    assert servers.asked == 10 + rollout.ANSWERS_IN_A_ROW


def test_a_server_that_is_alone_is_asked_once() -> None:
    server = Replicas("new", alone=True)
    rollout._wait_until_served(VERSION, {}, server)
    assert server.asked == 1


@pytest.mark.parametrize(
    ("digests", "said"), [(["new", "old"], "it says old"), (["down"], "doesn't answer")]
)
def test_a_replica_that_stays_behind_is_named_by_what_it_says(
    digests: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "PATIENCE_S", 0.05)
    with pytest.raises(ModelError, match=said):
        rollout._wait_until_served(VERSION, {}, Replicas(*digests * 100_000))
