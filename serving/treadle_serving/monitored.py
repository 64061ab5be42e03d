"""What the loop found, where people and Prometheus look anyway: the fleet's pages, and its gauges.

The monitor writes both to the object store; the server only shows them.
"""

import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from treadle.errors import TreadleError
from treadle.monitoring import FLEET_KEY, Fleet, page_key
from treadle.ports import ObjectStore
from treadle_serving.models import UnknownModel

if TYPE_CHECKING:
    from treadle_serving.app import App

# Prometheus asks more often than the monitor looks.
READ_EVERY_S = 20.0
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


async def show_fleet(app: "App", request: Request) -> Response:
    """Show every model at work, the worst first."""
    return await _page(app, None)


async def show_model(app: "App", request: Request) -> Response:
    """Show how a model does at work."""
    return await _page(app, request.path_params["name"])


async def _page(app: "App", name: str | None) -> Response:
    if name is not None and not _NAME.fullmatch(name):
        raise UnknownModel(f"there is no model {name!r:.60}")
    key = page_key(name)
    if not await run_in_threadpool(app.store.exists, key):
        raise UnknownModel(f"{name or 'nothing'} wasn't looked at yet: treadle monitor does")
    return HTMLResponse(await run_in_threadpool(app.store.get_bytes, key))


class Monitored(Collector):
    """A collector of Prometheus's: the fleet's table as gauges."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._read_at = -READ_EVERY_S
        self._fleet: Fleet | None = None
        self._lock = threading.Lock()

    def _known(self) -> Fleet | None:
        with self._lock:
            if time.monotonic() - self._read_at < READ_EVERY_S:
                return self._fleet
            self._read_at = time.monotonic()
            try:
                if self._store.exists(FLEET_KEY):
                    self._fleet = Fleet.model_validate_json(self._store.get_bytes(FLEET_KEY))
            except (TreadleError, ValidationError):
                return self._fleet  # a store that is away has a gauge of its own
            return self._fleet

    def collect(self) -> Iterator[Metric]:
        """Yield what the newest pass found."""
        fleet = self._known()
        if fleet is None:
            return
        yield GaugeMetricFamily(
            "treadle_monitor_last_pass_seconds", "When models were last looked at, since 1970",
            fleet.at.timestamp(),
        )  # fmt: skip
        verdicts = GaugeMetricFamily(
            "treadle_monitor_verdict", "1 for the verdict on a model", labels=["model", "verdict"]
        )
        person = GaugeMetricFamily(
            "treadle_monitor_needs_person", "1 where a model waits for somebody", labels=["model"]
        )
        drift = GaugeMetricFamily(
            "treadle_monitor_drift", "Largest believable drift of a feature (Jensen-Shannon)",
            labels=["model"],
        )  # fmt: skip
        metric = GaugeMetricFamily(
            "treadle_monitor_metric", "A model's metric on labelled rows, and when it was trained",
            labels=["model", "metric", "of"],
        )  # fmt: skip
        for row in fleet.rows:
            if row.verdict is not None:
                verdicts.add_metric([row.model, row.verdict.value], 1)
            person.add_metric([row.model], int(row.needs_person or row.fault is not None))
            if row.furthest is not None:
                drift.add_metric([row.model], row.furthest)
            for of, found in (("now", row.metric), ("training", row.reference)):
                if found is not None:
                    metric.add_metric([row.model, found.name, of], found.value)
        yield from (verdicts, person, drift, metric)
