"""All that is kept, to one file and back."""

import json
from dataclasses import asdict
from pathlib import Path

from treadle import runtime
from treadle.errors import check_output, output_fault
from treadle.registry import backup as backups
from treadle.registry.backup import Kept
from treadle_pipelines.listing import local_time


def backup(out: Path, as_json: bool) -> str:
    """Write a backup; say what is in it."""
    check_output(out, (".tar",))
    settings = runtime.settings()
    store, registry = runtime.object_store(), runtime.registry()
    try:
        kept = backups.backup(registry, store, settings.shown(), out, runtime.signing_key())
    except OSError as error:
        raise output_fault(out, error) from error
    if as_json:
        return _as_json(kept)
    return f"wrote {_counted(kept)} to {out}"


def restore(path: Path, as_json: bool) -> str:
    """Put back what a backup holds; say what was added, and which settings differ."""
    kept = backups.restore(path, runtime.registry(), runtime.object_store(), runtime.verify_key())
    if as_json:
        return _as_json(kept)
    now = runtime.settings().shown()
    others = [
        f"  {name}={value}" for name, value in kept.settings.items() if now.get(name) != value
    ]
    differing = ["settings of then that differ here:", *others] if others else []
    taken = f"restored the backup of {local_time(kept.taken_at)}: added {_counted(kept)}"
    return "\n".join([taken, *differing])


def _counted(kept: Kept) -> str:
    counts = {"model": kept.models, "version": kept.versions, "object": kept.objects}
    words = [f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items()]
    return f"{words[0]} with {words[1]} and {words[2]}"


def _as_json(kept: Kept) -> str:
    told = asdict(kept) | {"taken_at": kept.taken_at.isoformat(), "settings": dict(kept.settings)}
    return json.dumps(told, ensure_ascii=False)
