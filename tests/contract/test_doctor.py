"""What is wrong is found, in words, and does not hide what else is."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from json_server import JsonHandler, serving_json
from registries import new_version, stored_bundle
from treadle import runtime
from treadle.errors import RegistryError
from treadle_pipelines import doctor
from treadle_pipelines.doctor import Finding, Health

Examined = Callable[..., dict[str, Finding]]


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Examined]:
    """Examines with the given settings, and no others."""
    caches = (runtime.settings, runtime.object_store, runtime.registry, runtime.signing_key,
              runtime.verify_key)  # fmt: skip

    def forget() -> None:
        for cached in caches:
            cached.cache_clear()

    def examine(**settings: str) -> dict[str, Finding]:
        monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
        # The client reads KUBECONFIG when it is imported, which was before.
        location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(location, str(tmp_path / "none"))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setattr(doctor, "OUTAGE_S", 0.0)
        for name, value in settings.items():
            monkeypatch.setenv(f"TREADLE_{name.upper()}", value)
        forget()
        return {finding.about: finding for finding in doctor.examine()}

    yield examine
    forget()


class Ready(JsonHandler):
    """A model server that is ready, and Pipelines that answer."""

    def do_GET(self) -> None:
        self.reply(200, {})


def test_a_new_machine_is_well_and_nothing_is_made_on_it(
    examined: Examined, tmp_path: Path
) -> None:
    found = examined()
    assert doctor.is_well(list(found.values()))
    assert "made by the first run" in found["registry"].words
    assert found["kubernetes"].health is Health.ABSENT
    assert not (tmp_path / "home").exists()


def test_what_is_set_and_answers_is_well(examined: Examined) -> None:
    with serving_json(Ready) as url:
        found = examined(server_url=url, kfp_url=url)
    assert {found[about].health for about in ("model server", "pipelines")} == {Health.OK}


def test_each_fault_is_said_with_its_way_out(examined: Examined) -> None:
    nowhere = "http://127.0.0.1:9"
    found = examined(
        server_url=nowhere, kfp_url=nowhere, mlflow_uri=nowhere, kube_context="nowhere",
        object_store="s3://bucket/x", s3_endpoint="127.0.0.1:9", ray_address=nowhere,
    )  # fmt: skip
    faults = {about for about, finding in found.items() if finding.health is Health.FAULT}
    assert faults == {
        "object store", "registry", "bundles", "model server", "ray", "pipelines", "kubernetes",
    }  # fmt: skip
    assert not doctor.is_well(list(found.values()))
    assert "can't be reached (Connection refused): start it, or mend" in found["registry"].words
    assert found["bundles"].words == "as for the object store"
    assert "no Ray cluster answers at http://127.0.0.1:9" in found["ray"].words
    assert "mend TREADLE_SERVER_URL" in found["model server"].words
    assert "mend TREADLE_KFP_URL" in found["pipelines"].words
    assert "127.0.0.1:9" in found["object store"].words
    told = json.loads(doctor.told(list(found.values()), as_json=True))
    assert told["well"] is False
    assert told["findings"][0].keys() == {"about", "health", "words"}


def test_what_does_not_answer_is_asked_once(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def gone() -> tuple[Health, str]:
        asked.append("registry")
        raise RegistryError("the registry is gone")

    monkeypatch.setattr(doctor, "_registry", gone)
    monkeypatch.setattr(doctor, "_champions", lambda: asked.append("champions"))
    found = examined(mlflow_uri="http://127.0.0.1:9")
    assert asked == ["registry"]
    assert found["bundles"] == Finding("bundles", Health.FAULT, "as for the registry")


class RayHead(JsonHandler):
    """A Ray cluster of the version that is installed here."""

    def do_GET(self) -> None:
        import ray

        self.reply(
            200, {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "jobs": []}
        )


def test_a_ray_cluster_is_asked_for_its_version(examined: Examined) -> None:
    with serving_json(RayHead) as url:
        found = examined(ray_address=url)["ray"]
    assert found.health is Health.OK
    assert f"takes jobs at {url}" in found.words
    assert examined(ray_address="local")["ray"].health is Health.ABSENT


def test_a_champion_whose_bundle_is_gone_is_named(
    examined: Examined, tmp_path: Path, blank_database: Path
) -> None:
    (tmp_path / "home").mkdir()
    shutil.copyfile(blank_database, tmp_path / "home" / "mlflow.db")
    examined()
    store, registry = runtime.object_store(), runtime.registry()
    bundle = stored_bundle(tmp_path / "made", store, 2.0)
    registry.register(new_version("lost", digest=bundle.digest), {})
    registry.set_alias("lost", "champion", 1)
    found = examined()
    assert found["registry"].words.startswith("1 model, 1 with a champion")
    assert found["bundles"].health is Health.OK
    assert "written, read and deleted" in found["object store"].words
    for key in list(store.keys("bundles/")):
        store.delete(key)
    found = examined()
    assert "the bundle of lost isn't in the object store" in found["bundles"].words
    assert not list(store.keys("doctor/"))


def test_lines_are_for_people() -> None:
    lines = doctor.told(
        [Finding("home", Health.OK, "here"), Finding("object store", Health.FAULT, "gone")], False
    )
    assert lines.splitlines() == ["ok      home          here", "fault   object store  gone"]
