"""Tell others what the loop decided and did: CloudEvents (1.0, JSON, structured mode) to the
webhook that the settings name.

What is to be told waits in the object store until it was taken:

    notices/<model>-<position>.json

so that nothing is lost where the receiver is away. It may come twice; its ``id`` says so.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from treadle import runtime
from treadle.errors import TreadleError
from treadle.monitoring import Entry
from treadle.retrying import retried

PREFIX = "notices"
TYPE = "io.treadle.loop"
# Of many that wait, so many are sent in a pass.
MOST_SENT = 1_000


def notify(model: str, entry: Entry, former: Entry | None) -> None:
    """Have a new entry told, where it says something new."""
    if runtime.settings().webhook_url is None or not _is_news(entry, former):
        return
    key = f"{PREFIX}/{model}-{entry.position:06d}.json"
    content = json.dumps(event(model, entry), ensure_ascii=False).encode()
    retried(lambda: runtime.object_store().put_bytes(key, content))


def _is_news(entry: Entry, former: Entry | None) -> bool:
    if entry.outcome is not None:
        return True
    return former is None or former.verdict is not entry.verdict


def event(model: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as a CloudEvent."""
    seen = entry.evidence
    return {
        "specversion": "1.0",
        "id": f"{model}/{entry.position}",
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
