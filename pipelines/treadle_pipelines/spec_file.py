"""Read a spec file; put what is wrong with it into words."""

import re
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from treadle.errors import SpecError, nearest
from treadle.spec import Spec


def load(path: Path) -> Spec:
    """Read the spec at ``path``. Relative paths in it are relative to its folder.

    Raises SpecError that names the file, the place in it, the value and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise SpecError(f"{path} is a directory: name the spec file in it") from None
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path} holds no text in UTF-8 (byte {error.start}): is it a spec at all?"
        ) from error
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = nearest(path.name, siblings) or ": treadle init TABLE --target COLUMN writes one"
        raise SpecError(f"no such spec file: {path}{near}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(
            f"{path} can't be read: {reason}: check its path and permissions"
        ) from error
    return parse(text, path)


def parse(text: str, path: Path) -> Spec:
    """Parse a spec's text; ``path`` is where it came from."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {_yaml_words(error)}") from error
    if not isinstance(document, dict):
        state = "is empty" if document is None else "holds no spec"
        raise SpecError(
            f"{path} {state}: expected keys such as name, source and target, as treadle init "
            "writes them"
        )
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(_words(fault) for fault in error.errors())
        raise SpecError(f"{path}: {faults}") from None
    return _resolved(spec, path.parent)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is refused: one of them would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _resolved(spec: Spec, folder: Path) -> Spec:
    """Make the tables' paths absolute, so that a step finds them from any directory."""
    tables = {}
    for name, table in spec.source.tables.items():
        address = table.path
        if "://" not in address:
            address = str((folder / Path(address).expanduser()).absolute())
        tables[name] = table.model_copy(update={"path": address})
    source = spec.source.model_copy(update={"tables": tables})
    return spec.model_copy(update={"source": source})


def _words(fault: Any) -> str:
    """Put one of pydantic's errors into words."""
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place)
    value = fault.get("input")
    match fault["type"]:
        case "extra_forbidden":
            known = _keys_at(place[:-1])
            near = nearest(place[-1], known) or f" (known: {', '.join(known)})"
            section = f" in {'.'.join(place[:-1])}" if place[:-1] else ""
            return f"unknown key {place[-1]!r}{section}{near}"
        case "missing":
            return f"{where} is missing{_meant(place)}"
        case "enum":
            allowed = str(fault["ctx"]["expected"])
            near = nearest(str(value), re.findall(r"'([^']*)'", allowed))
            return f"{where} is {value!r}, none of {allowed}{near}"
        case "invalid_key":
            return f"the key {value!r} is no text: put it in quotes"
        case "value_error":
            return f"{where or 'the spec'}: {fault['ctx']['error']!s}"
        case "string_pattern_mismatch":
            return f"{where} is {value!r}, which doesn't fit{_meant(place)}"
        case kind if kind in _EXPECTED:
            return f"{where} is {_shown(value)}: expected {_EXPECTED[kind]}"
        case _:
            words = fault["msg"].removeprefix("Input ")
            return f"{where} is {_shown(value)}: it {words[:1].lower()}{words[1:]}"


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text; quotes make it text",
    "list_type": "a list, as in [a, b]",
    "dict_type": "names with a colon after each",
    "model_type": "keys with a colon after each",
}


def _shown(value: object) -> str:
    if value is None:
        return "left empty"
    return f"{value!r}" if len(repr(value)) <= 80 else f"{value!r:.79}…"


def _meant(place: list[str]) -> str:
    """Return ``": "`` and the words that describe a key, where there are any."""
    model = _section_at(place[:-1])
    field = model.model_fields.get(place[-1]) if model else None
    return f": {field.description}" if field and field.description else ""


def _yaml_words(error: yaml.YAMLError) -> str:
    """Say where the fault is and what was expected there."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _keys_at(place: list[str]) -> list[str]:
    """Return the keys that are known at a place of the spec."""
    model = _section_at(place)
    return sorted(model.model_fields) if model else []


def _section_at(place: list[str]) -> type[BaseModel] | None:
    """Return the section at a place of the spec, or None."""
    model: Any = Spec
    named_by_user = False
    for part in place:
        fields = getattr(model, "model_fields", None)
        if named_by_user or fields is None or part not in fields:
            named_by_user = False
            continue  # a name the user gave, as in source.tables.NAME
        annotation = fields[part].annotation
        named_by_user = get_origin(annotation) is dict
        inner = [a for a in get_args(annotation) if isinstance(a, type) and a is not str]
        model = inner[-1] if inner else annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None
