"""What the API server accepts: its own schemas as JSON Schema, unknown fields refused."""

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

PACKED = Path(__file__).with_name("schemas.json.gz")
CRDS = Path(__file__).parents[2] / "manifests" / "crds"
# A loader in C is ten times as fast, where PyYAML has one.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PROSE = {"description", "format", "default", "example"}


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the API server would refuse in a document."""
    kind = f"{document['apiVersion']}/{document['kind']}"
    schema = _packed()["kinds"].get(kind) or _of_crds(kind)
    if schema is None:
        yield f"{kind}: no schema (tests/manifests/update-schemas names the kinds)"
        return
    whole = {**schema, "definitions": _packed()["definitions"]}
    for error in Draft202012Validator(whole).iter_errors(document):
        where = "/".join(map(str, error.absolute_path))
        yield f"{document['kind']} {document['metadata']['name']}: {where}: {error.message[:300]}"


@cache
def _packed() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(gzip.decompress(PACKED.read_bytes()))
    return whole


@cache
def _of_crds(kind: str) -> Mapping[str, Any] | None:
    group, _, name = kind.split("/")
    path = CRDS / f"{group}_{name.lower()}s.yaml"
    if not path.exists():
        return None
    schema: Mapping[str, Any] = custom(yaml.load(path.read_text("utf-8"), LOADER))[kind]
    return schema


def custom(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas of a CustomResourceDefinition, by version and kind."""
    spec = definition["spec"]
    return {
        f"{spec['group']}/{version['name']}/{spec['names']['kind']}": strict(
            version["schema"]["openAPIV3Schema"]
        )
        for version in spec["versions"]
    }


def strict(schema: Any) -> Any:
    """Return a published schema without prose, as JSON Schema, refusing fields that it doesn't
    name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    kept = {
        key: strict(value)
        for key, value in schema.items()
        if key not in PROSE | {"properties"} and not key.startswith("x-kubernetes")
    }
    if "properties" in schema:
        kept["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept.setdefault("additionalProperties", False)
    return kept
