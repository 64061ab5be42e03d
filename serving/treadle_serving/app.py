"""The HTTP interface, as an ASGI application.

GET  /v1/models                  the models that are served
GET  /v1/models/{name}           version, digest and signature of the champion
POST /v1/models/{name}/predict   {"rows": [{column: value, …}, …]}
"""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from treadle.errors import TreadleError
from treadle.signature import RowErrors
from treadle_serving.champions import Champions, Served, UnknownModel

MOST_BYTES = 32 * 1024**2
Endpoint = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger("treadle.serving")
_champions = Champions()


class BadRequest(TreadleError):
    """The request can't be read."""


class TooLarge(TreadleError):
    """The request's body is larger than MOST_BYTES."""


async def predict(request: Request) -> Response:
    """Answer rows with the champion's predictions."""
    rows = _rows(await _body(request))
    served = await run_in_threadpool(_champions.get, request.path_params["name"])
    predictions = await run_in_threadpool(served.bundle.predict_rows, rows)
    return JSONResponse({**_identity(served), "predictions": predictions})


async def show_model(request: Request) -> Response:
    """Describe the champion of a model."""
    served = await run_in_threadpool(_champions.get, request.path_params["name"])
    signature = served.version.signature.model_dump(mode="json")
    return JSONResponse({**_identity(served), "signature": signature})


async def list_models(request: Request) -> Response:
    """List the models that have a champion."""
    return JSONResponse({"models": await run_in_threadpool(_champions.names)})


async def index(request: Request) -> Response:
    """Lead a browser to the list of models."""
    return RedirectResponse("/v1/models")


def _identity(served: Served) -> dict[str, Any]:
    version = served.version
    return {
        "model": version.name,
        "version": version.version,
        "semver": version.semver,
        "digest": version.digest,
    }


async def _body(request: Request) -> bytes:
    """Read the body, up to MOST_BYTES."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLarge(
                f"the body is larger than {MOST_BYTES // 1024**2} MiB: send fewer rows at once"
            )
        parts.append(part)
    return b"".join(parts)


def _rows(body: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        raise BadRequest('the body must be {"rows": [{column: value, …}, …]} with at least one row')
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadRequest(f"row {position} is {type(row).__name__}, not an object")
    return rows


def _in_words(endpoint: Endpoint) -> Endpoint:
    """Answer faults with a status and words, never with a traceback."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RowErrors as error:
            rows = [{"row": row, "column": name, "error": why} for row, name, why in error.errors]
            return JSONResponse({"error": str(error), "rows": rows}, status_code=422)
        except BadRequest as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except TooLarge as error:
            return JSONResponse({"error": str(error)}, status_code=413)
        except UnknownModel as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except TreadleError as error:
            _log.error("%s: %s", request.url.path, error)
            return JSONResponse({"error": str(error)}, status_code=503)

    return answer


app = Starlette(
    routes=[
        Route("/", _in_words(index)),
        Route("/v1/models", _in_words(list_models)),
        Route("/v1/models/{name}", _in_words(show_model)),
        Route("/v1/models/{name}/predict", _in_words(predict), methods=["POST"]),
    ]
)
