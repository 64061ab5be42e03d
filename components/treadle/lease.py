"""A lease: of several processes that share an object store one acts, and one that is killed loses
it by itself.

    leases/<name>/<number>.json    who holds it, and until when

The next holder creates the next number, which only one can. A holder renews its own by writing it
again; one that was slow sees the higher number and stops. Clocks are taken to agree within a few
seconds; what is written under a lease is guarded by itself as well.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from treadle.errors import Overtaken, TreadleError
from treadle.ports import ObjectStore
from treadle.records import Record

LASTS = timedelta(seconds=60)
RENEWED_EVERY_S = 15.0


class _Held(Record):
    holder: str
    until: datetime


class Lease:
    """A lease that is held. ``check`` before each thing that is done under it."""

    def __init__(self, key: str, holder: str, store: ObjectStore) -> None:
        self._key, self._holder, self._store = key, holder, store
        self._until = datetime.now(UTC) + LASTS

    def check(self) -> None:
        """Raise Overtaken where it is no longer held."""
        if datetime.now(UTC) > self._until:
            raise Overtaken(
                "the object store didn't answer for so long that another monitor may have taken "
                "over: nothing else was changed; run it again"
            )

    def renew(self) -> None:
        """Hold it for longer. Raises Overtaken where somebody else has taken it."""
        newest = _newest(self._key.rpartition("/")[0], self._store)
        if newest != self._key:
            self._until = datetime.min.replace(tzinfo=UTC)
            raise Overtaken("another monitor has taken over: nothing else was changed")
        until = datetime.now(UTC) + LASTS
        self._store.put_bytes(self._key, _content(self._holder, until))
        self._until = until

    def release(self) -> None:
        """Let it go, for the next to take at once."""
        self._store.put_bytes(self._key, _content(self._holder, datetime.now(UTC)))


def _content(holder: str, until: datetime) -> bytes:
    return _Held(holder=holder, until=until).model_dump_json().encode()


def _newest(folder: str, store: ObjectStore) -> str | None:
    return max(store.keys(f"{folder}/"), default=None)


def take(name: str, holder: str, store: ObjectStore) -> Lease | str:
    """Take a lease; return who holds it where somebody does."""
    folder = f"leases/{name}"
    newest = _newest(folder, store)
    number = 0
    if newest is not None:
        held = _Held.model_validate_json(store.get_bytes(newest))
        if held.until > datetime.now(UTC):
            return held.holder
        number = int(newest.rpartition("/")[2].removesuffix(".json")) + 1
    key = f"{folder}/{number:012d}.json"
    if not store.create(key, _content(holder, datetime.now(UTC) + LASTS)):
        return _Held.model_validate_json(store.get_bytes(key)).holder
    for former in list(store.keys(f"{folder}/")):
        if former < key:
            store.delete(former)
    return Lease(key, holder, store)


@contextmanager
def kept(lease: Lease) -> Iterator[Lease]:
    """Keep a lease alive while the block runs, and let it go after it."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEWED_EVERY_S):
            try:
                lease.renew()
            except Overtaken:
                return
            except TreadleError:
                continue  # a store that is away for longer than the lease ends it by itself

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        lease.release()
