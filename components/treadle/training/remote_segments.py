"""The models of segments on a cluster: what they need and what is fitted go through the object
store, as with a search (remote.py).

    searches/<name>/segments/task.json      what to do (records.SegmentsTask)
    searches/<name>/segments/data/          the matrices, sorted by segment
    searches/<name>/segments/<made of>/     what is fitted, as it comes (treadle.ledger)
    searches/<name>/segments/left.json      what could not be fitted, in words
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from treadle.ledger import SegmentLedger
from treadle.ports import ObjectStore
from treadle.progress import say
from treadle.records import FittedSegment, FittedSegments, SegmentPlace, SegmentsTask
from treadle.search import ClusterWork, SearchCluster
from treadle.training import remote
from treadle.training.families import Objective
from treadle.training.segment_models import Choice, Segment, Shared

_OBJECTIVE = TypeAdapter(Objective)
_CHOICES = TypeAdapter(list[Choice])


def submit(
    shared: Shared,
    segments: Sequence[Segment],
    ledger: SegmentLedger,
    budget_s: float,
    cluster: SearchCluster,
    store: ObjectStore,
) -> list[FittedSegment]:
    """Fit segments on a cluster; return them in the order of their keys."""
    prefix = f"searches/{ledger.name}/segments"
    task = SegmentsTask(
        versions=remote.own_versions() | cluster.versions(),
        made_of=ledger.made_of,
        objective=_OBJECTIVE.dump_json(shared.objective).decode(),
        choices=_CHOICES.dump_json(shared.choices).decode(),
        min_rows=shared.min_rows,
        timeout_s=shared.timeout_s,
        budget_s=budget_s,
        places=[_place(segment) for segment in segments],
    )
    _put(shared, f"{prefix}/data", store)
    store.put_bytes(f"{prefix}/task.json", task.model_dump_json().encode())
    cluster.run(ledger.name, ClusterWork.SEGMENTS)
    left = FittedSegments.model_validate_json(store.get_bytes(f"{prefix}/left.json")).segments
    found = {tuple(one.model.key): one for one in [*left, *ledger.read()]}
    return [found[key] for key in sorted(found)]


def _put(shared: Shared, prefix: str, store: ObjectStore) -> None:
    """Put the matrices into the object store; those of a run before are the same."""
    with TemporaryDirectory(prefix="treadle-segments-") as scratch:
        for name, values in vars(shared).items():
            key = f"{prefix}/{name}.npy"
            if isinstance(values, np.ndarray) and not store.exists(key):
                path = Path(scratch) / f"{name}.npy"
                np.save(path, values)
                store.put_file(key, path)
                path.unlink()
    say(f"train: {shared.size_bytes / 2**20:,.0f} MiB of segments are in the object store")


def fetch(
    name: str, store: ObjectStore
) -> tuple[SegmentsTask, Shared, list[Segment], SegmentLedger]:
    """Return what was submitted, with the matrices mapped into memory."""
    prefix = f"searches/{name}/segments"
    task = SegmentsTask.model_validate_json(store.get_bytes(f"{prefix}/task.json"))
    arrays: dict[str, Any] = {
        Path(key).stem: np.asarray(np.load(store.local(key), mmap_mode="r"))
        for key in store.keys(f"{prefix}/data/")
    }
    shared = Shared(
        objective=_OBJECTIVE.validate_json(task.objective),
        choices=_CHOICES.validate_json(task.choices),
        min_rows=task.min_rows,
        timeout_s=task.timeout_s,
        **({"fit_w": None, "whole_w": None} | arrays),
    )
    segments = [
        Segment(tuple(p.key), slice(*p.fit), slice(*p.tuning), slice(*p.whole)) for p in task.places
    ]
    return task, shared, segments, SegmentLedger(store, name, task.made_of)


def keep(name: str, fitted: Sequence[FittedSegment], store: ObjectStore) -> None:
    """Put what isn't in the ledger where the submitter looks for it."""
    left = FittedSegments(segments=[one for one in fitted if one.graph is None])
    store.put_bytes(f"searches/{name}/segments/left.json", left.model_dump_json().encode())


def _place(segment: Segment) -> SegmentPlace:
    return SegmentPlace(
        key=list(segment.key),
        fit=(segment.fit.start, segment.fit.stop),
        tuning=(segment.tuning.start, segment.tuning.stop),
        whole=(segment.whole.start, segment.whole.stop),
    )
