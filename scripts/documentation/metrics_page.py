"""The reference of the metrics, from what a model server collects."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from documentation.markdown import code, page, table, words
from treadle.monitoring import Fleet, FleetRow
from treadle_serving.metrics import BUCKETS, Metrics
from treadle_serving.monitored import Monitored

INTRODUCTION = """
The model server tells Prometheus at `/metrics`. `manifests/components/monitoring` scrapes it, and
brings alerts and a dashboard; [operations](../operations.md) says what to watch.
"""


def render() -> str:
    """Return the page."""
    limits = ", ".join(f"{bound:g}" for bound in BUCKETS)
    return page(
        "Metrics",
        INTRODUCTION,
        "## Requests and models\n\n" + _table(of_server()),
        f"`treadle_request_seconds` counts up to {limits} s.",
        "## The loop\n\nAs the last `treadle monitor` left it.\n\n" + _table(of_loop()),
        "## The process\n\nBy prometheus-client, on Linux.\n\n" + _table(_of_process()),
    )


def of_server() -> Iterator[Metric]:
    """Yield what every server collects."""
    models: Any = SimpleNamespace(
        count=0, size_bytes=0, registry_state=lambda: None, store_fault=None
    )
    yield from Metrics(models).collect()


def of_loop() -> Iterator[Metric]:
    """Yield what the loop adds, once models were looked at."""
    fleet = Fleet(at=datetime(2026, 1, 1, tzinfo=UTC), rows=[FleetRow(model="any", version=1)])
    content = fleet.model_dump_json().encode()
    store: Any = SimpleNamespace(exists=lambda key: True, get_bytes=lambda key: content)
    yield from Monitored(store).collect()


def names() -> set[str]:
    """Return the names that Prometheus knows them by."""
    return {name for metric in [*of_server(), *of_loop()] for name in exposed(metric)}


def exposed(metric: Metric) -> list[str]:
    """Return the names under which a metric's values are told."""
    if metric.type == "counter":
        return [f"{metric.name}_total"]
    if metric.type == "histogram":
        return [metric.name, *(f"{metric.name}_{part}" for part in ("bucket", "count", "sum"))]
    return [metric.name]


def _of_process() -> Iterator[Metric]:
    yield from ProcessCollector(registry=CollectorRegistry()).collect()


def _table(metrics: Iterator[Metric]) -> str:
    rows = [
        [code(exposed(metric)[0]), metric.type, ", ".join(map(code, _labels(metric))),
         words(metric.documentation, metric.name)]
        for metric in metrics
    ]  # fmt: skip
    return table(["metric", "kind", "labels", "what it is"], rows)


def _labels(metric: Metric) -> list[str]:
    return list(getattr(metric, "_labelnames", ()))
