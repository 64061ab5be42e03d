"""Rebuild a version from its lineage alone, in a scratch place, and hold it against the one that is
there: the same rows, spec, family and parameters, without the search that found them."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from treadle import prepared, runtime, snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.analysis.examined import examine
from treadle.bundle import SEGMENTS, Bundle, schema_of
from treadle.errors import ModelError, RegistryError, TreadleError
from treadle.ports import ObjectStore
from treadle.preprocessing import prepare
from treadle.records import ModelVersion, Record, SegmentIndex, Signature, Snapshot, Trial
from treadle.registry import lineage
from treadle.search import UNITS
from treadle.segments import read_index
from treadle.spec import Spec
from treadle.training import refit, segments, train
from treadle.validation import gate
from treadle.validation.schema import Known

Say = Callable[[str], None]


class Distance(Record):
    """How far the rebuilt model's answers are from the registered one's, on the held-out rows."""

    rows: int
    largest: float
    equal_labels: float | None


class Reproduction(Record):
    """What came of rebuilding a version. ``because`` is what is otherwise than it was then."""

    model: str
    version: int
    digest: str
    rebuilt: str
    equal: bool
    files: list[str]
    distance: Distance | None
    because: list[str]
    seconds: float


def run(name: str, words: str, say: Say) -> Reproduction:
    """Rebuild a version; ``say`` is told how it gets on. Raises RegistryError where its lineage
    can't be followed, StoreError where its rows are gone."""
    version = runtime.version(name, words)
    spec = _spec(version)
    started = time.monotonic()
    with TemporaryDirectory(prefix="treadle-reproduce-") as scratch:
        place = Path(scratch)
        own = DirectoryStore(place / "objects")
        say(f"rows: snapshot {version.lineage.snapshot.digest}")
        taken = _rows(version, runtime.object_store(), own)
        rebuilt, held_out = _rebuild(version, spec, taken, own, place, say)
        say("comparing")
        registered = _registered(version)
        equal = rebuilt.digest == version.digest
        return Reproduction(
            model=version.name,
            version=version.version,
            digest=version.digest,
            rebuilt=rebuilt.digest,
            equal=equal,
            files=[] if equal or registered is None else _differing(rebuilt, registered),
            distance=None if registered is None else _distance(rebuilt, registered, held_out),
            because=[] if equal else _because(version, registered),
            seconds=round(time.monotonic() - started, 2),
        )


def _spec(version: ModelVersion) -> Spec:
    try:
        return Spec.model_validate_json(version.lineage.spec)
    except ValidationError as error:
        raise RegistryError(
            f"the spec of {version.name} version {version.version} isn't one that this release "
            f"reads: install the Treadle that made it ({version.lineage.code})"
        ) from error


def _rows(version: ModelVersion, store: ObjectStore, own: ObjectStore) -> Snapshot:
    """Take the version's snapshot anew, from the kept rows: its digest says whether they are the
    same."""
    known = snapshots.load(version.lineage.snapshot.digest, store)
    file = pq.ParquetFile(store.local(known.data_key))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from file.iter_batches()

    reader = pa.RecordBatchReader.from_batches(file.schema_arrow, batches())
    taken = snapshots.publish(reader, known.source, own)
    if taken.digest != known.digest:
        raise ModelError(f"snapshot {known.digest} was altered: its rows have {taken.digest}")
    return taken


