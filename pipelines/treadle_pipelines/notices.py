"""Tell others what the loop decided and did: CloudEvents (1.0, JSON, structured mode) to the
webhook that the settings name.

What is to be told waits in the object store until it was taken:

    notices/<model>-<position>.json

so that nothing is lost where the receiver is away. It may come twice; its ``id`` says so.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from pydantic_core import to_json

from treadle import runtime
from treadle.errors import TreadleError
from treadle.feedback import ledger
from treadle.monitoring import Entry, EntryKind
from treadle.retrying import retried

PREFIX = "notices"
TYPE = "io.treadle.loop"
# Of many that wait, so many are sent in a pass.
MOST_SENT = 1_000
# Of a model's record no more entries before the newest are told in a pass.
MOST_TOLD = 20


def tell(model: str, first: int, newest: Entry) -> None:
    """Have those entries of a model's record told that say something new, from a position on: also
    what a monitor wrote that was killed before it could tell of it."""
    if runtime.settings().webhook_url is None or newest.position < first:
        return
    store = runtime.object_store()
    first = max(first, newest.position - MOST_TOLD)
    former = None
    for entry in ledger.since(model, max(first - 1, 0), newest, store):
        if entry.position >= first and _is_news(entry, former):
            key = f"{PREFIX}/{model}-{entry.position:06d}.json"
            content = to_json(event(model, entry), inf_nan_mode="null")
            retried(partial(store.put_bytes, key, content))
        former = entry


def _is_news(entry: Entry, former: Entry | None) -> bool:
    if entry.outcome is not None or entry.kind is EntryKind.BEGUN:
        return True
    return former is None or former.verdict is not entry.verdict


def event(model: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as a CloudEvent. Its ``id`` is the same however often it is sent, and no
    other installation has it."""
    seen = entry.evidence
    return {
        "specversion": "1.0",
        "id": f"{model}/{entry.position}/{_time(entry.at)}",
        "source": "/treadle/monitor",
        "type": f"{TYPE}.{entry.kind.value}",
        "subject": model,
        "time": _time(entry.at),
        "datacontenttype": "application/json",
        "data": {
            "model": model,
            "version": seen.version if seen else entry.version,
            "verdict": entry.verdict.value if entry.verdict else None,
            "outcome": entry.outcome.value if entry.outcome else None,
            "needs_person": entry.needs_person,
            "reasons": entry.reasons,
            "metric": seen.metric.model_dump() if seen and seen.metric else None,
            "rows": seen.rows if seen else None,
        },
    }


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def send_pending(say: Callable[[str], None]) -> None:
    """Send what waits. A receiver that is away gets it after the next pass."""
    url = runtime.settings().webhook_url
    if url is None:
        return
    from treadle.adapters import webhook

    store = runtime.object_store()
    for key in list(store.keys(f"{PREFIX}/"))[:MOST_SENT]:
        content = store.get_bytes(key)
        try:
            retried(lambda content=content: webhook.post(url, content))  # type: ignore[misc]
        except TreadleError as error:
            say(f"{error}; what was to be told waits in {store.uri(PREFIX)}")
            return
        store.delete(key)
