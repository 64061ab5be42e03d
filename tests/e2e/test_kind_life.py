"""A model's life on a cluster, and what must not disturb it. The tests are one story, in order."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.conftest import EXAMPLES, NODE, ROOT, SERVER, Cluster, Load, ask, run, wait_for

pytestmark = pytest.mark.timeout(1800)
# What a backup needs to live on.
PARTS = ("settings", "seaweedfs", "postgres", "mlflow")
FLIGHT = {
    "scheduled": "2013-12-05T17:30:00", "dep_minute": 1062, "sched_arr_minute": 1240,
    "dep_delay": 12.0, "carrier": "UA", "origin": "EWR", "dest": "SFO", "distance": 2565,
    "temp": 41.0, "dewp": 30.0, "humid": 65.0, "wind_dir": 240, "wind_speed": 9.2,
    "wind_gust": None, "precip": 0.0, "pressure": 1019.0, "visib": 10.0, "plane_year": 2001,
    "manufacturer": "BOEING", "plane_model": "737-824", "engines": 2, "seats": 149,
    "engine": "Turbo-fan",
}  # fmt: skip


@pytest.fixture(scope="module")
def champion(cluster: Cluster) -> str:
    """The digest of the flights model that a Job has trained on the cluster. On one that was used
    before, the gate keeps the champion that is there: no model is better than its like."""
    before = {m["name"]: m for m in cluster.treadle("models", "--json").json["models"]}
    done = cluster.treadle(
        "submit", EXAMPLES / "flights" / "flights.yaml", "--to", "job", "--json", timeout=1500
    )
    found = done.json
    assert found["promoted"] or "flights" in before, found["reasons"]
    return str(found["digest"] if found["promoted"] else before["flights"]["champion"]["digest"])


def test_the_service_answers_with_what_a_job_has_trained(cluster: Cluster, champion: str) -> None:
    answer = cluster.predict("flights", FLIGHT)
    assert answer["digest"] == champion
    assert -60 < answer["predictions"][0]["prediction"] < 200


def test_the_registry_on_the_cluster_knows_the_champion(cluster: Cluster, champion: str) -> None:
    found = cluster.treadle("models", "flights", "--json").json
    text = json.dumps(found)
    assert champion in text


def test_a_retrained_model_and_the_way_back_lose_no_request(
    cluster: Cluster, champion: str, tmp_path: Path
) -> None:
    spec = yaml.safe_load((EXAMPLES / "flights" / "flights.yaml").read_text("utf-8"))
    spec["training"] |= {"trials": 2, "budget_s": 60, "families": ["linear"]}
    (tmp_path / "flights.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    done = cluster.treadle("submit", tmp_path / "flights.yaml", "--to", "job", "--json")
    retrained = done.json
    assert retrained["digest"] != champion
    load = Load("flights", [FLIGHT])
    with load.running():
        wait_for(lambda: load.digests, 20, "the first answer")
        if not retrained["promoted"]:
            said = cluster.treadle(
                "promote", "flights", retrained["version"], "--override", "--why", "to try it"
            )
            assert said.code == 0, said.err
        wait_for(lambda: set(load.digests[-20:]) == {retrained["digest"]}, 30, "the new champion")
        said = cluster.treadle("rollback", "flights", "--why", "enough tried")
        assert said.code == 0, said.err
        wait_for(lambda: set(load.digests[-20:]) == {champion}, 30, "the former champion")
    assert not load.faults
    assert set(load.digests) <= {champion, retrained["digest"]}
    history = cluster.treadle("history", "flights").out
    assert "to try it" in history or retrained["promoted"]
    assert "enough tried" in history


def test_a_server_pod_that_goes_is_not_noticed(cluster: Cluster, champion: str) -> None:
    load = Load("flights", [FLIGHT])
    with load.running():
        wait_for(lambda: load.digests, 20, "the first answer")
        cluster.kubectl("delete", cluster.pods("server")[0], "--wait=true")
        cluster.settle()
        time.sleep(3)
    assert not load.faults
    assert set(load.digests) == {champion}


def test_a_rollout_of_a_bad_image_stops_and_the_old_one_serves(
    cluster: Cluster, champion: str
) -> None:
    load = Load("flights", [FLIGHT])
    with load.running():
        cluster.kubectl("set", "image", "deployment/server", "server=treadle-server:nonsense")
        pulling = wait_for(
            lambda: [w for w in waiting(cluster) if "Image" in w], 120, "the bad image is seen"
        )
        assert pulling
        said = run("make", "status")
        assert "treadle-server:nonsense" in said.out + said.err
        cluster.kubectl("rollout", "undo", "deployment/server")
        cluster.settle()
    assert not load.faults
    assert set(load.digests) == {champion}


def waiting(cluster: Cluster) -> list[str]:
    """Return why containers of the server wait."""
    pods = json.loads(
        cluster.kubectl("get", "pods", "-l", "app.kubernetes.io/name=server", "-o", "json")
    )["items"]
    states = [
        status.get("state", {})
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
    ]
    return [state["waiting"]["reason"] for state in states if "waiting" in state]


def test_what_the_services_hold_outlives_them(cluster: Cluster, champion: str) -> None:
    before = cluster.treadle("models", "flights", "--json").json
    load = Load("flights", [FLIGHT])
    with load.running():
        wait_for(lambda: load.digests, 20, "the first answer")
        for part in ("seaweedfs", "postgres", "mlflow"):
            cluster.kubectl("delete", *cluster.pods(part), "--wait=true")
        cluster.settle()
    assert not load.faults
    assert set(load.digests) == {champion}
    assert cluster.treadle("models", "flights", "--json").json == before


def test_a_search_outlives_a_ray_worker_and_the_head(
    cluster: Cluster, champion: str, tmp_path: Path
) -> None:
    """Forests on all flights: too much for the head, so workers are started."""
    spec = yaml.safe_load((EXAMPLES / "flights" / "flights.yaml").read_text("utf-8"))
    spec["name"] = "forests"
    spec["training"] = {"trials": 16, "budget_s": 600, "families": ["forest"]}
    (tmp_path / "forests.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    submitted = cluster.begin("submit", tmp_path / "forests.yaml", "--to", "job", "--json")
    try:
        log = submitted.words
        wait_for(lambda: "Ray Tune does the work" in log(), 300, "the workers have work")
        ended = wait_for(lambda: finished(log()), 240, "a candidate's end")
        (worker, *_) = ray_pods(cluster, "worker")
        cluster.kubectl("delete", worker, "--grace-period=0", "--force")
        wait_for(lambda: len(finished(log())) > len(ended), 240, "another, on a new worker")
        (head,) = ray_pods(cluster, "head")
        cluster.kubectl("delete", head, "--grace-period=0", "--force")
        wait_for(lambda: "has lost job" in log(), 120, "the loss of the head is seen")
        code = submitted.process.wait(timeout=900)
    finally:
        submitted.end()
    words = submitted.words()
    assert code in (0, 3), words[-4000:]
    assert "going on with a search that was interrupted" in words
    assert finished(words) == list(range(1, 17)), "a candidate was lost, or grown twice"
    assert cluster.predict("flights", FLIGHT)["digest"] == champion


def finished(words: str) -> list[int]:
    """The candidates that a log tells of, in order: the first, the second and so on."""
    return [int(number) for number in re.findall(r"trial (\d+)/16", words)]


def ray_pods(cluster: Cluster, kind: str) -> list[str]:
    """The running pods of the Ray cluster that are of a kind."""
    wanted = ("-l", f"ray.io/node-type={kind}", "--field-selector=status.phase=Running")
    return cluster.kubectl("get", "pods", *wanted, "-o", "name").split()


def test_the_monitor_looks_as_a_job_of_its_own(cluster: Cluster, champion: str) -> None:
    for _ in range(3):
        cluster.predict("flights", FLIGHT)
    cluster.kubectl("create", "job", "monitor-now", "--from=cronjob/monitor")
    try:
        cluster.kubectl(
            "wait", "job/monitor-now", "--for=condition=complete", "--timeout=240s", timeout=260
        )
        words = cluster.kubectl("logs", "job/monitor-now")
    finally:
        cluster.kubectl("delete", "job", "monitor-now")
    assert "flights" in words
    looked = cluster.treadle("monitor", "flights", "--look", "--json").json
    (verdict,) = looked["models"]
    assert verdict["verdict"] in words
    assert cluster.predict("flights", FLIGHT)["digest"] == champion


def test_the_node_comes_back_with_everything(cluster: Cluster, champion: str) -> None:
    before = cluster.treadle("models", "flights", "--json").json
    done = run("docker", "restart", NODE, timeout=300)
    assert done.code == 0, done.err
    wait_for(lambda: ask(f"{SERVER}/v1/models") is not None, 300, "the server answers again")
    wait_for(
        lambda: cluster.predict("flights", FLIGHT)["digest"] == champion, 120, "the same champion"
    )
    cluster.settle()
    assert cluster.treadle("models", "flights", "--json").json == before


def test_a_backup_lives_on_in_another_namespace(
    cluster: Cluster, champion: str, tmp_path: Path
) -> None:
    """Object store, database and registry of their own, with nothing in them."""
    taken = cluster.treadle("backup", tmp_path / "all.tar")
    assert taken.code == 0, taken.err
    with fresh_namespace(cluster, "treadle-restored") as (s3, mlflow):
        there = {"TREADLE_S3_ENDPOINT": s3, "TREADLE_MLFLOW_URI": mlflow}
        # The copies of objects that were fetched before would hide that the store has none.
        there["TREADLE_HOME"] = str(tmp_path / "home")
        empty = cluster.treadle("models", "--json", **there).json
        assert empty["models"] == []
        back = cluster.treadle("restore", tmp_path / "all.tar", **there)
        assert back.code == 0, back.err
        for command in ("history", "models"):
            here = cluster.treadle(command, "flights", "--json").json
            restored = cluster.treadle(command, "flights", "--json", **there).json
            assert identities(restored) == identities(here)
        (tmp_path / "rows.jsonl").write_text(json.dumps(FLIGHT) + "\n", encoding="utf-8")
        rows = (tmp_path / "rows.jsonl", "-o", tmp_path / "scored.csv", "--json")
        scored = cluster.treadle("predict", "flights", *rows, **there).json
        assert scored["digest"] == champion


def identities(told: dict[str, Any]) -> list[Any]:
    """What must be the same wherever a model's record lies."""
    if "changes" in told:
        return list(told["changes"])
    known = ("version", "semver", "digest", "aliases", "created_at")
    return [[version[key] for key in known] for version in told["versions"]]


