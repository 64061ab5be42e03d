"""Writes what was answered to the object store, beside the requests and never in their way.

A request only appends to a queue. A thread empties it, counts drift, packs rows into Arrow
batches and stores a file a model version and hour, every minute or 50,000 rows. Memory is bounded:
where the store is gone for long, rows are dropped, counted and spoken of. At the end all that waits
is written.
"""

import logging
import math
import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from treadle import predictions
from treadle.answers import Output
from treadle.encoding import Column
from treadle.errors import TreadleError
from treadle.ports import ObjectStore
from treadle.signature import encode_rows
from treadle_serving.drift import DriftCounter
from treadle_serving.metrics import Metrics
from treadle_serving.models import Served

DRAIN_S = 1.0
# So many at a time: what runs here keeps requests from running.
DRAIN_ANSWERS = 500
FLUSH_S = 60.0
FLUSH_ROWS = 50_000
MOST_QUEUED_ROWS = 200_000
MOST_PACKED_BYTES = 64 * 2**20
# How long the end waits for a store that doesn't answer.
END_S = 15.0
RETRY_S = 5.0
Rows = list[dict[str, Any]]
Columns = dict[str, Column]
_log = logging.getLogger("treadle.serving")


@dataclass(frozen=True)
class Answer:
    """Rows that were answered together, as they came or encoded."""

    served: Served
    role: str
    ids: Sequence[str]
    at: float
    read: Rows | Columns
    output: Output
    logged: bool


@dataclass
class _Open:
    """Rows of one version and one hour that aren't stored yet."""

    served: Served
    hour: datetime
    batches: list[pa.RecordBatch] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    rows: int = 0
    size_bytes: int = 0


class PredictionLog:
    """See the module. ``share`` is the share of requests that are logged."""

    def __init__(self, store: ObjectStore, metrics: Metrics, share: float) -> None:
        self._store, self._metrics, self._share = store, metrics, share
        self._queue: deque[Answer] = deque()
        self._queued_rows = 0
        self._open: dict[tuple[str, int, datetime], _Open] = {}
        self._sealed: deque[tuple[str, bytes, int]] = deque()
        self._drift = DriftCounter(metrics)
        self._retry_at = 0.0
        self.fault: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write all that waits, then end. Returns within END_S and a few seconds."""
        self._stop.set()
        self._thread.join(timeout=END_S + 10)

    def add(
        self,
        served: Served,
        role: str,
        ids: Sequence[str],
        read: Rows | Columns,
        output: Output,
    ) -> None:
        """Take rows in. Never waits; drops and counts them where too many wait already."""
        count = len(ids)
        if self._queued_rows + count > MOST_QUEUED_ROWS:
            self._metrics.log_rows["dropped"] += count
            return
        self._queued_rows += count
        logged = self._share >= 1 or random.random() < self._share
        self._queue.append(Answer(served, role, ids, time.time(), read, output, logged))

    def _run(self) -> None:
        while not self._stop.wait(DRAIN_S):
            self._turn(time.monotonic() - FLUSH_S)
        deadline = time.monotonic() + END_S
        self._retry_at = 0.0
        self._turn(math.inf)
        while self._sealed and time.monotonic() < deadline:
            time.sleep(0.5)
            self._retry_at = 0.0
            self._turn(math.inf)
        if self._sealed:
            lost = sum(rows for _, _, rows in self._sealed)
            _log.error("%d predictions could not be logged: %s", lost, self.fault)

    def _turn(self, due: float) -> None:
        """Pack what is queued and store what is due. A fault costs rows of the log, never the
        thread."""
        try:
            while self._queue:
                self._drain()
            self._seal(due)
            self._store_sealed()
        except Exception:
            _log.exception("the prediction log failed; it goes on")

    def _drain(self) -> None:
        groups: dict[tuple[str, int, datetime], list[Answer]] = defaultdict(list)
        for _ in range(min(len(self._queue), DRAIN_ANSWERS)):
            answer = self._queue.popleft()
            hour = predictions.hour_of(datetime.fromtimestamp(answer.at, UTC))
            groups[answer.served.name, answer.served.version.version, hour].append(answer)
        for key, answers in groups.items():
            self._queued_rows -= sum(len(answer.ids) for answer in answers)
            # Those that came as rows go first, so that order and columns agree.
            answers.sort(key=lambda answer: isinstance(answer.read, dict))
            columns = joined(answers)
            self._drift.count(answers[0].served, columns)
            self._pack(key, answers, columns)

    def _pack(
        self, key: tuple[str, int, datetime], answers: Sequence[Answer], columns: Columns
    ) -> None:
        rows = sum(len(answer.ids) for answer in answers if answer.logged)
        if not rows:
            return
        waiting = sum(o.size_bytes for o in self._open.values())
        waiting += sum(len(content) for _, content, _ in self._sealed)
        if waiting > MOST_PACKED_BYTES:
            self._metrics.log_rows["dropped"] += rows
            return
        batch = packed(answers, columns)
        found = self._open.setdefault(key, _Open(answers[0].served, key[2]))
        found.batches.append(batch)
        found.rows += rows
        found.size_bytes += batch.nbytes

    def _seal(self, due: float) -> None:
        for key, found in list(self._open.items()):
            if found.began > due and found.rows < FLUSH_ROWS:
                continue
            del self._open[key]
            version = found.served.version
            name, content = predictions.sealed(
                version.name, version.digest, found.hour, found.batches
            )
            self._sealed.append((name, content, found.rows))

    def _store_sealed(self) -> None:
        while self._sealed and time.monotonic() >= self._retry_at:
            key, content, rows = self._sealed[0]
            try:
                self._store.put_bytes(key, content)
            except TreadleError as error:
                if self.fault is None:
                    _log.error("predictions wait to be logged: %s", error)
                self.fault = str(error)
                self._retry_at = time.monotonic() + RETRY_S
                return
            self.fault = None
            self._sealed.popleft()
            self._metrics.log_rows["written"] += rows


def joined(answers: Sequence[Answer]) -> Columns:
    """Return the encoded rows of answers of one version, those that came as rows first."""
    served = answers[0].served
    rows = [row for answer in answers if isinstance(answer.read, list) for row in answer.read]
    parts = [answer.read for answer in answers if isinstance(answer.read, dict)]
    if rows:
        parts.insert(0, encode_rows(rows, served.bundle.encoder))
    names = served.version.signature.names
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def packed(answers: Sequence[Answer], columns: Columns) -> pa.RecordBatch:
    """Return answers of one version, those that are logged, as rows of the log."""
    version = answers[0].served.version
    kept = np.repeat([answer.logged for answer in answers], [len(a.ids) for a in answers])
    microseconds = np.repeat(
        [int(answer.at * 1e6) for answer in answers], [len(a.ids) for a in answers]
    )
    whole = predictions.batch(
        version.signature,
        [id_ for answer in answers for id_ in answer.ids],
        microseconds,
        version.version,
        version.digest,
        [answer.role for answer in answers for _ in answer.ids],
        columns,
        np.concatenate([answer.output for answer in answers]),
    )
    return whole if kept.all() else whole.filter(pa.array(kept))
