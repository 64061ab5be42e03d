"""A version that the gate let through is promoted where the champion is still the one that it was
held against, and the former one comes back where it can't be served."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registries import new_version, stored_bundle
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.bundle import Bundle
from treadle.deployment import promotion, rollout
from treadle.errors import ModelError
from treadle.ports import Registry
from treadle.records import Decision, ModelVersion, Rollout

YES = Decision(passed=True, reasons=["12 % better"])


class Answering:
    """A server that serves whatever is the champion; ``meanwhile`` is done at the first request."""

    url, alone = "http://server:3000", True

    def __init__(self, registry: Registry, bundles: dict[str, Bundle], meanwhile: Any) -> None:
        self._registry, self._bundles, self._meanwhile = registry, bundles, meanwhile

    def predict(self, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        self._meanwhile()
        champion = self._registry.aliased(model, "champion")
        assert champion is not None
        answers = self._bundles[champion.digest].predict_rows(rows)
        return {"digest": champion.digest, "predictions": answers}


class Deployment:
    """Three versions of a model, and a way to roll them out."""

    def __init__(self, name: str, registry: Registry, store: DirectoryStore, place: Path) -> None:
        made = [stored_bundle(place / f"{name}-{n}", store, float(n)) for n in (1, 2, 3)]
        self.name, self.registry = name, registry
        self.bundles = {bundle.digest: bundle for bundle in made}
        self.versions = [
            registry.register(new_version(name, f"1.{n}.0", bundle.digest), {})
            for n, bundle in enumerate(made)
        ]
        self.fetch = partial(Bundle.fetch, store=store, verify_key=None)

    def roll_out(
        self, version: ModelVersion, beaten: str | None, meanwhile: Any = lambda: None
    ) -> Rollout:
        @contextmanager
        def serving() -> Iterator[Answering]:
            yield Answering(self.registry, self.bundles, meanwhile)

        return rollout.run(version, YES, beaten, self.fetch, self.registry, serving)

    def promote(self, version: ModelVersion) -> None:
        promotion.promote(version, self.registry, self.fetch, "ann", "")

    @property
    def champion(self) -> int | None:
        found = self.registry.aliased(self.name, "champion")
        return found.version if found else None


@pytest.fixture
def deployment(embedded: SqliteMlflowRegistry, tmp_path: Path) -> Deployment:
    return Deployment("wine", embedded, DirectoryStore(tmp_path / "objects"), tmp_path)


def test_what_beat_the_champion_of_now_takes_its_place(deployment: Deployment) -> None:
    first, second, _ = deployment.versions
    assert deployment.roll_out(first, None).promoted
    assert deployment.roll_out(second, first.digest).promoted
    assert deployment.champion == 2


def test_what_beat_another_champion_than_there_is_now_waits(deployment: Deployment) -> None:
    first, second, third = deployment.versions
    deployment.promote(second)
    for beaten in (None, first.digest):
        done = deployment.roll_out(third, beaten)
        assert not done.promoted
        assert "version 2 has become the champion since the gate looked" in done.reasons[-1]
        assert "run it again" in done.reasons[-1]
    assert deployment.champion == 2
    challenger = deployment.registry.aliased(deployment.name, "challenger")
    assert challenger is not None
    assert challenger.version == 3


def test_the_champion_itself_is_rolled_out_whatever_it_was_held_against(
    deployment: Deployment,
) -> None:
    first, *_ = deployment.versions
    deployment.promote(first)
    assert deployment.roll_out(first, None).promoted
    assert len(deployment.registry.history(deployment.name)) == 1


def test_what_can_not_be_served_makes_way_for_the_former(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = deployment.versions
    deployment.promote(first)

    def fails() -> None:
        raise ModelError("the server is on fire")

    monkeypatch.setattr(rollout, "PATIENCE_S", 0.05)
    with pytest.raises(ModelError, match="on fire"):
        deployment.roll_out(second, first.digest, fails)
    assert deployment.champion == 1
    last = deployment.registry.history(deployment.name)[-1]
    assert (last.kind.value, last.to_version) == ("rolled back", 1)
    assert "couldn't be served" in last.why


def test_what_a_person_promoted_meanwhile_is_left_alone(deployment: Deployment) -> None:
    first, second, third = deployment.versions
    deployment.promote(first)

    def interrupted() -> None:
        deployment.promote(third)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployment.roll_out(second, first.digest, interrupted)
    assert deployment.champion == 3
    assert deployment.registry.history(deployment.name)[-1].kind.value == "promoted"
