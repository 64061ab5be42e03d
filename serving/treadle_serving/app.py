"""The HTTP interface, as an ASGI application.

Predictions are answered here, straight from the protocol server; everything else goes through
Starlette (``routes``). Every answer carries the request's id, every fault its words.
"""

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import orjson

from treadle.answers import Output, answers
from treadle.config import Settings
from treadle.encoding import ignored_values
from treadle.errors import counted
from treadle.explanation import explain
from treadle.ports import ObjectStore, Registry
from treadle_serving import requests, routes, shipping, tables
from treadle_serving.batch import Batch
from treadle_serving.canary import CanaryGuard
from treadle_serving.metrics import Metrics
from treadle_serving.models import Models, Served
from treadle_serving.monitored import Monitored
from treadle_serving.prediction_log import PROOF, PredictionLog
from treadle_serving.requests import Bodies, Headers, Receive, Refused, Scope, Send
from treadle_serving.shadow import Shadow
from treadle_serving.shipping import Shipped, ShippingProcess

_TARGET = re.compile(r"/v1/models/([^/]+)(?:/versions/(\d{1,9}))?/predict")
# What probes and scrapers ask, and pages that hold nothing secret.
_OPEN = re.compile(r"/|/livez|/healthz|/readyz|/metrics|/docs|/docs\.json|/static_content/.*"
                   r"|/v2/health/(live|ready)")  # fmt: skip
# Up to so many rows a request is answered in the event loop, where it takes less time than handing
# it to a thread and back would; larger ones go to threads, so that they don't hold up others.
INLINE_ROWS = 256
INLINE_BYTES = 256 * 1024
MOST_EXPLAINED = 100
_log = logging.getLogger("treadle.serving")


