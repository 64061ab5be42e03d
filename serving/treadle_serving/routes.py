"""Everything but plain predictions: pages, descriptions, health, metrics, and the Open Inference
Protocol."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from treadle.records import Signature
from treadle_serving import metrics, monitored, open_inference, openapi
from treadle_serving.models import CHAMPION, Served, UnknownModel
from treadle_serving.requests import Gone

if TYPE_CHECKING:
    from treadle_serving.app import App

Endpoint = Callable[["App", Request], Awaitable[Response]]
_PAGES = Path(__file__).with_name("pages")


def application(app: "App") -> Starlette:
    """Return the routes."""
    from treadle_serving import labels  # which answers as these do

    def route(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        return Route(path, _answering(app, endpoint), methods=[method])

    versioned = "/v2/models/{name}/versions/{version:int}"
    routes = [
        route("/", page),
        route("/docs", docs),
        route("/docs.json", describe_interface),
        route("/livez", live),
        route("/healthz", live),
        route("/readyz", ready),
        route("/metrics", show_metrics),
        route("/monitor", monitored.show_fleet),
        route("/monitor/{name}", monitored.show_model),
        route("/v1/models", list_models),
        route("/v1/models/{name}", show_model),
        route("/v1/models/{name}/versions/{version:int}", show_model),
        route("/v2", open_inference.describe_server),
        route("/v2/health/live", live),
        route("/v2/health/ready", ready),
    ]
    for path in ("/v2/models/{name}", versioned):
        routes += [
            route(path, open_inference.describe_model),
            route(f"{path}/ready", open_inference.is_ready),
            route(f"{path}/infer", open_inference.infer, "POST"),
        ]
    routes.append(route("/v1/models/{name}/labels", labels.take, "POST"))
    # Answered before it comes here, but for other methods and for versions beyond all numbers.
    for path in ("/v1/models/{name}", "/v1/models/{name}/versions/{version:int}"):
        routes.append(route(f"{path}/predict", no_such_version, "POST"))
    return Starlette(routes=routes, exception_handlers={HTTPException: _in_words})


def _answering(app: "App", endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Answer faults with a status and words, and every request with its id."""

    async def answer(request: Request) -> Response:
        id_: bytes = request.scope["treadle.request_id"]
        try:
            response = await endpoint(app, request)
        except Gone:
            return Response(status_code=499)
        except Exception as error:
            status, content = app.in_words(error, request.url.path, id_)
            response = as_json(content, status)
        response.headers["x-request-id"] = id_.decode()
        return response

    return answer


async def _in_words(request: Request, error: Exception) -> Response:
    """Say which paths there are, and which methods."""
    assert isinstance(error, HTTPException)
    id_ = request.scope["treadle.request_id"].decode()
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        words = f"{request.method} is not for {request.url.path}: use {allowed}"
        headers = {**(error.headers or {}), "x-request-id": id_}
        return as_json({"error": words, "request_id": id_}, 405, headers)
    words = f"there is nothing at {request.url.path}: /docs shows what there is"
    found = {"error": words, "request_id": id_}
    return as_json(found, error.status_code, {"x-request-id": id_})


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    body = orjson.dumps(content)
    return Response(body, status, headers, media_type="application/json")


async def no_such_version(app: "App", request: Request) -> Response:
    """Refuse a version that can't be."""
    name, number = request.path_params["name"], request.path_params["version"]
    raise UnknownModel(f"{name} has no version {number}")


async def page(app: "App", request: Request) -> Response:
    """Show the models to a person, with a form to try them."""
    return FileResponse(_PAGES / "index.html")


async def docs(app: "App", request: Request) -> Response:
    """Show the interface to a person."""
    return FileResponse(_PAGES / "docs.html")


async def describe_interface(app: "App", request: Request) -> Response:
    """Describe the interface in OpenAPI."""
    return as_json(openapi.document(app.settings.server_body_mib))


async def live(app: "App", request: Request) -> Response:
    """Say that the process answers."""
    return as_json({"live": True})


async def ready(app: "App", request: Request) -> Response:
    """Say whether requests can be answered, and what is wrong. With the registry or the store gone,
    what is loaded is served on: that is ready, and said to be degraded."""
    models = app.models
    faults = {
        "registry": models.registry_state(),
        "store": models.store_fault,
        "prediction_log": app.log.fault,
    }
    wrong = {name: words for name, words in faults.items() if words is not None}
    is_ready = models.is_ready() and not app.ending
    state = "ready" if is_ready and not wrong else "degraded" if is_ready else "not ready"
    state = "ending" if app.ending else state
    content = {"ready": is_ready, "state": state, "wrong": wrong, "loaded": models.count}
    return as_json(content, 200 if is_ready else 503)


async def show_metrics(app: "App", request: Request) -> Response:
    """Tell Prometheus."""
    content = await run_in_threadpool(app.metrics.render)
    return Response(content, media_type=metrics.CONTENT_TYPE)


async def list_models(app: "App", request: Request) -> Response:
    """List the models, their aliases and whether they are loaded."""
    found = []
    for name, aliases in sorted(app.models.numbers().items()):
        champion = aliases.get(CHAMPION)
        state = "no champion" if champion is None else _state(app, name, champion)
        found.append({"name": name, "champion": champion, "aliases": aliases, "state": state})
    return as_json({"models": found})


def _state(app: "App", name: str, number: int) -> str:
    fault = app.models.fault(name, number)
    if fault is not None:
        return f"can't be loaded: {fault}"
    return "loaded" if app.models.is_loaded(name, number) else "loaded on first use"


async def show_model(app: "App", request: Request) -> Response:
    """Describe the champion of a model, or a version of it."""
    served = await asked(app, request)
    signature = served.version.signature.model_dump(mode="json")
    return as_json({
        **served.identity,
        "created_at": served.version.created_at.isoformat(),
        "metrics": [metric.model_dump(mode="json") for metric in served.version.metrics],
        "signature": signature,
        "example": await run_in_threadpool(example, served),
        "choices": await run_in_threadpool(choices, served),
    })  # fmt: skip


async def asked(app: "App", request: Request) -> Served:
    """Return the version that a path is about."""
    return await app.version(request.path_params["name"], request.path_params.get("version"))


def example(served: Served) -> dict[str, Any]:
    """Return a real row that the model knows the answer to."""
    rows, _ = served.bundle.golden
    return rows[-1]


def choices(served: Served) -> dict[str, list[str]]:
    """Return the commonest values of each category, for a form to offer."""
    profile, signature = served.bundle.reference, served.version.signature
    return {name: _top(profile.column(name)) for name in _categories(signature)}


def _categories(signature: Signature) -> list[str]:
    return [f.name for f in signature.features if f.kind == "category"]


def _top(column: Any) -> list[str]:
    return [] if column is None else [share.value for share in column.top]
