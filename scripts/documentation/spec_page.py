"""The reference of the spec's keys, from its pydantic models."""

import types
import typing
from collections.abc import Iterator
from enum import Enum

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from documentation.markdown import code, page, table, words
from treadle.spec import PARAMETERS, Spec

INTRODUCTION = """
A spec is one YAML file that describes one model, and nothing that describes a machine
([settings](settings.md) do). `treadle init TABLE --target COLUMN` writes one with every key, its
default and these words. Only `name`, `target` and `source` have to be there; an unknown key is
refused, with the nearest known one.
"""


def render() -> str:
    """Return the page: a table a section, in the order of the spec."""
    parts = [INTRODUCTION]
    for path, section in sections():
        title = code(path) if path else "The whole"
        doc = words(section.__doc__, section.__name__)
        rows = [_row(path, key, info) for key, info in section.model_fields.items()]
        parts.append(
            f"## {title}\n\n{doc}\n\n" + table(["key", "value", "default", "what it is"], rows)
        )
    parts.append(_parameters())
    return page("The spec", *parts)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section by its path, each once."""
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", Spec)]
    while waiting:
        path, section = waiting.pop(0)
        if section in seen:
            continue
        seen.add(section)
        yield path, section
        inner = [
            (f"{path}.{key}{suffix}".lstrip("."), found)
            for key, info in section.model_fields.items()
            for found, suffix in _inside(info.annotation)
        ]
        waiting = inner + waiting


def places() -> Iterator[str]:
    """Yield the path of every key there is."""
    for path, section in sections():
        yield from (f"{path}.{key}".lstrip(".") for key in section.model_fields)


def _inside(annotation: object, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the sections that a value is made of, and how their place is written."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    is_map = typing.get_origin(annotation) is dict
    for part in typing.get_args(annotation):
        yield from _inside(part, suffix + ".NAME" if is_map else suffix)


def _row(path: str, key: str, info: FieldInfo) -> list[str]:
    place = f"{path}.{key}".lstrip(".")
    inner = [found for found, _ in _inside(info.annotation)]
    if inner and not info.description:
        return [code(key), "section", "", f"see [{place}](#{_anchor(place)})"]
    needed = "**needed**" if info.is_required() else code(_default(info))
    return [code(key), _value(info), needed, words(info.description, f"the spec's {place}")]


def _anchor(place: str) -> str:
    return place.lower().replace(".", "")


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(str(getattr(each, "value", each)) for each in value) + "]"
    return str(value) if str(value) else '""'


def _value(info: FieldInfo) -> str:
    kind = _kind(info.annotation)
    limits = [words for limit in info.metadata for words in _limits(limit)]
    return ", ".join([kind, *limits])


def _limits(limit: object) -> Iterator[str]:
    """Yield what a value may be at most and at least, in words."""
    signs = {annotated_types.Ge: ("ge", "≥"), annotated_types.Gt: ("gt", ">"),
             annotated_types.Le: ("le", "≤"), annotated_types.Lt: ("lt", "<")}  # fmt: skip
    for kind, (attribute, sign) in signs.items():
        if isinstance(limit, kind):
            yield f"{sign} {getattr(limit, attribute):g}"
    if pattern := getattr(limit, "pattern", None):
        yield f"matching {code(pattern)}"


_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_WORDS = _PLAIN | {object: "value"}


def _kind(annotation: object) -> str:
    """Return what a value may be, in words."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(code(str(each.value)) for each in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(code(str(each)) for each in inside)
    if origin is typing.Annotated:
        return _kind(inside[0])
    if origin is list:
        return f"list of: {_kind(inside[0])}"
    if origin is dict:
        return f"by {_kind(inside[0])}: {_kind(inside[1])}"
    if origin in (typing.Union, types.UnionType):
        if set(_PLAIN) <= set(inside):
            inside = (object, *(each for each in inside if each not in _PLAIN))
        kinds = [_kind(each) for each in inside if each is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    raise TypeError(f"a spec's value of type {annotation} has no words here")


def _parameters() -> str:
    rows = [
        [code(family.value), ", ".join(map(code, names))] for family, names in PARAMETERS.items()
    ]
    return "## What of each family is searched\n\nFor `training.spaces`.\n\n" + table(
        ["family", "parameters"], rows
    )
