"""The interface in OpenAPI 3.1, for the page at /docs and for tools."""

from typing import Any

from treadle import __version__

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
DATATYPES = ("BYTES", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
             "INT64", "FP16", "FP32", "FP64")  # fmt: skip
_VALUE = {"type": ["number", "string", "boolean", "null"]}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {**_TEXT, "maxLength": 100},
         "description": "the model"}  # fmt: skip
_VERSION = {"name": "version", "in": "path", "required": True,
            "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
            "description": "a version, instead of the champion"}  # fmt: skip
_FAULTS = {400: "the request can't be read", 401: "the key is missing or wrong",
           404: "no such model or version", 408: "the body didn't arrive in time",
           413: "the body is too large", 415: "the body is of a type that isn't taken",
           422: "values that don't fit the model, by row and column",
           503: "the model can't be loaded, or too much is under way"}  # fmt: skip
_HEADERS = {
    "X-Request-Id": {"description": "the client's own, or a new one; the log has it too",
                     "schema": _TEXT},
    "X-Ignored-Values": {"description": "values in columns that the model knows and doesn't use: "
                         "column=3, other=1", "schema": _TEXT},
}  # fmt: skip


def document(body_mib: int) -> dict[str, Any]:
    """Return the whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Treadle's model server",
            "version": __version__,
            "description": "Every champion in the registry. Requests may have up to "
            f"{body_mib} MiB. Answers carry X-Request-Id, which a client may also send.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def _paths() -> dict[str, Any]:
    found: dict[str, Any] = {
        "/v1/models": {"get": _get("List the models", "Models")},
        "/v1/models/{name}/labels": {"parameters": [_NAME], "post": _label()},
        "/livez": {"get": _get("Whether the process answers", "Anything", faults=())},
        "/healthz": {"get": _get("As /livez", "Anything", faults=())},
        "/readyz": {"get": _ready("Whether requests can be answered, and what is wrong")},
        "/v2": {"get": _get("The server, in the Open Inference Protocol", "Anything")},
        "/v2/health/live": {"get": _get("As /livez", "Anything", faults=())},
        "/v2/health/ready": {"get": _ready("As /readyz")},
        "/metrics": {"get": _page("What Prometheus reads", "text/plain")},
        "/docs.json": {"get": _get("This description", "Anything", faults=())},
        "/docs": {"get": _page("This description, for people")},
        "/": {"get": _page("The models, for people, with a form to try each")},
        "/monitor": {"get": _page("How every model does at work", faults=(401, 404, 503))},
        "/monitor/{name}": {"parameters": [_NAME], "get": _page("How a model does at work",
                                                                faults=(401, 404, 503))},
    }  # fmt: skip
    for suffix, parameters in (("", [_NAME]), ("/versions/{version}", [_NAME, _VERSION])):
        of_model = (401, 404, 503)
        v1, v2 = f"/v1/models/{{name}}{suffix}", f"/v2/models/{{name}}{suffix}"
        found[v1] = {"parameters": parameters,
                     "get": _get("Signature, metrics, an example", "Model", of_model)}  # fmt: skip
        found[f"{v1}/predict"] = {"parameters": parameters, "post": _predict()}
        found[v2] = {"parameters": parameters,
                     "get": _get("The model's tensors", "Anything", of_model)}  # fmt: skip
        found[f"{v2}/ready"] = {"parameters": parameters,
                                "get": _get("Load the model", "Anything", of_model)}  # fmt: skip
        found[f"{v2}/infer"] = {"parameters": parameters, "post": _infer()}
    return found


def _get(summary: str, answer: str, faults: tuple[int, ...] = (401,)) -> dict[str, Any]:
    return {"summary": summary, "responses": _responses(_json(answer), faults)}


def _page(summary: str, kind: str = "text/html", faults: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"summary": summary, "responses": _responses({kind: {"schema": _TEXT}}, faults)}


def _ready(summary: str) -> dict[str, Any]:
    found = _get(summary, "State", faults=())
    found["responses"]["503"] = {"description": "nothing can be answered",
                                 "content": _json("State")}  # fmt: skip
    return found


def _predict() -> dict[str, Any]:
    content = {
        **_json("Rows"),
        "text/csv": {"schema": _TEXT},
        "application/vnd.apache.parquet": {},
        "application/vnd.apache.arrow.stream": {},
    }
    answer = {**_json("Predictions"), **{kind: content[kind] for kind in list(content)[1:]}}
    responses = _responses(answer, tuple(_FAULTS))
    responses["200"]["headers"] |= _headers("X-Ignored-Values")
    return {
        "summary": "Predict rows; a table is answered with a table, or as Accept says",
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    }


def _label() -> dict[str, Any]:
    return {
        "summary": "What turned out to be true of predicted rows, by their ids; sent twice is once",
        "requestBody": {"required": True, "content": _json("Labels")},
        "responses": _responses(_json("Delivery"), (400, 401, 404, 408, 413, 422, 503)),
    }


def _infer() -> dict[str, Any]:
    return {
        "summary": "Predict tensors; binary tensors are taken and given",
        "requestBody": {"required": True, "content": _json("Tensors")},
        "responses": _responses(_json("Anything"), tuple(_FAULTS)),
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _responses(content: dict[str, Any], faults: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "the answer", "content": content}}
    for status in faults:
        found[str(status)] = {"description": _FAULTS[status], "content": _json("Fault")}
    for response in found.values():
        response["headers"] = _headers("X-Request-Id")
    return found


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _schemas() -> dict[str, Any]:
    row = {"type": "object", "description": "column: value, a number, text, boolean or null; one "
           "left out is null, those that the model doesn't read are ignored"}  # fmt: skip
    answer = _object(
        {"id": _TEXT, "prediction": {"type": ["number", "string", "null"]},
         "probabilities": {"type": "object", "additionalProperties": _NUMBER},
         "explanation": {"type": "object", "additionalProperties": _NUMBER}},
        ["id", "prediction"],
    )  # fmt: skip
    identity = {"model": _TEXT, "version": {"type": "integer"}, "semver": _TEXT, "digest": _TEXT}
    one = {**_list(_VALUE), "minItems": 1, "maxItems": 1}
    tensor = _object(
        {"name": {**_TEXT, "minLength": 1}, "datatype": {"enum": list(DATATYPES)},
         "shape": {"type": "array", "minItems": 1, "maxItems": 2, "description": "[n, 1] or [n]",
                   "prefixItems": [{"type": "integer", "minimum": 1}, {"const": 1}]},
         "data": {**_list({"anyOf": [_VALUE, one]}), "minItems": 1}},
        ["name", "datatype", "shape", "data"],
    )  # fmt: skip
    label = _object(
        {"id": {**_TEXT, "minLength": 1, "maxLength": 200},
         "label": {**_VALUE, "description": "null: not known yet"},
         "at": {"type": ["string", "null"], "format": "date-time",
                "description": "when it became known; null: now"}},
        ["id", "label"],
    )  # fmt: skip
    counts = ["labels", "not_yet_known", "unknown_class", "from_future"]
    return {
        "Anything": {"type": "object"},
        "State": _object({"ready": {"type": "boolean"}, "state": _TEXT, "wrong": {"type": "object"},
                          "loaded": {"type": "integer"}}, ["ready", "state", "wrong"]),
        "Models": _object({"models": _list({"type": "object"})}, ["models"]),
        "Model": _object({**identity, "signature": {"type": "object"}}, list(identity)),
        "Rows": _object(
            {"rows": {**_list(row), "minItems": 1},
             "ids": {**_list({**_TEXT, "minLength": 1, "maxLength": 200}),
                     "type": ["array", "null"],
                     "description": "names of your own for the rows, one each; for labels"},
             "explain": {"type": ["boolean", "null"], "default": False}},
            ["rows"],
        ),
        "Predictions": _object({**identity, "predictions": _list(answer)}, ["predictions"]),
        "Labels": _object({"labels": {**_list(label), "minItems": 1}}, ["labels"]),
        "Delivery": _object(
            {"model": _TEXT, "digest": _TEXT, **{count: {"type": "integer"} for count in counts},
             "is_new": {"type": "boolean", "description": "false: it had come before"}},
            ["model", "digest", *counts, "is_new"],
        ),
        "Tensors": _object({"id": _TEXT, "inputs": {**_list(tensor), "minItems": 1}}, ["inputs"]),
        "Fault": _object({"error": _TEXT, "request_id": _TEXT, "rows": _list({"type": "object"})},
                         ["error"]),
    }  # fmt: skip


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
