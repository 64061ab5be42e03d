"""One contract over the registry: SQLite read directly, SQLite through MLflow's client, and a real
MLflow server."""

import contextlib
import math
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from registries import new_version
from treadle.adapters import mlflow_database
from treadle.adapters.mlflow import MlflowRegistry
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.adapters.model_server import free_port
from treadle.errors import RegistryError
from treadle.ports import Registry
from treadle.records import (
    Metric,
    NewVersion,
    Training,
    Trial,
)


def test_an_empty_registry_has_no_models_and_says_so(registry: Registry) -> None:
    assert "nobody" not in registry.names()
    assert registry.aliased("nobody", "champion") is None
    with pytest.raises(RegistryError, match="no model 'nobody'"):
        registry.versions("nobody")


def test_a_version_comes_back_as_it_was_registered(registry: Registry, page: Path) -> None:
    new = new_version("whole")
    kept = registry.register(new, {"page.html": page})
    assert kept.version == 1
    (found,) = registry.versions("whole")
    assert NewVersion(**{f: getattr(found, f) for f in NewVersion.model_fields}) == new
    assert found.version == 1
    assert found.aliases == []
    assert abs(found.created_at.timestamp() - time.time()) < 120


def test_trials_are_runs_nested_under_the_versions(registry: Registry, page: Path) -> None:
    best = Trial(
        number=0, family="forest", parameters={"max_features": 0.5}, seconds=1,
        curve=[(1, -3.0), (3, -2.0), (9, -1.5)],
    )  # fmt: skip
    stopped = Trial(
        number=1, family="linear", parameters={}, curve=[(1, -9.0)], seconds=1, stopped_early=True
    )
    failed = Trial(number=2, family="linear", parameters={}, curve=[], seconds=1, fault="no luck")
    training = Training(
        metric="rmse", higher_is_better=False, trials=[best, stopped, failed], best=best,
        search_seconds=1, refit_seconds=1, fit_rows=9,
    )  # fmt: skip
    new = new_version("nested")
    lineage = new.lineage.model_copy(update={"who": "ada", "commit": "c" * 40})
    new = new.model_copy(update={"lineage": lineage})
    registry.register(new, {"page.html": page}, training=training)
    assert isinstance(registry, MlflowRegistry)
    client = registry._client
    parent = client.get_model_version("nested", "1").run_id
    shown = client.get_run(parent)
    assert shown.data.tags["mlflow.user"] == "ada"
    assert shown.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert shown.info.end_time - shown.info.start_time == 2000
    experiment = shown.info.experiment_id
    # Or else the UI takes it for one of language models.
    kind = client.get_experiment(experiment).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    found = {run.info.run_name: run for run in runs}
    assert {name: run.info.status for name, run in found.items()} == {
        "trial 0: forest": "FINISHED", "trial 1: linear": "KILLED", "trial 2: linear": "FAILED",
    }  # fmt: skip
    whole = found["trial 0: forest"]
    assert whole.data.params == {"family": "forest", "max_features": "0.5"}
    assert whole.data.metrics == {"rmse": 1.5}
    assert whole.info.end_time - whole.info.start_time == 1000
    curve = client.get_metric_history(whole.info.run_id, "rmse")
    assert sorted((point.step, point.value) for point in curve) == [(1, 3.0), (3, 2.0), (9, 1.5)]


def test_versions_are_numbered_and_come_newest_first(registry: Registry, page: Path) -> None:
    for semver in ("1.0.0", "1.1.0", "2.0.0"):
        registry.register(new_version("counted", semver), {"page.html": page})
    found = [(v.version, v.semver) for v in registry.versions("counted")]
    assert found == [(3, "2.0.0"), (2, "1.1.0"), (1, "1.0.0")]
    assert "counted" in registry.names()


def test_an_alias_points_at_one_version_and_moves(registry: Registry, page: Path) -> None:
    for digest in ("1" * 32, "2" * 32):
        registry.register(new_version("moved", digest=digest), {"page.html": page})
    assert registry.aliased("moved", "champion") is None
    for version in (1, 2):
        registry.set_alias("moved", "champion", version)
        found = registry.aliased("moved", "champion")
        assert found is not None
        assert found.version == version
        assert found.digest == str(version) * 32
        assert found.aliases == ["champion"]
    registry.set_alias("moved", "challenger", 2)
    assert registry.aliases()["moved"] == {"champion": 2, "challenger": 2}
    assert registry.versions("moved")[0].aliases == ["challenger", "champion"]
    registry.remove_alias("moved", "champion")
    registry.remove_alias("moved", "champion")
    assert registry.aliased("moved", "champion") is None


def test_a_near_miss_is_named(registry: Registry, page: Path) -> None:
    registry.register(new_version("churn"), {"page.html": page})
    with pytest.raises(RegistryError, match="did you mean 'churn'"):
        registry.versions("chrun")


