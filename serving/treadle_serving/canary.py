"""Stops a canary that does worse than the champion: more faults, or much slower."""

import statistics
import threading
from collections import deque

from treadle_serving.models import Models

# After so many answers a share of faults is believed, and how large it may be.
MIN_ANSWERS, MOST_FAULTS = 20, 0.02
# The median of so many latencies may be so many times the champion's.
MIN_LATENCIES, MOST_SLOWER = 100, 3.0


class _Tally:
    def __init__(self) -> None:
        self.answers = self.faults = 0
        self.canary_s: deque[float] = deque(maxlen=MIN_LATENCIES)
        self.champion_s: deque[float] = deque(maxlen=MIN_LATENCIES)


class CanaryGuard:
    """Counts what canaries do, by their version; tells the registry to stop those that fail."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._tallies: dict[tuple[str, int], _Tally] = {}

    def answered(self, name: str, role: str, seconds: float) -> None:
        """Count an answer of a model that has a canary."""
        tally = self._tally(name)
        if tally is None:
            return
        (tally.canary_s if role == "canary" else tally.champion_s).append(seconds)
        if role == "canary":
            tally.answers += 1
            self._judge(name, tally, "")

    def failed(self, name: str, error: Exception) -> None:
        """Count a fault that the champion, asked the same, doesn't have."""
        tally = self._tally(name)
        if tally is not None:
            tally.answers += 1
            tally.faults += 1
            self._judge(name, tally, f", the last one: {error}")

    def _tally(self, name: str) -> _Tally | None:
        canary = self._models.canaries.get(name)
        if canary is None:
            return None
        return self._tallies.setdefault((name, canary.served.version.version), _Tally())

    def _judge(self, name: str, tally: _Tally, last: str) -> None:
        if tally.answers >= MIN_ANSWERS and tally.faults > MOST_FAULTS * tally.answers:
            words = f"{tally.faults} of {tally.answers} requests failed{last}"
            self._stop(name, words)
        elif min(len(tally.canary_s), len(tally.champion_s)) == MIN_LATENCIES:
            canary, champion = map(statistics.median, (tally.canary_s, tally.champion_s))
            if canary > MOST_SLOWER * champion:
                words = (
                    f"its median is {canary * 1000:.1f} ms, the champion's {champion * 1000:.1f}"
                )
                self._stop(name, words)
            tally.canary_s.clear()

    def _stop(self, name: str, why: str) -> None:
        canary = self._models.canaries.pop(name, None)
        if canary is not None:
            self._tallies.pop((name, canary.served.version.version), None)
            # The registry may take its time, and this is the event loop.
            threading.Thread(
                target=self._models.stop_canary, args=(name, canary.alias, why), daemon=True
            ).start()
