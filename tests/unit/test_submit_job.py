"""Submitting to a cluster as a Job: what is made there, and how its log is followed to the end,
against a stand-in for the API server."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from fake_cluster import FakeCluster, start_fake_cluster
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.kubernetes import Cluster
from treadle.config import Settings
from treadle.errors import DataError, EnvironmentFault, SpecError
from treadle.spec import Spec
from treadle_pipelines import following, job, job_log, job_runs, spec_file, submit, uploads
from treadle_pipelines.local import Run

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
SUMMARY = {"promoted": True, "version": 1, "reasons": ["better"], "prediction": {}}


@pytest.fixture
def wine() -> Spec:
    return spec_file.load(ROOT / "examples/wine/wine.yaml")


class S3Like(DirectoryStore):
    """A store that a cluster could reach, as far as its addresses say."""

    puts: list[str]

    def put_file(self, key: str, path: Path) -> None:
        self.puts.append(key)
        super().put_file(key, path)

    def uri(self, key: str) -> str:
        return f"s3://treadle/objects/{key}"


@pytest.fixture
def store(tmp_path: Path) -> S3Like:
    made = S3Like(tmp_path / "objects")
    made.puts = []
    return made


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with start_fake_cluster() as running:
        running.add("ConfigMap", job.SETTINGS)
        running.add("ServiceAccount", job.ACCOUNT)
        yield running


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cluster(
    fake: FakeCluster, said: list[str], store: S3Like, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Cluster:  # fmt: skip
    path = fake.kubeconfig(tmp_path / "config")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setattr("treadle.runtime.object_store", lambda: store)
    monkeypatch.setattr(following, "POLL_S", 0.01)
    return Cluster.connect(say=said.append, outage_s=5)


def at(fake: FakeCluster, kind: str) -> list[Object]:
    return [each for each in fake.objects.values() if each["kind"] == kind]


def test_a_job_has_all_that_a_run_needs_and_the_pod_is_restricted(
    fake: FakeCluster, cluster: Cluster, wine: Spec, said: list[str]
) -> None:
    name = job_runs.start(cluster, wine, "5Gi", said.append)
    (made,) = at(fake, "Job")
    (claim,) = at(fake, "PersistentVolumeClaim")
    carried = next(each for each in at(fake, "ConfigMap") if each["metadata"]["name"] == name)
    assert claim["metadata"]["name"] == "treadle-home-wine"
    assert carried["metadata"]["ownerReferences"][0]["name"] == name
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "treadle-settings"}},
        {"secretRef": {"name": "treadle-s3"}},
        {"secretRef": {"name": "treadle-signing", "optional": True}},
    ]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]
    # What the pod reads is a spec that says the same.
    again = spec_file.parse(carried["data"][job.SPEC_FILE], Path("spec.yaml"))
    assert again.training == wine.training
    assert "budget_s" not in carried["data"][job.SPEC_FILE]  # only what a person wrote
    assert again.source.tables["data"].path.startswith("s3://treadle/objects/sources/")


def test_the_objects_are_what_the_clients_models_know(wine: Spec) -> None:
    """Every key of a Job, CronJob, claim and ConfigMap is one that the API has."""
    models = [
        (job.job("a", wine), client.V1Job),
        (job.cron_job("a", wine, "0 3 * * *"), client.V1CronJob),
        (job.volume("wine", "5Gi"), client.V1PersistentVolumeClaim),
        (job.spec_map("a", wine), client.V1ConfigMap),
    ]
    for made, model in models:
        check_model(made, model.__name__, made["kind"])


def check_model(value: Any, kind: str, place: str) -> None:
    if kind.startswith("list["):
        for position, each in enumerate(value):
            check_model(each, kind[5:-1], f"{place}[{position}]")
        return
    model = getattr(client, kind, None)
    if model is None:
        return  # a plain value, or a dict of such
    types = {key: model.openapi_types[name] for name, key in model.attribute_map.items()}
    for key, inner in value.items():
        assert key in types, f"{place}.{key} is unknown to {kind}"
        check_model(inner, types[key], f"{place}.{key}")


def test_a_pod_asks_for_the_most_that_any_step_asks_for(wine: Spec) -> None:
    text = "resources: {memory: 900Mi, steps: {train: {cpu_limit: 8, memory: 1Gi, retries: 5}}}"
    asked = Spec.model_validate(wine.model_dump(mode="json") | yaml.safe_load(text)).resources
    whole = job.whole_run(asked)
    assert (whole.cpu, whole.cpu_limit, whole.memory, whole.retries) == (0.25, 8, "1Gi", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cpu: 4}", "ingest is promised 4 processors"),
        ("{steps: {trian: {cpu: 1}}}", "trian"),
        ("{memory: lots}", "memory, promised and at most, as in 3Gi"),
        ("{steps: {train: {memry: 1Gi}}}", "unknown key 'memry'"),
    ],
)
def test_resources_that_cannot_be_meant_are_refused_in_words(text: str, said: str) -> None:
    whole = (ROOT / "examples/wine/wine.yaml").read_text() + f"\nresources: {text}\n"
    with pytest.raises(SpecError, match=said):
        spec_file.parse(whole, Path("wine.yaml"))


def test_local_files_are_uploaded_once_and_named_by_their_content(
    store: S3Like, tmp_path: Path, wine: Spec
) -> None:
    for part in ("a", "b"):
        (tmp_path / f"{part}.csv").write_text(f"x,y\n1,{part}\n")
    source = {"tables": {"one": {"path": str(tmp_path / "a.csv")},
                         "many": {"path": str(tmp_path / "*.csv")},
                         "far": {"path": "https://example.org/x.csv"}},
              "sql": "FROM one"}  # fmt: skip
    spec = Spec.model_validate(wine.model_dump(mode="json") | {"source": source})
    first = uploads.uploaded(spec, lambda: store, lambda _: None)
    paths = {name: table.path for name, table in first.source.tables.items()}
    assert paths["far"] == "https://example.org/x.csv"
    assert paths["one"].startswith("s3://treadle/objects/sources/")
    assert paths["one"].endswith("/a.csv")
    assert paths["many"].endswith("/*")
    assert len(store.puts) == 3
    assert uploads.uploaded(spec, lambda: store, lambda _: None) == first
    assert len(store.puts) == 3
    (tmp_path / "a.csv").write_text("x,y\n2,a\n")
    assert uploads.uploaded(spec, lambda: store, lambda _: None) != first


def test_directories_that_are_columns_stay_in_the_names(
    store: S3Like, tmp_path: Path, wine: Spec
) -> None:
    for year in ("2024", "2025"):
        part = tmp_path / "data" / f"year={year}"
        part.mkdir(parents=True)
        (part / "x.csv").write_text("x\n1\n")

    def keys(path: Path) -> list[str]:
        source = {"path": str(path)}
        spec = Spec.model_validate(wine.model_dump(mode="json") | {"source": source})
        store.puts = []
        uploads.uploaded(spec, lambda: store, lambda _: None)
        return [key.split("/", 2)[2] for key in store.puts]

    assert keys(tmp_path / "data" / "*" / "*.csv") == ["year=2024/x.csv", "year=2025/x.csv"]
    assert keys(tmp_path / "data" / "year=2024" / "x.csv") == ["year=2024/x.csv"]


def test_a_file_that_no_cluster_could_read_is_refused_with_the_way_out(
    tmp_path: Path, wine: Spec
) -> None:
    with pytest.raises(SpecError, match=r"TREADLE_OBJECT_STORE.*as it is reached from here"):
        uploads.uploaded(wine, lambda: DirectoryStore(tmp_path), lambda _: None)
    gone = wine.source.model_copy(update={"tables": {"data": wine.source.tables["data"].model_copy(
        update={"path": "/nowhere/x.csv"})}})  # fmt: skip
    made = S3Like(tmp_path)
    with pytest.raises(DataError, match=r"no such file: /nowhere/x\.csv"):
        uploads.uploaded(wine.model_copy(update={"source": gone}), lambda: made, lambda _: None)


def test_a_cluster_without_treadle_is_said_to_be_so(fake: FakeCluster, cluster: Cluster) -> None:
    assert job_runs.check(cluster) == "v1.34.4"
    fake.objects.clear()
    with pytest.raises(EnvironmentFault, match="has no ConfigMap treadle-settings: make deploy"):
        job_runs.check(cluster)


def test_a_second_run_of_a_model_is_refused_while_one_is_under_way(
    fake: FakeCluster, cluster: Cluster, wine: Spec, said: list[str]
) -> None:
    name = job_runs.start(cluster, wine, "5Gi", said.append)
    with pytest.raises(EnvironmentFault, match=f"a run of wine is under way, Job {name}: --follow"):
        job_runs.start(cluster, wine, "5Gi", said.append)
    assert job_runs.attach(cluster, "wine") == name
    at(fake, "Job")[0]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    with pytest.raises(SpecError, match="no run of wine is under way"):
        job_runs.attach(cluster, "wine")


def test_a_job_that_is_refused_leaves_nothing_behind(
    fake: FakeCluster, cluster: Cluster, wine: Spec, said: list[str]
) -> None:
    message = ('jobs.batch is forbidden: User "me" cannot create resource "jobs" in API group '
               '"batch" in the namespace "treadle"')  # fmt: skip

    def refuse(method: str, path: str) -> tuple[int, object] | None:
        refused = method == "PATCH" and "/jobs/" in path
        return (403, {"message": message}) if refused else None

    fake.answer = refuse
    with pytest.raises(EnvironmentFault, match="me may not create jobs of batch in namespace"):
        job_runs.start(cluster, wine, "5Gi", said.append)
    assert [each["metadata"]["name"] for each in at(fake, "ConfigMap")] == [job.SETTINGS]


def event(kind: str, **more: Any) -> str:
    return json.dumps({"at": 1.0, "kind": kind, **more})


def ended_pod(code: int, reason: str = "Error") -> Object:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    return {"phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [{"name": "run", "state": state}]}  # fmt: skip


def add_pod(fake: FakeCluster, name: str, log: list[str], status: Object) -> Object:
    limits = {"limits": {"memory": "3Gi"}}
    container = {"name": "run", "image": "treadle-step:1", "resources": limits}
    fake.logs[name] = log
    return fake.add("Pod", name, spec={"containers": [container]}, status=status,
                    metadata={"labels": {"job-name": "j"}})  # fmt: skip


def add_job(fake: FakeCluster, *conditions: str) -> Object:
    status = {"conditions": [{"type": each, "status": "True"} for each in conditions]}
    return fake.add("Job", "j", "apis/batch/v1", spec={}, status=status)


def followed(cluster: Cluster, said: list[str]) -> tuple[following.Outcome, list[str]]:
    seen: list[str] = []
    done = following.follow(cluster, "j", lambda e: seen.append(e.get("stage", e["kind"])),
                            said.append)  # fmt: skip
    return done, seen


def test_events_are_shown_and_the_summary_ends_the_run(
    fake: FakeCluster, cluster: Cluster, said: list[str]
) -> None:
    add_job(fake, "Complete")
    log = [event("started", stage="ingest"), "a warning of some library",
           event("started", stage="train"), event("ended", summary=SUMMARY)]  # fmt: skip
    add_pod(fake, "j-1", log, ended_pod(0))
    done, seen = followed(cluster, said)
    assert seen == ["ingest", "train"]
    assert done.summary == SUMMARY
    assert done.exit_code == 0


def test_a_connection_that_is_lost_costs_no_event_and_repeats_none(
    fake: FakeCluster, cluster: Cluster, said: list[str]
) -> None:
    """The log breaks off twice, once within a line."""
    add_job(fake, "Complete")
    log = [event("started", stage=f"s{i}") for i in range(6)] + [event("ended", summary=SUMMARY)]
    found = add_pod(fake, "j-1", log, {"phase": "Running"})
    fake.log_cuts = [100, 250]

    def end(method: str, path: str) -> None:
        if path.endswith("/log") and not fake.log_cuts:
            found["status"] = ended_pod(0)

    fake.answer = end
    done, seen = followed(cluster, said)
    assert seen == [f"s{i}" for i in range(6)]
    assert done.summary == SUMMARY


@pytest.mark.parametrize(
    ("log", "status", "code", "words"),
    [
        ([event("ended", error="validate: too many rows are bad", exit_code=3)], ended_pod(3), 3,
         "validate: too many rows are bad"),
        ([event("ended", error="spec.yaml: unknown key", exit_code=2)], ended_pod(2), 2,
         "unknown key"),
        ([], ended_pod(137, "OOMKilled"), 1, "more memory than its limit of 3Gi"),
        (["exec: treadle: not found"], ended_pod(127), 1, "exec: treadle: not found"),
    ],
)  # fmt: skip
def test_how_a_run_failed_is_told_with_its_exit_code(
    fake: FakeCluster, cluster: Cluster, said: list[str],
    log: list[str], status: Object, code: int, words: str,
) -> None:  # fmt: skip
    add_job(fake, "Failed")
    add_pod(fake, "j-1", log, status)
    done, _ = followed(cluster, said)
    assert done.exit_code == code
    assert words in done.error


def test_a_gate_that_said_no_after_all_steps_is_exit_code_3(
    fake: FakeCluster, cluster: Cluster, said: list[str]
) -> None:
    add_job(fake, "Failed")
    add_pod(fake, "j-1", [event("ended", summary=SUMMARY | {"promoted": False})], ended_pod(3))
    done, _ = followed(cluster, said)
    assert (done.exit_code, done.summary) == (3, SUMMARY | {"promoted": False})


def test_the_pod_after_a_lost_one_is_followed_too(
    fake: FakeCluster, cluster: Cluster, said: list[str]
) -> None:
    found = add_job(fake)
    add_pod(fake, "j-1", [event("started", stage="ingest")], ended_pod(137, "OOMKilled"))

    def replace(method: str, path: str) -> None:
        if any("tries again" in words for words in said) and "j-2" not in fake.logs:
            add_pod(fake, "j-2", [event("ended", summary=SUMMARY)], ended_pod(0))
            found["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    fake.answer = replace
    done, _ = followed(cluster, said)
    assert done.summary == SUMMARY
    assert any("goes on from what was finished" in words for words in said)


def test_a_pod_that_cannot_begin_ends_the_wait_with_the_reason(
    fake: FakeCluster, cluster: Cluster, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1_000_000, 10))
    monkeypatch.setattr(following.time, "monotonic", lambda: float(next(clock)))
    add_job(fake)
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "run", "state": {"waiting": waiting}}],
    }
    add_pod(fake, "j-1", [], status)
    with pytest.raises(EnvironmentFault, match=r"no image treadle-step:1.*Job j is left as it is"):
        followed(cluster, said)


def test_a_job_that_somebody_deletes_is_said_to_be_gone(cluster: Cluster, said: list[str]) -> None:
    done, _ = followed(cluster, said)
    assert "somebody has deleted it" in done.error


def test_a_schedule_becomes_a_cron_job_and_a_later_one_replaces_it(
    fake: FakeCluster, cluster: Cluster, wine: Spec, said: list[str]
) -> None:
    for when in ("0 3 * * *", "30 4 * * 1"):
        name = job_runs.schedule(cluster, wine, "5Gi", when, said.append)
    (made,) = at(fake, "CronJob")
    assert made["metadata"]["name"] == name == "treadle-wine"
    assert made["spec"]["schedule"] == "30 4 * * 1"
    assert made["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize(
    ("every", "fields"),
    [("30m", "*/30 * * * *"), ("6h", r"\d+ \*/6 \* \* \*"), ("1d", r"\d+ \d+ \* \* \*"),
     ("7d", r"\d+ \d+ \* \* [0-6]")],
)  # fmt: skip
def test_intervals_become_cron_fields(every: str, fields: str) -> None:
    import re

    found = job.schedule_of(every)
    assert found == fields or re.fullmatch(fields, found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": "7m5"}, "no interval"),
        ({"every": "1d", "cron": "0 3 * * *"}, "both say when"),
        ({"cron": "0 3 * *"}, "has 4 fields"),
        ({"follow": True, "detach": True}, "no other flag"),
        ({"disk": "big"}, "is no size"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused_in_words(options: Object, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        submit.Options(**options)
    with pytest.raises(SpecError, match="no interval that a CronJob keeps"):
        job.schedule_of("7m")


@pytest.fixture
def ran(
    tmp_path: Path, store: S3Like, monkeypatch: pytest.MonkeyPatch
) -> Callable[[BaseException | Object], None]:
    def give(result: BaseException | Object) -> None:
        def run(*_: object) -> object:
            if isinstance(result, BaseException):
                raise result
            return Run("wine-1", tmp_path)

        (tmp_path / "r.html").write_text("<h1>wine</h1>")
        monkeypatch.setattr("treadle.runtime.settings", lambda: Settings(home=tmp_path))
        monkeypatch.setattr("treadle.runtime.object_store", lambda: store)
        monkeypatch.setattr("treadle_pipelines.local.run", run)
        monkeypatch.setattr("treadle_pipelines.run_report.write", lambda *_: tmp_path / "r.html")
        monkeypatch.setattr("treadle_pipelines.run_report.summary", lambda *_: dict(result))

    return give


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (SUMMARY, 0),
        (SUMMARY | {"promoted": False}, 3),
        (DataError("the table is bad"), 1),
        (EnvironmentFault("the disk is full"), job_log.MAY_PASS),
        (KeyboardInterrupt(), 130),
    ],
)
def test_in_the_pod_the_exit_code_says_whether_to_try_again(
    ran: Callable[[object], None], capsys: pytest.CaptureFixture[str], result: Any, code: int
) -> None:
    ran(result)
    assert job_log.run(ROOT / "examples/wine/wine.yaml") == code
    lines = capsys.readouterr().out.splitlines()
    events = [job_log.parse(line) for line in lines]
    assert [each["kind"] for each in events if each] == ([] if code == 130 else ["ended"])


def test_a_runs_report_comes_here_where_the_store_is_the_same(
    ran: Callable[[object], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran(SUMMARY | {"run": "wine-1", "model": "wine"})
    assert job_log.run(ROOT / "examples/wine/wine.yaml") == 0
    summary = (job_log.parse(capsys.readouterr().out) or {})["summary"]
    assert summary["report"] == "s3://treadle/objects/runs/wine-1/report.html"
    path = submit._fetched_report(summary)
    assert path == str(tmp_path / "reports/wine-1.html")
    assert Path(path).read_text() == "<h1>wine</h1>"
    elsewhere = summary | {"report": "s3://other/runs/wine-1/report.html"}
    assert submit._fetched_report(elsewhere) == elsewhere["report"]


def test_a_home_that_lasts_keeps_the_last_runs_alone(tmp_path: Path) -> None:
    for position in range(8):
        for folder in ("steps", "runs"):
            made = tmp_path / folder / f"wine-{position}"
            made.mkdir(parents=True)
            os.utime(made, (position, position))
    for name, age_s in (("stale", job_log.KEEP_FETCHED_S + 60), ("fresh", 60)):
        fetched = tmp_path / "cache" / "s3" / name
        fetched.mkdir(parents=True)
        os.utime(fetched, (time.time() - age_s,) * 2)
    job_log.tidy(tmp_path)
    for folder in ("steps", "runs"):
        left = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert left == [f"wine-{position}" for position in range(3, 8)]
    assert [path.name for path in (tmp_path / "cache" / "s3").iterdir()] == ["fresh"]
