"""Write a spec inferred from a table, every default in it and every choice commented."""

import os
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import BaseModel

from treadle import runtime, snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, SpecError, check_output, nearest, output_fault
from treadle.kinds import infer_task, is_identifier, kinds_of
from treadle.profile import profile
from treadle.records import Kind, Profile
from treadle.spec import Preprocessing, Source, Spec, SplitBy
from treadle.writing import written_aside

# So many words on how a table is written are told in a spec.
_NOTES = 20


def infer(path: str, target: str, name: str) -> tuple[Spec, dict[str, str]]:
    """Return a spec for a table and, by key (as in ``preprocessing.split``), why it says so.

    Raises DataError where the table can't be used or has no column ``target``.
    """
    from treadle.ingestion import snapshot

    source = Source.model_validate(path)
    with TemporaryDirectory(prefix="treadle-") as scratch:
        store = DirectoryStore(Path(scratch))
        taken = snapshot.take(source, store, runtime.outside())
        data = store.local(taken.data_key)
        found = profile(data, kinds_of(snapshots.schema_of(data), {}))
    column = found.column(target)
    if column is None:
        names = [c.name for c in found.columns]
        raise DataError(
            f"{path} has no column {target!r}{nearest(target, names)} (columns: "
            f"{', '.join(names[:30])})"
        )
    if column.distinct <= 1:
        values = "no value at all" if not column.distinct else "one value only"
        raise DataError(
            f"the target {target!r} has {values} in {path}: there is nothing to learn; name "
            "another column with --target"
        )
    task = infer_task(column)
    preprocessing, why = _split(found, target, task.is_classification)
    noticed = [c.name for c in found.columns if is_identifier(c) and c.name != target]
    if taken.notes:
        why["source.path"] = f"as it was found: {'; '.join(taken.notes[:_NOTES])}"
    why["target"] = f"{column.distinct:,} different values in {found.rows:,} rows: {task.value}"
    if noticed:
        why["preprocessing.exclude"] = f"not used in any case: {', '.join(noticed)} (identifiers)"
    spec = Spec(name=name, target=target, task=task, source=source, preprocessing=preprocessing)
    return spec, why


def _split(
    found: Profile, target: str, is_classification: bool
) -> tuple[Preprocessing, dict[str, str]]:
    times = [
        c.name for c in found.columns if c.kind is Kind.TIME and c.name != target and not c.nulls
    ]
    if times:
        why = f"{times[0]} is a time: learn from the past, be judged on what came after"
        split = Preprocessing(split=SplitBy.TIME, split_column=times[0])
        return split, {"preprocessing.split": why}
    if is_classification:
        why = "no column is a time; each class keeps its share"
        return Preprocessing(split=SplitBy.STRATUM), {"preprocessing.split": why}
    return Preprocessing(), {"preprocessing.split": "no column is a time"}


def relative_to(spec: Spec, folder: Path) -> Spec:
    """Return the spec with its table's path as seen from the folder where the spec will lie."""
    (table,) = spec.source.tables.values()
    if "://" in table.path or Path(table.path).is_absolute():
        return spec
    path = os.path.relpath(Path(table.path).absolute(), folder.absolute())
    return spec.model_copy(
        update={"source": Source(tables={"data": table.model_copy(update={"path": path})})}
    )


def render(spec: Spec, why: dict[str, str]) -> str:
    """Return the spec as YAML with a comment at every key."""
    head = "# A Treadle spec. Every key but name, target and source may be left out; the values\n"
    head += "# here are what they would be.\n"
    return head + "\n".join(_lines(spec, why, "", 0)) + "\n"


def _lines(section: BaseModel, why: dict[str, str], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        place = f"{prefix}{key}"
        words = [w for w in (info.description, why.get(place)) if w]
        if isinstance(value, BaseModel) and key != "source":
            doc = (type(value).__doc__ or "").strip().splitlines()[0]
            yield f"\n{indent}# {doc}"
            yield f"{indent}{key}:"
            yield from _lines(value, why, f"{place}.", depth + 1)
            continue
        for line in words:
            yield from textwrap.wrap(
                line, 98, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   "
            )
        if isinstance(value, Source):
            yield f"{indent}source:"
            yield from _lines(next(iter(value.tables.values())), why, f"{place}.", depth + 1)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list):
        value = [item.value if isinstance(item, Enum) else item for item in value]
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def write(path: Path, text: str) -> None:
    """Write a spec file, whole or not at all; never over one that is there. Raises SpecError where
    there is one."""
    try:
        with written_aside(path, replace=False) as aside:
            aside.write_text(text, encoding="utf-8")
    except FileExistsError:
        check_free(path)
        raise
    except OSError as error:
        raise output_fault(path, error) from error


def check_free(path: Path) -> None:
    """Raise SpecError where a spec can't be written to ``path``, before the table is read."""
    check_output(path, (".yaml", ".yml"))
    if path.exists():
        raise SpecError(f"{path} exists: name another file with -o, or remove it")
