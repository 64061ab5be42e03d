"""Writes what was answered to the object store, beside the requests and never in their way.

A request appends its answer to a file (``spool``) before it is sent, some microseconds. Every
minute, or sooner where much was asked, what is there is stored (``shipping``); what can't be stored
waits on the disk, also for the next process. Where the disk is full, or too much waits, answers go
out unlogged and are counted.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from treadle.errors import TreadleError
from treadle_serving import spool
from treadle_serving.metrics import Metrics
from treadle_serving.models import Served
from treadle_serving.shipping import BrokenSegment, Shipped
from treadle_serving.spool import Columns, Output, Rows, Segment, Spool

TICK_S = 1.0
# How long the end waits for a store that doesn't answer.
END_S = 15.0
RETRY_S = 5.0
# A check of deployment's: nobody's question, and not logged.
PROOF = "proof"
_log = logging.getLogger("treadle.serving")


class PredictionLog:
    """See the module. ``share`` is the share of requests that are logged; ``ship`` stores a
    segment of the spool."""

    def __init__(
        self,
        directory: Path,
        ship: Callable[[Path], Shipped],
        metrics: Metrics,
        share: float,
        every_s: float,
    ) -> None:
        self._every_s = every_s
        self._spool = Spool(directory)
        self._ship, self._metrics, self._share = ship, metrics, share
        self._retry_at, self._adopt_at = 0.0, 0.0
        self._disk_fault: str | None = None
        self._store_fault: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def fault(self) -> str | None:
        """What keeps answers from being logged, if anything does."""
        return self._disk_fault or self._store_fault

    @property
    def spooled_bytes(self) -> int:
        """What waits to be stored."""
        return self._spool.size_bytes

    def start(self) -> None:
        """Begin to store, what processes have left that are gone first."""
        self._thread.start()

    def stop(self) -> None:
        """Store all that waits, then end. Returns within END_S and a few seconds; what couldn't be
        stored stays on the disk for the next process."""
        self._stop.set()
        self._thread.join(timeout=END_S + 5)
        if left := self._spool.size_bytes:
            _log.error("%d bytes of predictions wait on the disk to be logged by the next server: "
                       "%s", left, self.fault)  # fmt: skip
        self._spool.leave()

    def add(
        self, served: Served, role: str, ids: Sequence[str], read: Rows | Columns, output: Output
    ) -> None:
        """Take rows in. Where the disk doesn't, they are counted, and the answer goes out."""
        if role == PROOF:
            return
        logged = self._share >= 1 or random.random() < self._share
        version = served.logged_as
        frame = spool.frame(version.signature, role, logged, ids, read, output)
        try:
            self._spool.append(version, frame)
        except OSError as error:
            self._lose(len(ids), f"predictions can't be written down: {error}")
            return
        if self._disk_fault is not None:
            self._disk_fault = None

    def _lose(self, rows: int, why: str) -> None:
        self._metrics.log_rows["dropped"] += rows
        if self._disk_fault is None:
            _log.error("predictions are dropped from the log: %s", why)
        self._disk_fault = why

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            self._turn(self._every_s)
        deadline = time.monotonic() + END_S
        self._retry_at = 0.0
        self._turn(0.0)
        while self._spool.size_bytes and time.monotonic() < deadline:
            time.sleep(0.5)
            self._retry_at = 0.0
            self._turn(0.0)

    def _turn(self, age_s: float) -> None:
        """Store what is due. A fault leaves it on the disk, never ends the thread."""
        try:
            if time.monotonic() >= self._adopt_at:
                self._spool.adopt()
                self._adopt_at = time.monotonic() + self._every_s
            for segment in self._spool.waiting(age_s):
                if time.monotonic() < self._retry_at:
                    return
                self._store(segment)
        except TreadleError as error:
            if self._store_fault is None:
                _log.error("predictions wait to be logged: %s", error)
            self._store_fault = str(error)
            self._retry_at = time.monotonic() + RETRY_S
        except Exception:
            self._retry_at = time.monotonic() + RETRY_S
            _log.exception("the prediction log failed; it goes on")

    def _store(self, segment: Segment) -> None:
        try:
            self._count(self._ship(segment.path))
        except BrokenSegment as error:
            self._metrics.log_rows["broken"] += segment.rows
            _log.error("%s: it is kept as %s", error, self._spool.set_aside(segment))
            return
        self._spool.stored(segment)
        self._store_fault = None

    def _count(self, shipped: Shipped) -> None:
        self._metrics.log_rows["written"] += shipped.rows
        for name, counts in shipped.nulls.items():
            self._metrics.of(name).nulls.update(counts)
        for name, counts in shipped.outside.items():
            self._metrics.of(name).outside.update(counts)