class App:
    """The application. ``start`` and ``stop`` frame its life; ``ship`` stores a segment of the
    prediction log, in this process where none is given."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        store: ObjectStore,
        ship: Callable[[Path], Shipped] | None = None,
    ) -> None:
        self.settings, self.store = settings, store
        self.models = Models(registry, store, settings.server_memory_mib * 2**20)
        self.metrics = Metrics(self.models, Monitored(store))
        self._ship = ship or partial(shipping.ship, store=store)
        spool = settings.home / "spool"
        self.log = PredictionLog(
            spool, self._ship, self.metrics, settings.prediction_log_share,
            settings.prediction_log_every_s,
        )  # fmt: skip
        self.metrics.spooled_bytes = lambda: self.log.spooled_bytes
        self.shadow = Shadow(self.models, self.metrics, self.log, settings.shadow_share)
        self.guard = CanaryGuard(self.models)
        self.bodies = Bodies(settings.server_body_mib * 2**20)
        self.ending = False
        self._turn, self._crowded = 0, False
        self._loading = ThreadPoolExecutor(4, "loading")
        self.scoring = ThreadPoolExecutor(os.cpu_count() or 1, "scoring")
        self._rest = routes.application(self)

    def start(self) -> None:
        """Begin to watch the registry and to write the prediction log."""
        self.models.start()
        self.log.start()
        self.shadow.start()

    def stop(self) -> None:
        """End, with every prediction logged. May take seconds."""
        self.models.stop()
        self.shadow.stop()
        self.log.stop()
        if isinstance(self._ship, ShippingProcess):
            self._ship.end()

    def batch(self, served: Served, role: str) -> Batch:
        """Return where requests for a version and role meet."""
        found: Batch | None = served.batches.get(role)
        if found is None:
            found = served.batches[role] = Batch(served, role, self.log)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        headers = dict(scope["headers"])
        id_ = requests.request_id(headers)
        path = scope["path"]
        target = _target(path) if scope["method"] == "POST" else None
        try:
            if self.settings.server_api_key is not None and not _OPEN.fullmatch(path):
                requests.check_key(headers, self.settings.server_api_key)
            if target is None:
                scope["treadle.request_id"] = id_
                await self._rest(scope, receive, send)
                return
            await self._predict(*target, headers, id_, receive, send, started)
        except requests.Gone:
            return
        except Exception as error:
            status, content = self.in_words(error, path, id_)
            await requests.reply(send, status, orjson.dumps(content), id_)
            if target is not None and self.models.numbers().get(target[0]) is not None:
                self.metrics.of(target[0]).observe(status, time.perf_counter() - started)

    def in_words(self, error: Exception, path: str, id_: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body for a fault, and log it."""
        status, content = requests.fault(error)
        fields = {"path": path, "status": status, "request_id": id_.decode()}
        if status == 500:
            _log.error("a request failed", exc_info=error, extra={"fields": fields})
        else:
            _log.warning(content["error"][:500], extra={"fields": fields})
        return status, {**content, "request_id": id_.decode()}

    async def _predict(
        self,
        name: str,
        number: int | None,
        headers: Headers,
        id_: bytes,
        receive: Receive,
        send: Send,
        started: float,
    ) -> None:
        body = await self.bodies.read(receive, headers)
        kind = headers.get(b"content-type", requests.JSON)
        served, role = await self.choose(name, number)
        if requests.PROOF in headers:
            served, role = await self.version(name, number), PROOF
        if not kind.startswith(requests.JSON) and tables.is_table(kind):
            content, answered_as, ignored = await self._table(
                served, role, body, kind, headers, id_
            )
        else:
            document = await self.parsed(body)
            rows, ids = rows_of(document)
            if ids is None:
                prefix = id_.decode()
                ids = [f"{prefix}-{n}" for n in range(len(rows))]
            if role == "canary":
                served, role, output = await self._output_or_champion(served, rows, ids)
            else:
                output = await self.output(served, role, rows, ids)
            found = answers(output, served.version.signature)
            for answer, prediction_id in zip(found, ids, strict=True):
                answer["id"] = prediction_id
            if document.get("explain"):
                await self._explain(served, rows, found)
            ignored = self._count(served, rows)
            content = orjson.dumps({**served.identity, "predictions": found})
            answered_as = requests.JSON
        await requests.reply(send, 200, content, id_, answered_as, ignored)
        counted = self.metrics.of(name)
        seconds = time.perf_counter() - started
        counted.observe(200, seconds)
        counted.answered[served.version.version, role] += 1
        if self.models.canaries:
            self.guard.answered(name, role, seconds)

    async def _table(
        self, served: Served, role: str, body: bytes, kind: bytes, headers: Headers, id_: bytes
    ) -> tuple[bytes, bytes, dict[str, int]]:
        content, answered_as, rows, ignored = await asyncio.get_running_loop().run_in_executor(
            self.scoring, tables.score, served, self.batch(served, role), body, kind,
            headers.get(b"accept", b""), id_.decode(),
        )  # fmt: skip
        counted = self.metrics.of(served.name)
        counted.rows += rows
        counted.ignored.update(ignored)
        return content, answered_as, ignored

    async def _explain(
        self, served: Served, rows: list[dict[str, Any]], found: list[dict[str, Any]]
    ) -> None:
        """Put an explanation into each answer."""
        if len(rows) > MOST_EXPLAINED:
            raise Refused(f"{len(rows)} rows are too many to explain at once: {MOST_EXPLAINED} are "
                          "the most")  # fmt: skip
        loop = asyncio.get_running_loop()
        why = await loop.run_in_executor(self.scoring, explain, served.bundle, rows)
        for answer, explanation in zip(found, why, strict=True):
            answer["explanation"] = explanation

    async def parsed(self, body: bytes) -> Any:
        """Return a JSON body; a large one is read in a thread."""
        if len(body) <= INLINE_BYTES:
            return requests.parse(body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.scoring, requests.parse, body)

    async def choose(self, name: str, number: int | None) -> tuple[Served, str]:
        """Return the version that answers, and its role."""
        canary = self.models.canaries.get(name) if number is None else None
        if canary is not None and random.random() < canary.share:
            return canary.served, "canary"
        served = self.models.loaded(name, number) or await self.version(name, number)
        return served, "champion" if number is None else "pinned"

    async def version(self, name: str, number: int | None) -> Served:
        """Return a version, or the champion; it is loaded in a thread where it isn't yet."""
        served = self.models.loaded(name, number)
        if served is not None:
            return served
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loading, self.models.load, name, number)

    async def output(
        self, served: Served, role: str, rows: list[dict[str, Any]], ids: list[str]
    ) -> Output:
        """Return the model's output for rows, and log them."""
        batch = self.batch(served, role)
        if len(rows) > INLINE_ROWS:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self.scoring, batch.alone, rows, ids)
        elif self._is_crowded():
            found = await batch.together(rows, ids)
        else:
            found = batch.alone(rows, ids)
        if role == "champion":
            self.shadow.add(served, rows, ids)
        return found

    def _is_crowded(self) -> bool:
        """Say whether requests come in together: more than one in the loop's last turn or in this.
        Then it pays to let those that follow in this turn join."""
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._turn += 1
        return self._crowded or self._turn > 1

    def _end_turn(self) -> None:
        self._crowded, self._turn = self._turn > 1, 0

    async def _output_or_champion(
        self, served: Served, rows: list[dict[str, Any]], ids: list[str]
    ) -> tuple[Served, str, Output]:
        """Return who answered, and the output: a canary that fails is answered for."""
        try:
            return served, "canary", await self.output(served, "canary", rows, ids)
        except Exception as error:
            champion = await self.version(served.name, None)
            output = await self.output(champion, "champion", rows, ids)
            self.guard.failed(served.name, error)
            return champion, "champion", output

    def _count(self, served: Served, rows: list[dict[str, Any]]) -> dict[str, int]:
        """Count rows; return the values in columns that the model knows and doesn't use."""
        counted = self.metrics.of(served.name)
        counted.rows += len(rows)
        wanted = served.bundle.encoder.width
        counted.extra_columns += sum(len(row) - wanted for row in rows if len(row) > wanted)
        if not served.version.signature.ignored:
            return {}
        ignored = ignored_values(rows, served.version.signature.ignored)
        counted.ignored.update(ignored)
        return ignored


