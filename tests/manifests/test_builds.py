"""Every overlay and every choice of components builds into what the API server takes."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builds import COMPONENTS, MANIFESTS, REMOTE, Build, Document, choices
from kubernetes_schemas import faults

from treadle.monitoring import Fleet, FleetRow, Verdict
from treadle.ports import ObjectStore
from treadle.records import Metric
from treadle_serving.metrics import Metrics
from treadle_serving.monitored import Monitored


@pytest.mark.parametrize("chosen", choices(), ids="+".join)
def test_components_go_together(
    composed: Callable[[Sequence[str]], Build], chosen: Sequence[str]
) -> None:
    build = composed(chosen)
    assert [fault for document in build.documents for fault in faults(document)] == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_says_what_it_is_for(name: str) -> None:
    text = (MANIFESTS / "components" / name / "README.md").read_text("utf-8")
    assert f"components/{name}" in text


@pytest.mark.parametrize(
    ("component", "service", "port"),
    [("external-s3", "seaweedfs", 443), ("external-database", "postgres", 5432)],
)
def test_what_is_outside_is_not_deployed_and_can_be_reached(
    composed: Callable[[Sequence[str]], Build], component: str, service: str, port: int
) -> None:
    build = composed(["network-policies", component])
    assert service not in {document["metadata"]["name"] for document in build.documents}
    policy = build.named("NetworkPolicy", "mlflow")["spec"]
    outside = [rule for rule in policy["egress"] if "ipBlock" in rule["to"][0]]
    assert [each["port"] for rule in outside for each in rule["ports"]] == [port]


def test_spot_nodes_get_workers_and_never_the_head(
    composed: Callable[[Sequence[str]], Build],
) -> None:
    spec = composed(["spot-workers"]).named("RayCluster", "ray")["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert group["template"]["spec"]["tolerations"][0]["key"] == "treadle/spot"
    assert "tolerations" not in spec["headGroupSpec"]["template"]["spec"]


def test_gpu_workers_are_a_group_beside_the_others(
    composed: Callable[[Sequence[str]], Build],
) -> None:
    spec = composed(["gpu-workers"]).named("RayCluster", "ray")["spec"]
    limits = [
        group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for group in spec["workerGroupSpecs"]
    ]
    assert [each.get("nvidia.com/gpu") for each in limits] == [None, "1"]


def test_pipelines_get_the_settings_that_the_rest_has(
    kustomize: Callable[[Path], list[Document]], kind: Build
) -> None:
    build = Build("kfp", kustomize(MANIFESTS / "components" / "kfp" / "treadle"))
    assert [fault for document in build.documents for fault in faults(document)] == []
    here = kind.named("ConfigMap", "treadle-settings")["data"]
    there = build.named("ConfigMap", "treadle-settings")["data"]
    assert there == {
        key: re.sub(r"^http://([\w-]+):", r"http://\1.treadle.svc:", value)
        for key, value in here.items()
    }


def test_only_what_is_said_to_be_remote_is() -> None:
    found = {
        path.relative_to(MANIFESTS / "components").parts[0]
        for path in MANIFESTS.glob("components/**/kustomization.yaml")
        if re.search(r"^- https://", path.read_text("utf-8"), re.MULTILINE)
    }
    assert found == REMOTE


def test_alerts_and_dashboard_ask_for_metrics_that_the_server_has(
    composed: Callable[[Sequence[str]], Build],
) -> None:
    build = composed(["monitoring"])
    rules = [
        rule["expr"]
        for group in build.named("PrometheusRule", "treadle")["spec"]["groups"]
        for rule in group["rules"]
    ]
    dashboard = json.loads(build.named("ConfigMap", "treadle-dashboard")["data"]["treadle.json"])
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for expr in [*rules, *shown] for name in re.findall(r"\btreadle_\w+", expr)}
    assert asked
    assert asked <= exposed()


def looked_at() -> ObjectStore:
    """A store in which a monitor left its table."""
    metric = Metric(name="rmse", value=1, low=1, high=1, higher_is_better=False)
    row = FleetRow(model="m", version=1, verdict=Verdict.WATCH, metric=metric, furthest=0.1)
    table = Fleet(at=datetime.now(UTC), rows=[row]).model_dump_json().encode()
    store: Any = SimpleNamespace(exists=lambda _key: True, get_bytes=lambda _key: table)
    return store  # type: ignore[no-any-return]


def exposed() -> set[str]:
    """The names of the server's metrics as Prometheus stores them."""
    idle = SimpleNamespace(count=0, size_bytes=0, registry_state=lambda: None, store_fault=None)
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    return {
        metric.name + ending
        for metric in [*Metrics(idle).collect(), *Monitored(looked_at()).collect()]  # type: ignore[arg-type]
        for ending in endings.get(metric.type, [""])
    }
