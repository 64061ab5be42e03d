"""The loop's record of a model: entries that are appended and never changed, beside the history of
its champions.

    decisions/<model>/<position>.json

An entry is created where there is none of its position: of two monitors that decide at once, one
appends, and the other is told that it was overtaken.
"""

from collections.abc import Iterator
from datetime import datetime

from pydantic import ValidationError

from treadle.errors import Overtaken, StoreError
from treadle.monitoring import Entry, EntryKind, State
from treadle.ports import ObjectStore

PREFIX = "decisions"


def latest(model: str, hint: int | None, store: ObjectStore) -> Entry | None:
    """Return the newest entry. ``hint`` is a position at which there was one, to look on from."""
    if hint is not None and store.exists(_key(model, hint)):
        while store.exists(_key(model, hint + 1)):
            hint += 1
        return _read(_key(model, hint), store)
    last = max(store.keys(f"{PREFIX}/{model}/"), default=None)
    return None if last is None else _read(last, store)


def entries(model: str, store: ObjectStore) -> Iterator[Entry]:
    """Yield every entry, oldest first."""
    for key in store.keys(f"{PREFIX}/{model}/"):
        yield _read(key, store)


def newest(model: str, most: int, store: ObjectStore) -> Iterator[Entry]:
    """Yield the newest entries, oldest first."""
    for key in list(store.keys(f"{PREFIX}/{model}/"))[-most:]:
        yield _read(key, store)


def since(model: str, position: int, newest: Entry, store: ObjectStore) -> Iterator[Entry]:
    """Yield the entries from a position on, up to the newest, which is known."""
    for place in range(position, newest.position):
        yield _read(_key(model, place), store)
    yield newest


def append(
    model: str,
    former: Entry | None,
    kind: EntryKind,
    who: str,
    now: datetime,
    state: State,
    store: ObjectStore,
    **told: object,
) -> Entry:
    """Append an entry after ``former``, the newest that was known. Raises Overtaken where there is
    another by now; nothing is changed then."""
    position = 0 if former is None else former.position + 1
    fields = {"position": position, "kind": kind, "at": now, "who": who, "state": state, **told}
    entry = Entry.model_validate(fields)
    if not store.create(_key(model, position), entry.model_dump_json().encode()):
        other = _read(_key(model, position), store)
        raise Overtaken(
            f"{other.who} decided about {model} at the same time: nothing else was changed"
        )
    return entry


def _read(key: str, store: ObjectStore) -> Entry:
    try:
        return Entry.model_validate_json(store.get_bytes(key))
    except ValidationError as error:
        raise StoreError(
            f"{store.uri(key)} is no entry of the loop's record: it was altered, or another "
            "release wrote it; move it aside, and it is decided anew"
        ) from error


def _key(model: str, position: int) -> str:
    return f"{PREFIX}/{model}/{position:06d}.json"