@lru_cache(4096)
def _target(path: str) -> tuple[str, int | None] | None:
    """Return the model and the version that a path asks for predictions, if it does."""
    found = _TARGET.fullmatch(path)
    return None if found is None else (found[1], int(found[2]) if found[2] else None)


def rows_of(document: Any) -> tuple[list[dict[str, Any]], list[str] | None]:
    """Return a request's rows, and the ids that the client gave them."""
    if not isinstance(document, dict):
        raise Refused('the body must be a JSON object: {"rows": [{column: value, …}, …]}')
    rows = document.get("rows")
    if not isinstance(rows, list) or not rows:
        raise Refused('the body must be {"rows": [{column: value, …}, …]} with at least one row')
    for position, row in enumerate(rows):
        if type(row) is not dict:
            raise Refused(f"row {position} is {_json_type(row)}, not an object")
    explained = document.get("explain")
    if explained is not None and not isinstance(explained, bool):
        raise Refused(f'"explain" must be true or false, not {explained!r:.60}')
    ids = document.get("ids")
    if ids is None:
        return rows, None
    if not isinstance(ids, list) or not all(isinstance(i, str) and 0 < len(i) <= 200 for i in ids):
        raise Refused('"ids" must be a list of texts of up to 200 characters')
    if len(ids) != len(rows):
        entries = counted(len(ids), "entry", "entries")
        raise Refused(f'"ids" has {entries} for {counted(len(rows), "row")}: give one a row')
    return rows, ids


def _json_type(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