@contextmanager
def fresh_namespace(cluster: Cluster, name: str) -> Iterator[tuple[str, str]]:
    """Bring up the parts that last, in a namespace of their own; yield the addresses of the object
    store and the registry."""
    parts = ROOT / "build" / "e2e"
    parts.mkdir(parents=True, exist_ok=True)
    image = cluster.settings["TREADLE_STEP_IMAGE"].rpartition(":")
    kustomization = {
        "namespace": name,
        "resources": [f"../../manifests/base/{part}" for part in PARTS],
        "images": [{"name": image[0], "newTag": image[2]}],
    }
    (parts / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    copied = [copied_secret(cluster, secret, name) for secret in ("treadle-s3", "treadle-database")]
    cluster.apply(namespace, *copied)
    try:
        cluster.kubectl("apply", "--server-side", "-k", str(parts), "-n", name)
        for workload in ("statefulset/seaweedfs", "statefulset/postgres", "deployment/mlflow"):
            wait = ("rollout", "status", workload, "-n", name, "--timeout=240s")
            cluster.kubectl(*wait, timeout=260)
        with (
            cluster.forwarded(name, "seaweedfs", 8333) as s3,
            cluster.forwarded(name, "mlflow", 5000) as mlflow,
        ):
            yield s3, mlflow
    finally:
        cluster.kubectl("delete", "namespace", name, "--timeout=120s", timeout=130)


def copied_secret(cluster: Cluster, name: str, namespace: str) -> dict[str, Any]:
    """A secret, as another namespace gets it."""
    secret = json.loads(cluster.kubectl("get", "secret", name, "-o", "json"))
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]}


