"""The reference of the model server's interface, from its own OpenAPI document."""

from typing import Any

from documentation.markdown import code, page, table, words
from treadle.config import Settings
from treadle_serving import openapi

INTRODUCTION = """
What a running server answers is at its own `/docs`, as a page to read and to try, and at
`/docs.json` as OpenAPI 3.1, from which this page is made. [The model server](../serving.md) says
how to use it.
Every answer carries `X-Request-Id`; with `TREADLE_SERVER_API_KEY` set, requests carry
`Authorization: Bearer KEY` or `X-API-Key`.
"""
# What people look at in a browser, which OpenAPI doesn't describe.
PAGES = {
    "/": "the models, and a form to try each",
    "/docs": "this interface, to read and to try",
    "/docs.json": "this interface, as OpenAPI 3.1",
    "/metrics": "see [metrics](metrics.md)",
    "/monitor": "every model at work, as the last `treadle monitor` left it; the worst first",
    "/monitor/{name}": "one of them",
    "/healthz": "as `/livez`",
}


def render() -> str:
    """Return the page."""
    document = openapi.document(Settings().server_body_mib)
    operations = [
        [code(f"{method.upper()} {path}"), words(found["summary"], path), _takes(found),
         _gives(found)]
        for path, methods in document["paths"].items()
        for method, found in methods.items()
        if method != "parameters"
    ]  # fmt: skip
    schemas = [_schema(name, found) for name, found in document["components"]["schemas"].items()]
    return page(
        "HTTP",
        INTRODUCTION,
        "## Requests\n\n" + table(["request", "what it is for", "takes", "answers"], operations),
        "## Pages\n\n" + table(["path", "shows"], [[code(p), said] for p, said in PAGES.items()]),
        "## Faults\n\n" + _faults(document),
        "## Values\n",
        *filter(None, schemas),
    )


def _takes(operation: dict[str, Any]) -> str:
    return _content(operation.get("requestBody", {}).get("content", {}))


def _gives(operation: dict[str, Any]) -> str:
    return _content(operation["responses"]["200"]["content"])


def _content(content: dict[str, Any]) -> str:
    """Name the values of a body: those of JSON by their schema, the others by their kind."""
    said = []
    for kind, found in content.items():
        reference = found.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if reference == "Anything":
            said.append("JSON")
        else:
            said.append(f"[{reference}](#{reference.lower()})" if reference else code(kind))
    return ", ".join(said)


def _faults(document: dict[str, Any]) -> str:
    known: dict[str, str] = {}
    for methods in document["paths"].values():
        for method, found in methods.items():
            if method != "parameters":
                known |= {s: a["description"] for s, a in found["responses"].items() if s != "200"}
    rows = [[status, words(said, status)] for status, said in sorted(known.items())]
    return "The body is a [Fault](#fault), with words for a person.\n\n" + table(
        ["status", "means"], rows
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return ""
    needed = schema.get("required", [])
    rows = [
        [code(key), _kind(found), "yes" if key in needed else "", found.get("description", "")]
        for key, found in schema["properties"].items()
    ]
    return f"### {name}\n\n" + table(["key", "value", "always", "what it is"], rows)


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(code(each) for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    kinds = schema.get("type", "any")
    said = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if "items" in schema and "properties" in schema["items"]:
        return f"list of {{{', '.join(schema['items']['properties'])}}}"
    return f"list of {_kind(schema['items'])}" if "items" in schema else said