def _rebuild(
    version: ModelVersion, spec: Spec, taken: Snapshot, own: ObjectStore, place: Path, say: Say
) -> tuple[Bundle, pd.DataFrame]:
    """Go through the steps again; return the bundle and the held-out rows."""
    say("validating and preparing")
    validated = gate.run(
        taken, spec.target, spec.validation, _known(version), own, place / "quarantine.parquet",
        spec.preprocessing.exclude,
    )  # fmt: skip
    options, seed = spec.training, version.lineage.seed
    split = prepare.run(
        validated.accepted, validated.profile, spec.target, spec.task, spec.preprocessing,
        options.tuning_share, options.sample_weight or "", seed, own, place / "prepared",
    )  # fmt: skip
    origin = version.lineage
    say(f"fitting {origin.family}")
    best = Trial(
        number=0, family=origin.family, parameters=origin.parameters,
        curve=[(origin.units or UNITS, 0.0)], seconds=0.0,
    )  # fmt: skip
    signature = Signature.read(place / "prepared" / prepared.SIGNATURE)
    rows = prepared.load_training(place / "prepared")
    problem, objective = train.pose(version.name, place / "prepared", options)
    pipeline = refit.fit(best, place / "prepared", rows, objective, runtime.cores())
    segmented = None
    if options.segments:
        pooled = segments.Pooled(problem, objective, [best], best, rows, pipeline)
        segmented = segments.refit(pooled, _segments_of(version), options, runtime.cores())
    refit.write_bundle(pipeline, rows, signature, place / "prepared", place / "bundle", segmented)
    held_out = snapshots.load(split.held_out, own)
    frame = pd.read_parquet(own.local(held_out.data_key))
    return Bundle.at(place / "bundle", runtime.cores()), frame


def _segments_of(version: ModelVersion) -> SegmentIndex:
    """Return what the models of segments are made of: the version's bundle alone knows that."""
    return read_index(runtime.bundle(version.digest).files[SEGMENTS])


def _known(version: ModelVersion) -> Known | None:
    """Return the schema that was enforced: the champion's of then."""
    if version.lineage.champion is None:
        return None
    before, signature = schema_of(version.lineage.champion, runtime.object_store())
    return Known(before, frozenset(signature.names))


def _registered(version: ModelVersion) -> Bundle | None:
    """Return the registered bundle; None where it can't be opened, which is what a version may have
    to be rebuilt for."""
    try:
        return runtime.bundle(version.digest)
    except TreadleError:
        return None


def _differing(rebuilt: Bundle, registered: Bundle) -> list[str]:
    names = sorted({**rebuilt.files, **registered.files})
    return [name for name in names if _content(rebuilt, name) != _content(registered, name)]


def _content(bundle: Bundle, name: str) -> bytes | None:
    path = bundle.files.get(name)
    return path.read_bytes() if path else None


def _distance(rebuilt: Bundle, registered: Bundle, held_out: pd.DataFrame) -> Distance | None:
    if (rebuilt.signature.names, rebuilt.signature.classes) != (
        registered.signature.names,
        registered.signature.classes,
    ):
        return None
    ours, theirs = (examine(bundle, held_out).output for bundle in (rebuilt, registered))
    labels = None
    if rebuilt.signature.task.is_classification:
        labels = float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))
    largest = float(np.max(np.abs(ours - theirs)))
    return Distance(rows=len(ours), largest=largest, equal_labels=labels)


def _because(version: ModelVersion, registered: Bundle | None) -> list[str]:
    """Name what is otherwise now than it was when the version was made."""
    origin = version.lineage
    then = {"Treadle": origin.code, "Python": origin.python, **origin.packages}
    now = {"Treadle": lineage.code(), "Python": lineage.python(), **lineage.packages()}
    words = [
        f"{what} was {then[what]}, is {now.get(what, 'not installed')}"
        for what in then
        if then[what] != now.get(what)
    ]
    if registered is None:
        words.append("the registered bundle can't be opened, so answers can't be compared")
    return words or ["nothing that was written down is otherwise: processor and threads may be"]


def told(found: Reproduction, as_json: bool) -> str:
    """Put what came of it into words."""
    if as_json:
        return json.dumps(found.model_dump(mode="json"), ensure_ascii=False)
    title = f"{found.model} version {found.version}"
    if found.equal:
        return f"{title} was rebuilt from its lineage, equal to the digest: {found.digest}"
    lines = [f"{title} was rebuilt from its lineage, and is not equal",
             f"  registered  {found.digest}", f"  rebuilt     {found.rebuilt}"]  # fmt: skip
    if found.files:
        lines.append(f"  differing   {', '.join(found.files)}")
    if found.distance is not None:
        distance = found.distance
        lines.append(f"  answers     at most {distance.largest:.3g} apart on {distance.rows:,} "
                     "held-out rows")  # fmt: skip
        if distance.equal_labels is not None:
            lines.append(f"  labels      {distance.equal_labels:.2%} equal")
    return "\n".join([*lines, *(f"  because     {why}" for why in found.because)])
