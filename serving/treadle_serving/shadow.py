"""Shows challengers a copy of what champions were asked; their answers go to the prediction log,
unseen by clients."""

import logging
import random
import threading
from collections import deque
from typing import Any

from treadle.errors import TreadleError
from treadle_serving.batch import compute
from treadle_serving.metrics import Metrics
from treadle_serving.models import Models, Served
from treadle_serving.prediction_log import PredictionLog

MOST_WAITING = 1_000
PAUSE_S = 0.05
_log = logging.getLogger("treadle.serving")


class Shadow:
    """Copies a ``share`` of requests; a challenger that is too slow misses some, counted."""

    def __init__(self, models: Models, metrics: Metrics, log: PredictionLog, share: float) -> None:
        self._models, self._metrics, self._log, self._share = models, metrics, log, share
        self._queue: deque[tuple[str, list[dict[str, Any]], list[str]]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to ask challengers, if any requests are to be copied."""
        if self._share > 0:
            self._thread.start()

    def stop(self) -> None:
        """End; what waits is still asked."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def add(self, served: Served, rows: list[dict[str, Any]], ids: list[str]) -> None:
        """Take a copy of a request. Never waits."""
        if self._share <= 0 or random.random() >= self._share:
            return
        if len(self._queue) >= MOST_WAITING:
            self._metrics.shadow[served.name, "dropped"] += len(rows)
            return
        self._queue.append((served.name, rows, ids))

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S) or self._queue:
            while self._queue:
                self._ask(*self._queue.popleft())

    def _ask(self, name: str, rows: list[dict[str, Any]], ids: list[str]) -> None:
        try:
            challenger = self._models.challenger(name)
            if challenger is None:
                return
            columns, output = compute(challenger, rows)
        except TreadleError:
            self._metrics.shadow[name, "failed"] += len(rows)
            return
        except Exception:
            self._metrics.shadow[name, "failed"] += len(rows)
            _log.exception("the challenger of %s failed", name)
            return
        self._metrics.shadow[name, "answered"] += len(rows)
        self._log.add(challenger, "shadow", ids, columns, output)
