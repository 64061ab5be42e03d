"""The champions that this server answers with: loaded on first use, swapped when the registry
points elsewhere."""

import threading
import time
from dataclasses import dataclass

from treadle import runtime
from treadle.bundle import Bundle
from treadle.errors import RegistryError, TreadleError, nearest
from treadle.records import ModelVersion

CHAMPION = "champion"
# How long an answer of the registry is believed: a promotion is seen within this time.
FRESH_S = 1.0


@dataclass(frozen=True)
class Served:
    """A version with its bundle, loaded."""

    version: ModelVersion
    bundle: Bundle


class Champions:
    """Knows the champion of each model. Safe to use from several threads."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the models that have a champion."""
        registry = runtime.registry()
        return [name for name in registry.names() if registry.aliased(name, CHAMPION)]

    def get(self, name: str) -> Served:
        """Return the champion of a model. Raises RegistryError where there is none.

        A registry that can't be asked doesn't stop what is loaded already.
        """
        known = self._served.get(name)
        if known and time.monotonic() - self._asked.get(name, -FRESH_S) < FRESH_S:
            return known
        with self._lock:
            try:
                served = self._refreshed(name)
            except UnknownModel:
                self._served.pop(name, None)
                raise
            except TreadleError:
                if known is None:
                    raise
                served = known
            self._served[name] = served
            self._asked[name] = time.monotonic()
            return served

    def _refreshed(self, name: str) -> Served:
        known = self._served.get(name)
        version = runtime.registry().aliased(name, CHAMPION)
        if version is None:
            names = self.names()
            has = f"; these have: {', '.join(names[:20])}" if names else ""
            words = f"no champion is registered for {name!r}{nearest(name, names) or has}"
            raise UnknownModel(words)
        if known and known.version.digest == version.digest:
            return Served(version, known.bundle)
        bundle = Bundle.fetch(version.digest, runtime.object_store())
        bundle.prove()
        return Served(version, bundle)


class UnknownModel(RegistryError):
    """There is no champion of that name."""
