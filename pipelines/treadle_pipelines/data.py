"""What ``treadle data`` prints: datasets, their versions, who used them, what lies between two."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from treadle import datasets, drift, runtime, snapshots
from treadle.errors import SpecError, counted
from treadle.kinds import kinds_of
from treadle.profile import profile
from treadle.records import ColumnDrift, DatasetVersion, Snapshot
from treadle.sql import connected
from treadle_pipelines.listing import columns as aligned
from treadle_pipelines.listing import local_time


@dataclass(frozen=True)
class Difference:
    """What changed from one dataset version to another."""

    dataset: str
    before: int
    after: int
    rows: tuple[int, int]
    added: list[str]
    removed: list[str]
    retyped: dict[str, tuple[str, str]]
    moved: list[dict[str, Any]]


def of_all(as_json: bool) -> str:
    """Return a line a dataset: how many versions, and the newest."""
    store = runtime.object_store()
    found = {name: datasets.versions(name, store) for name in datasets.names(store)}
    if as_json:
        told = [{"name": n, "versions": len(v), "newest": _plain(v[-1])} for n, v in found.items()]
        return json.dumps({"datasets": told}, ensure_ascii=False)
    if not found:
        home = runtime.settings().home
        return f"no datasets in {home} yet: treadle run SPEC makes one (or name another --home)"
    rows = [["DATASET", "VERSIONS", "ROWS", "READ", "DIGEST"]]
    rows += [
        [name, str(len(v)), f"{v[-1].rows:,}", local_time(v[-1].created_at), v[-1].digest[:12]]
        for name, v in found.items()
    ]
    return aligned(rows)


def of_dataset(name: str, as_json: bool) -> str:
    """Return a line a version, newest first, with the model versions that used it."""
    store = runtime.object_store()
    versions = datasets.known(name, store)
    used = _used_by()
    if as_json:
        told = [
            {"version": number, **_plain(version), "used_by": used.get(version.digest, [])}
            for number, version in enumerate(versions, 1)
        ]
        return json.dumps({"name": name, "versions": told}, ensure_ascii=False)
    rows = [["VERSION", "ROWS", "SNAPSHOTS", "FILES", "READ", "DIGEST", "USED BY"]]
    rows += [
        [
            str(number), f"{version.rows:,}", str(len(version.snapshots)), str(len(version.files)),
            local_time(version.created_at), version.digest[:12],
            ", ".join(used.get(version.digest, [])) or "none",
        ]
        for number, version in reversed(list(enumerate(versions, 1)))
    ]  # fmt: skip
    newest = snapshots.load(versions[-1].digest, store)
    lines = [aligned(rows), "", f"version {len(versions)} comes from {newest.source}"]
    parts = [snapshots.load(digest, store) for digest in versions[-1].snapshots]
    lines += [f"  snapshot {part.digest}  {counted(part.rows, 'row')}" for part in parts]
    lines += [f"  {note}" for note in newest.notes]
    lines += ["", aligned([["COLUMN", "TYPE"], *_typed(newest)])]
    return "\n".join(lines)


def _typed(snapshot: Snapshot) -> list[list[str]]:
    return [
        [c.name, f"{c.type}: {' < '.join(c.categories)}" if c.categories else c.type]
        for c in snapshot.columns
    ]


def _used_by() -> dict[str, list[str]]:
    """Return, by snapshot digest, the model versions that were trained on it."""
    used: dict[str, list[str]] = {}
    registry = runtime.registry()
    for model in registry.names():
        for version in reversed(registry.versions(model)):
            names = used.setdefault(version.lineage.snapshot.digest, [])
            names.append(f"{model} {version.version}")
    return used


def between(name: str, before: int, after: int, as_json: bool) -> str:
    """Return what changed from version ``before`` to ``after``: rows, columns, types and how the
    values are distributed. Raises SpecError for a version that isn't there."""
    difference = _difference(name, before, after)
    if as_json:
        return json.dumps(asdict(difference), ensure_ascii=False)
    return "\n".join(_lines(difference))


def _difference(name: str, before: int, after: int) -> Difference:
    store = runtime.object_store()
    versions = datasets.known(name, store)
    for number in (before, after):
        if not 0 < number <= len(versions):
            raise SpecError(f"{name} has no version {number}: it has 1 to {len(versions)}")
    was, now = (snapshots.load(versions[number - 1].digest, store) for number in (before, after))
    types = [{column.name: column.type for column in each.columns} for each in (was, now)]
    both = [column for column in types[0] if column in types[1]]
    return Difference(
        dataset=name,
        before=before,
        after=after,
        rows=(was.rows, now.rows),
        added=[column for column in types[1] if column not in types[0]],
        removed=[column for column in types[0] if column not in types[1]],
        retyped={c: (types[0][c], types[1][c]) for c in both if types[0][c] != types[1][c]},
        moved=[_told(moved) for moved in _moved(was, now, both)],
    )


def _moved(was: Snapshot, now: Snapshot, both: list[str]) -> list[ColumnDrift]:
    """Compare the columns that both have, read as their first types say."""
    store = runtime.object_store()
    paths = [store.local(each.data_key) for each in (was, now)]
    kinds = {n: k for n, k in kinds_of(snapshots.schema_of(paths[0]), {}).items() if n in both}
    if was.digest == now.digest or not kinds:
        return []
    reference = profile(paths[0], kinds).columns
    with connected() as connection:
        connection.read_parquet(str(paths[1])).create_view("data")
        found = drift.compare(connection, reference, now.rows)
    return [moved for moved in found if moved.significant]


def _told(moved: ColumnDrift) -> dict[str, Any]:
    return moved.model_dump(mode="json", include={"column", "distance", "shift", "words"})


def _lines(it: Difference) -> list[str]:
    grown = it.rows[1] - it.rows[0]
    lines = [
        f"{it.dataset}: version {it.before} → {it.after}",
        f"  rows     {it.rows[0]:,} → {it.rows[1]:,} ({grown:+,})",
    ]
    lines += [f"  added    {name}" for name in it.added]
    lines += [f"  removed  {name}" for name in it.removed]
    lines += [f"  retyped  {name}: {was} → {now}" for name, (was, now) in it.retyped.items()]
    if not (it.added or it.removed or it.retyped):
        lines.append("  columns  the same, with the same types")
    if not it.moved:
        return [*lines, "  values   distributed as before"]
    rows = [["", "MOVED", "DISTANCE", "MOST"]]
    rows += [["", m["column"], f"{m['distance']:.3f}", m["words"]] for m in it.moved]
    return [*lines, "", aligned(rows)]


def _plain(version: DatasetVersion) -> dict[str, Any]:
    return version.model_dump(mode="json", exclude={"dataset"})
