"""The models that this server answers with: loaded on first use, least recently used out under a
memory limit, swapped when the registry points elsewhere.

Requests never ask the registry: a thread asks it every second for all aliases at once, loads what a
promotion points at, and then swaps one reference. What is loaded answers on while the registry or
the object store is gone.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from treadle import runtime
from treadle.bundle import Bundle, key
from treadle.errors import RegistryError, TreadleError, nearest
from treadle.ports import ObjectStore, Registry
from treadle.records import ModelVersion
from treadle.segments import SegmentedModel
from treadle_serving.drift import seen_in_training
from treadle_serving.memory import allocated_bytes, give_back
from treadle_serving.spool import Version

CHAMPION, CHALLENGER = "champion", "challenger"
# A version that carries the alias canary-10 gets ten percent of the requests.
CANARY = "canary-"
# A promotion is seen within this time.
WATCH_S = 1.0
# The registry is called gone when it hasn't answered for so long, the store is looked at so often.
SILENT_S, PROBE_S = 10.0, 5.0
# A version that couldn't be loaded isn't tried again before.
RETRY_S = 5.0
# What comes and goes leaves room between what stays, so that a model takes up more than its own.
BETWEEN = 1.25
_log = logging.getLogger("treadle.serving")


class UnknownModel(RegistryError):
    """There is no champion, or no version, of that name."""


@dataclass(eq=False)
class Served:
    """A version with its bundle, loaded."""

    version: ModelVersion
    bundle: Bundle
    size_bytes: int
    used: float = field(default_factory=time.monotonic)
    batches: dict[str, Any] = field(default_factory=dict)  # by role: see ``batch``

    @cached_property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Who answers: a part of every answer."""
        version = self.version
        return {
            "model": version.name,
            "version": version.version,
            "semver": version.semver,
            "digest": version.digest,
        }

    @cached_property
    def logged_as(self) -> Version:
        """What the prediction log must know of it."""
        version = self.version
        seen = seen_in_training(self.bundle)
        return Version(version.name, version.version, version.digest, version.signature, seen)


@dataclass(frozen=True)
class Canary:
    """A version that answers a share of its model's requests."""

    served: Served
    share: float
    alias: str