def test_an_alias_on_a_version_that_is_not_there_is_refused(registry: Registry, page: Path) -> None:
    registry.register(new_version("short"), {"page.html": page})
    with pytest.raises(RegistryError, match="refused"):
        registry.set_alias("short", "champion", 9)
    assert registry.aliased("short", "champion") is None
    assert registry.aliases()["short"] == {}


def test_a_database_that_is_no_database_is_put_into_words(tmp_path: Path) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"garbage" * 1000)
    with pytest.raises(RegistryError, match="can't be read"):
        SqliteMlflowRegistry(broken, tmp_path).names()


def test_a_server_that_does_not_answer_is_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1"):
        MlflowRegistry(f"http://127.0.0.1:{free_port()}").names()


def test_what_is_written_directly_is_what_mlflow_reads(
    embedded: SqliteMlflowRegistry, page: Path, tmp_path: Path
) -> None:
    new = new_version("both", "1.2.0")
    undefined = Metric(name="r2", value=math.nan, low=0, high=0, higher_is_better=True)
    new = new.model_copy(update={"metrics": [*new.metrics, undefined]})
    embedded.register(new, {"page.html": page})
    embedded.set_alias("both", "champion", 1)
    through_mlflow = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = through_mlflow.versions("both")
    assert found.aliases == ["champion"]
    assert found.model_dump_json() == embedded.versions("both")[0].model_dump_json()
    assert through_mlflow.names() == ["both"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    version = client.get_model_version("both", "1")
    assert (version.status, version.source) == ("READY", new.source)
    assert client.get_model_version_download_uri("both", "1") == new.source
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["roc_auc"] == 0.8
    assert math.isnan(run.data.metrics["r2"])
    assert run.data.params == {"family": "linear", "regularisation": "0.5"}
    assert [file.path for file in client.list_artifacts(version.run_id)] == ["page.html"]
    listed = client.search_runs([run.info.experiment_id])
    names = {found.info.run_name: found.info.run_id for found in listed}
    assert names.keys() == {"both 1.2.0", "both: history"}
    assert names["both 1.2.0"] == version.run_id


def test_mlflows_client_and_direct_writing_take_turns(
    embedded: SqliteMlflowRegistry, page: Path, tmp_path: Path
) -> None:
    through_mlflow = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db")
    embedded.register(new_version("turns", "1.0.0"), {"page.html": page})
    through_mlflow.register(new_version("turns", "1.1.0"), {"page.html": page})
    embedded.register(new_version("turns", "1.2.0"), {"page.html": page})
    through_mlflow.set_alias("turns", "champion", 3)
    embedded.set_alias("turns", "champion", 2)
    found = [(v.version, v.semver, v.aliases) for v in through_mlflow.versions("turns")]
    assert found == [(3, "1.2.0", []), (2, "1.1.0", ["champion"]), (1, "1.0.0", [])]


def test_versions_registered_at_once_get_numbers_of_their_own(
    embedded: SqliteMlflowRegistry, page: Path
) -> None:
    embedded.register(new_version("busy"), {"page.html": page})
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(embedded.register, new_version("busy"), {"page.html": page})
            for _ in range(24)
        ]
        numbers = sorted(job.result().version for job in jobs)
    assert numbers == list(range(2, 26))


def test_a_registration_that_breaks_off_leaves_nothing(
    embedded: SqliteMlflowRegistry, page: Path, tmp_path: Path
) -> None:
    embedded.register(new_version("kept"), {"page.html": page})
    before = sorted((tmp_path / "artifacts").rglob("*"))
    with pytest.raises(FileNotFoundError):
        embedded.register(new_version("broken"), {"page.html": tmp_path / "not there"})
    assert embedded.names() == ["kept"]
    assert sorted((tmp_path / "artifacts").rglob("*")) == before


def test_a_database_that_mlflow_has_changed_is_left_to_its_client(
    embedded: SqliteMlflowRegistry, page: Path, tmp_path: Path
) -> None:
    """As a later MLflow might: a column that must be filled in, which we know nothing of."""
    embedded.register(new_version("old"), {"page.html": page})
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("ALTER TABLE registered_models RENAME COLUMN workspace TO tenant")
        database.commit()
    with pytest.raises(Exception, match="workspace"):
        embedded.names()  # MLflow 3.17's client, which doesn't know that column either


def test_two_runs_may_make_the_database_at_once(tmp_path: Path) -> None:
    database, artifacts = tmp_path / "mlflow.db", tmp_path / "artifacts"
    with ThreadPoolExecutor(2) as threads:
        for job in [threads.submit(mlflow_database.create, database, artifacts) for _ in range(2)]:
            job.result()
    assert SqliteMlflowRegistry(database, artifacts).names() == []
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
