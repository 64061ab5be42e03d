"""Read a spec file; put what is wrong with it into words."""

from pathlib import Path
from typing import Any, get_args

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
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise SpecError(f"no such spec file: {path}{nearest(path.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} can't be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Spec:
    """Parse a spec's text; ``path`` is where it came from."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path} holds no spec: expected keys such as name, source and target")
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(_words(fault) for fault in error.errors())
        raise SpecError(f"{path}: {faults}") from None
    return _resolved(spec, path.parent)


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
            return f"unknown key '{place[-1]}'{section}{near}"
        case "missing":
            return f"{where} is missing"
        case "enum":
            allowed = str(fault["ctx"]["expected"])
            return f"{where}: {value!r} is none of {allowed}"
        case "value_error":
            return f"{where or 'the spec'}: {fault['ctx']['error']!s}"
        case _:
            return f"{where}: {value!r:.80}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"


def _keys_at(place: list[str]) -> list[str]:
    """Return the keys that are known at a place of the spec."""
    model: Any = Spec
    for part in place:
        fields = getattr(model, "model_fields", None)
        if fields is None or part not in fields:
            continue  # a name the user gave, as in source.tables.NAME
        annotation = fields[part].annotation
        inner = [a for a in get_args(annotation) if isinstance(a, type) and a is not str]
        model = inner[-1] if inner else annotation
    return sorted(model.model_fields) if _is_model(model) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