class Models:
    """Knows which version answers for which model. Safe to use from several threads."""

    def __init__(self, registry: Registry, store: ObjectStore, limit_bytes: int) -> None:
        self._registry, self._store, self._limit_bytes = registry, store, limit_bytes
        self._aliases: Mapping[str, Mapping[str, int]] = {}
        self._champions: dict[str, Served] = {}
        self._loaded: dict[tuple[str, int], Served] = {}
        self.canaries: dict[str, Canary] = {}
        self._faults: dict[tuple[str, int], tuple[float, TreadleError]] = {}
        # The first guards the dictionaries and is held for no longer than that takes; the second
        # lets one version load at a time, so that its size can be told.
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._heard: float | None = None
        self.registry_fault: str | None = "it hasn't been asked yet"
        self.store_fault: str | None = None
        self._has_let_go = False
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._every, args=(each, period_s), daemon=True)
            for each, period_s in ((self.refresh, WATCH_S), (self._probe, PROBE_S))
        ]

    def start(self) -> None:
        """Begin to watch registry and store."""
        # Read now, and not by the first request for a model, nor counted as that model's memory.
        import onnxruntime  # noqa: F401

        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def loaded(self, name: str, number: int | None = None) -> Served | None:
        """Return the champion (or a version by its number) if it is loaded. Costs nothing."""
        found = self._champions.get(name) if number is None else self._loaded.get((name, number))
        if found is not None:
            found.used = time.monotonic()
        return found

    def load(self, name: str, number: int | None = None) -> Served:
        """Return the champion, or a version by its number; load it where it isn't.

        Raises UnknownModel where there is none, TreadleError where it can't be loaded.
        """
        if number is not None:
            return self._version(name, number)
        champion = self._numbered(name, CHAMPION)
        if champion is None:
            raise self._unknown(name)
        served = self._version(name, champion)
        with self._lock:
            return self._champions.setdefault(name, served)

    def challenger(self, name: str) -> Served | None:
        """Return the challenger, loaded where it isn't, or None where there is none."""
        number = self._numbered(name, CHALLENGER)
        return None if number is None else self._version(name, number)

    def numbers(self) -> Mapping[str, Mapping[str, int]]:
        """Return the aliases of every model, as the registry gave them last."""
        return self._aliases

    def is_loaded(self, name: str, number: int) -> bool:
        """Say whether a version is in memory."""
        return (name, number) in self._loaded

    def fault(self, name: str, number: int) -> str | None:
        """Return why a version couldn't be loaded when it was last tried, if it couldn't."""
        found = self._faults.get((name, number))
        return None if found is None else str(found[1])

    @property
    def size_bytes(self) -> int:
        """The memory that loaded models take."""
        return sum(served.size_bytes for served in list(self._loaded.values()))

    @property
    def count(self) -> int:
        """How many versions are loaded."""
        return len(self._loaded)

    def is_ready(self) -> bool:
        """Say whether requests can be answered: the registry is there, or something is loaded."""
        return not self._stop.is_set() and (self.registry_state() is None or bool(self._loaded))

    def registry_state(self) -> str | None:
        """Return what is wrong with the registry; None for nothing."""
        if self.registry_fault is not None:
            return self.registry_fault
        silent_s = time.monotonic() - (self._heard or 0.0)
        return f"no answer for {silent_s:.0f} s" if silent_s > SILENT_S else None

    def refresh(self) -> None:
        """Ask the registry where every alias points, and follow the promotions and rollbacks."""
        if self._has_let_go:
            self._has_let_go = False
            give_back()
        try:
            self._aliases = self._registry.aliases()
        except TreadleError as error:
            if self.registry_fault is None:
                _log.error("registry gone, serving on what is loaded: %s", error)
            self.registry_fault = str(error)
            return
        self.registry_fault, self._heard = None, time.monotonic()
        for name in list(self._champions):
            self._follow_champion(name)
            self._follow_canary(name)

    def _follow_champion(self, name: str) -> None:
        number = self._aliases.get(name, {}).get(CHAMPION)
        former = self._champions.get(name)
        if number is None:
            with self._lock:
                self._champions.pop(name, None)
        elif former is not None and former.version.version != number:
            try:
                served = self._version(name, number)
            except TreadleError as error:
                _log.error("%s version %d can't be served, version %d answers on: %s",
                           name, number, former.version.version, error)  # fmt: skip
                return
            with self._lock:
                self._champions[name] = served
            _log.info("%s: version %d took over from version %d", name, number,
                      former.version.version)  # fmt: skip

    def _follow_canary(self, name: str) -> None:
        found = next(((a, n) for a, n in self._aliases.get(name, {}).items() if _share(a)), None)
        if found is None:
            self.canaries.pop(name, None)
            return
        alias, number = found
        known = self.canaries.get(name)
        if known and (known.alias, known.served.version.version) == found:
            return
        try:
            self.canaries[name] = Canary(self._version(name, number), _share(alias), alias)
        except TreadleError as error:
            self.canaries.pop(name, None)
            self.stop_canary(name, alias, f"it can't be loaded: {error}")

    def stop_canary(self, name: str, alias: str, why: str) -> None:
        """Take the canary's alias away, here at once and in the registry for every server."""
        self.canaries.pop(name, None)
        _log.error("%s: the canary was stopped: %s", name, why)
        try:
            self._registry.remove_alias(name, alias)
        except TreadleError as error:
            _log.error("%s: alias %s is still in the registry: %s", name, alias, error)

    def _numbered(self, name: str, alias: str) -> int | None:
        """Return the version behind an alias; a name not known yet is asked for once more."""
        number = self._aliases.get(name, {}).get(alias)
        if number is None and name not in self._aliases:
            self._aliases = self._registry.aliases()
            number = self._aliases.get(name, {}).get(alias)
        return number

    def _version(self, name: str, number: int) -> Served:
        key_ = (name, number)
        found = self._loaded.get(key_)
        if found is not None:
            return found
        with self._loading:
            found = self._loaded.get(key_)
            if found is not None:
                return found
            failed = self._faults.get(key_)
            if failed is not None and time.monotonic() - failed[0] < RETRY_S:
                raise failed[1]
            try:
                served = self._opened(name, number)
            except UnknownModel:
                raise
            except TreadleError as error:
                self._faults[key_] = (time.monotonic(), error)
                raise
            self._faults.pop(key_, None)
            self._make_room(served.size_bytes)
            with self._lock:
                self._loaded[key_] = served
        return served

    def _opened(self, name: str, number: int) -> Served:
        started = time.perf_counter()
        versions = self._registry.versions(name) if name in self._aliases else []
        version = next((v for v in versions if v.version == number), None)
        if version is None:
            raise self._unknown(name, number)
        before = allocated_bytes()
        bundle = Bundle.fetch(
            version.digest, self._store, verify_key=runtime.verify_key(), lean=True
        )
        bundle.prove()
        files = sum(path.stat().st_size for path in bundle.files.values())
        size_bytes = max(round((allocated_bytes() - before) * BETWEEN), files)
        if isinstance(bundle.model, SegmentedModel):
            size_bytes += bundle.model.most_bytes
        _log.info("%s version %d loaded: %.1f MiB, %.0f ms", name, number, size_bytes / 2**20,
                  1000 * (time.perf_counter() - started))  # fmt: skip
        served = Served(version, bundle, size_bytes)
        # Read now, in this thread, and not by the first request.
        assert served.logged_as
        return served

    def _make_room(self, size_bytes: int) -> None:
        """Let go of what was used least recently, until the new one fits."""
        with self._lock:
            oldest = sorted(self._loaded.items(), key=lambda item: item[1].used)
            excess = sum(s.size_bytes for _, s in oldest) + size_bytes - self._limit_bytes
            for key_, served in oldest:
                if excess <= 0:
                    return
                excess -= served.size_bytes
                del self._loaded[key_]
                self._has_let_go = True
                # What waits for it holds it, and it that: its memory would go late.
                served.batches.clear()
                if self._champions.get(key_[0]) is served:
                    del self._champions[key_[0]]
                _log.info("%s version %d let go to make room", *key_)

    def _unknown(self, name: str, number: int | None = None) -> UnknownModel:
        if number is not None and name in self._aliases:
            return UnknownModel(f"{name} has no version {number}")
        names = sorted(n for n, aliases in self._aliases.items() if CHAMPION in aliases)
        has = f"; these have: {', '.join(names[:20])}" if names else ""
        return UnknownModel(f"no champion is registered for {name!r}{nearest(name, names) or has}")

    def _probe(self) -> None:
        """See whether the store still has what we loaded from it."""
        served = next(iter(list(self._loaded.values())), None)
        digest = served.version.digest if served else "none"
        try:
            there = self._store.exists(key(digest, "signature.json"))
            self.store_fault = f"bundle {digest} is gone" if served and not there else None
        except TreadleError as error:
            self.store_fault = str(error)

    def _every(self, work: Callable[[], None], period_s: float) -> None:
        while not self._stop.is_set():
            with _logged():
                work()
            self._stop.wait(period_s)


@contextmanager
def _logged() -> Iterator[None]:
    """Let a watching thread live on after a fault that nobody foresaw."""
    try:
        yield
    except Exception:
        _log.exception("watching failed; it goes on")


def _share(alias: str) -> float:
    """Return the share in an alias such as canary-10; 0 for any other alias."""
    percent = alias.removeprefix(CANARY)
    return int(percent) / 100 if alias.startswith(CANARY) and percent.isdecimal() else 0.0
