"""What Prometheus is told, a model each: requests, errors, rows, latency, and drift.

Requests only add to plain numbers; they are put into Prometheus's words when it asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from treadle_serving.models import Models

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Seconds: from a single row of a small model to a large table.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ModelMetrics:
    """The numbers of one model."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.answered: Counter[tuple[int, str]] = Counter()  # requests by version and role
        self.rows = 0
        self.extra_columns = 0
        self.ignored: Counter[str] = Counter()
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.nulls: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()

    def observe(self, status: int, seconds: float) -> None:
        """Count one request."""
        self.statuses[status] += 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1


class Metrics:
    """The numbers of the whole server."""

    def __init__(self, models: Models, *others: Collector) -> None:
        self._models = models
        self._by_model: dict[str, ModelMetrics] = {}
        self.log_rows: Counter[str] = Counter()  # by outcome: written, dropped, broken
        self.spooled_bytes: Callable[[], int] = lambda: 0
        self.shadow: Counter[tuple[str, str]] = Counter()  # by model and outcome
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for other in others:
            self._registry.register(other)
        ProcessCollector(registry=self._registry)

    def of(self, name: str) -> ModelMetrics:
        """Return the numbers of a model that exists."""
        found = self._by_model.get(name)
        return found if found is not None else self._by_model.setdefault(name, ModelMetrics())

    def render(self) -> bytes:
        """Return all numbers in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        by_model = dict(self._by_model)
        requests = CounterMetricFamily(
            "treadle_requests", "Requests by model and status", labels=["model", "status"]
        )
        answered = CounterMetricFamily(
            "treadle_answers", "Answered requests by version and role",
            labels=["model", "version", "role"],
        )  # fmt: skip
        rows = CounterMetricFamily("treadle_rows", "Rows predicted", labels=["model"])
        extra = CounterMetricFamily(
            "treadle_extra_columns", "Values in columns that the model doesn't read",
            labels=["model"],
        )  # fmt: skip
        ignored = CounterMetricFamily(
            "treadle_ignored_values",
            "Values in columns that the model knows and doesn't use, null in all of training",
            labels=["model", "column"],
        )
        latency = HistogramMetricFamily(
            "treadle_request_seconds", "From a whole request to its answer", labels=["model"]
        )
        nulls = CounterMetricFamily(
            "treadle_feature_nulls", "Nulls by feature", labels=["model", "feature"]
        )
        outside = CounterMetricFamily(
            "treadle_feature_outside",
            "Numbers and times outside the range of training, categories not seen there",
            labels=["model", "feature"],
        )
        for name, model in by_model.items():
            for status, count in list(model.statuses.items()):
                requests.add_metric([name, str(status)], count)
            for (version, role), count in list(model.answered.items()):
                answered.add_metric([name, str(version), role], count)
            rows.add_metric([name], model.rows)
            extra.add_metric([name], model.extra_columns)
            for column, count in list(model.ignored.items()):
                ignored.add_metric([name, column], count)
            latency.add_metric([name], _cumulative(model.buckets), model.seconds)
            for feature, count in list(model.nulls.items()):
                nulls.add_metric([name, feature], count)
            for feature, count in list(model.outside.items()):
                outside.add_metric([name, feature], count)
        yield from (requests, answered, rows, extra, ignored, latency, nulls, outside)
        yield from self._of_server()

    def _of_server(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("treadle_models_loaded", "Versions in memory", self._models.count)
        yield GaugeMetricFamily(
            "treadle_models_bytes", "Memory that loaded models take", self._models.size_bytes
        )
        yield GaugeMetricFamily(
            "treadle_registry_up", "Whether the registry answers",
            int(self._models.registry_state() is None),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "treadle_store_up", "Whether the object store answers",
            int(self._models.store_fault is None),
        )  # fmt: skip
        logged = CounterMetricFamily(
            "treadle_prediction_log_rows", "Rows of the prediction log", labels=["outcome"]
        )
        for outcome, count in list(self.log_rows.items()):
            logged.add_metric([outcome], count)
        yield GaugeMetricFamily(
            "treadle_prediction_log_spooled_bytes", "What waits on the disk to be stored",
            self.spooled_bytes(),
        )  # fmt: skip
        shadow = CounterMetricFamily(
            "treadle_shadow_rows", "Rows that a challenger saw a copy of",
            labels=["model", "outcome"],
        )  # fmt: skip
        for (model, outcome), count in list(self.shadow.items()):
            shadow.add_metric([model, outcome], count)
        yield from (logged, shadow)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
        total += count
        found.append((bound, total))
    return found
