"""Take labels: what turned out to be true of rows that were predicted."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from treadle import labels
from treadle.labels import Label
from treadle_serving.requests import Refused
from treadle_serving.routes import as_json

if TYPE_CHECKING:
    from treadle_serving.app import App

_SHAPE = '{"labels": [{"id": "…", "label": …, "at": "2026-03-01T12:00:00Z"}, …]}, "at" if known'

_NEEDED, _KNOWN = {"id", "label"}, {"id", "label", "at"}


async def take(app: "App", request: Request) -> Response:
    """Keep labels of a model's predictions. When it is answered they are in the object store; sent
    again, they count once."""
    body = await app.bodies.read(request.receive, dict(request.scope["headers"]))
    name = request.path_params["name"]
    served = await app.version(name, None)
    sent = _labels(await app.parsed(body))
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        app.scoring, labels.deliver, name, served.version.signature, sent, datetime.now(UTC),
        app.store,
    )  # fmt: skip
    return as_json({"model": name, **found.model_dump()})


def _labels(document: Any) -> list[Label]:
    sent = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(sent, list) or not sent:
        raise Refused(f"the body must be {_SHAPE}")
    for position, each in enumerate(sent):
        if not isinstance(each, dict) or not _NEEDED <= each.keys() <= _KNOWN:
            raise Refused(f"label {position} is not of the form that is wanted: {_SHAPE}")
    return [Label(each["id"], each["label"], each.get("at")) for each in sent]