def test_expired_credentials_are_said_and_change_nothing(cluster: Cluster, champion: str) -> None:
    wine = EXAMPLES / "wine" / "wine.yaml"
    refused = cluster.treadle("predict", "flights", wine, TREADLE_S3_SECRET_KEY="expired")
    assert refused.code != 0
    secret = json.loads(cluster.kubectl("get", "secret", "treadle-s3", "-o", "json"))
    kept = {"apiVersion": "v1", "kind": "Secret", "data": secret["data"],
            "metadata": {"name": "treadle-s3", "namespace": "treadle"}}  # fmt: skip
    expired = b64encode(b"expired").decode()
    cluster.apply({**kept, "data": {**secret["data"], "TREADLE_S3_SECRET_KEY": expired}})
    try:
        done = cluster.treadle("submit", wine, "--to", "job", timeout=400)
    finally:
        cluster.apply(kept)
    assert done.code == 1, done.out + done.err
    assert "TREADLE_S3_SECRET_KEY" in done.err
    assert "Traceback" not in done.err
    assert cluster.predict("flights", FLIGHT)["digest"] == champion


def test_a_full_volume_is_said_and_the_run_goes_on_once_there_is_room(cluster: Cluster) -> None:
    """A home of 16 MiB, a file system of its own in the node."""
    place = "/var/treadle-small"
    cluster.in_node(f"mkdir -p {place} && mount -t tmpfs -o size=16m,mode=777 tmpfs {place}")
    size = {"storage": "16Mi"}
    home = {"name": "treadle-home-wine", "namespace": "treadle"}
    there = {"accessModes": ["ReadWriteOnce"], "storageClassName": "small", "capacity": size}
    wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": "small",
              "resources": {"requests": size}}  # fmt: skip
    cluster.kubectl("delete", "jobs", "-l", "treadle/model=wine", "--timeout=60s")
    cluster.kubectl("delete", "pvc", home["name"], "--ignore-not-found", "--timeout=60s")
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "treadle-small"},
         "spec": {**there, "hostPath": {"path": place}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": home, "spec": wanted},
    )  # fmt: skip
    try:
        cluster.in_node(f"head -c 20000000 /dev/zero > {place}/ballast || true")
        spec = EXAMPLES / "wine" / "wine.yaml"
        done = cluster.treadle("submit", spec, "--to", "job", timeout=600)
        assert done.code == 1, done.out + done.err
        assert "the disk is full" in done.err
        assert "Traceback" not in done.err
        cluster.in_node(f"rm {place}/ballast && mount -o remount,size=512m {place}")
        done = cluster.treadle("submit", spec, "--to", "job", timeout=600)
        assert done.code in (0, 3), done.out + done.err
    finally:
        cluster.kubectl("delete", "jobs", "-l", "treadle/model=wine", "--timeout=60s")
        cluster.kubectl("delete", "pvc", home["name"], "--timeout=60s")
        cluster.kubectl("delete", "pv", "treadle-small", "--timeout=60s")
        cluster.in_node(f"umount {place} && rmdir {place}")


def test_deploying_again_changes_nothing(cluster: Cluster, champion: str) -> None:
    pods = set(cluster.pods("server"))
    done = run("make", "deploy", "KFP=0", timeout=1200)
    assert done.code == 0, done.err[-4000:]
    assert set(cluster.pods("server")) == pods
    assert cluster.predict("flights", FLIGHT)["digest"] == champion
