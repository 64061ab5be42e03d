"""Champions for the loop to look at: trained as the pipeline does, without the search, and a third
as long as it would at most."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from treadle import prepared, profile, snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import GOLDEN, ONNX, SIGNATURE, Bundle, store_bundle
from treadle.feedback import reference
from treadle.feedback.look import Champion
from treadle.kinds import kinds_of
from treadle.preprocessing import prepare
from treadle.records import Decision, Lineage, ModelVersion, Signature, Trial
from treadle.search import UNITS
from treadle.signature import frame_of
from treadle.spec import Preprocessing, TrainingOptions
from treadle.training import onnx_export, refit, train

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Trained:
    """A version, its bundle, and the rows that its training held out."""

    version: ModelVersion
    bundle: Bundle
    held_out: pd.DataFrame
    store: DirectoryStore

    def champion(self, metric: str) -> Champion:
        """Return the version as the loop takes it."""
        was = reference.make(self.version, self.bundle, metric, self.store)
        return Champion(self.version, self.bundle, was, metric)


def trained(
    rows: pa.Table, target: str, metric: str, split: Mapping[str, object], place: Path
) -> Trained:
    """Learn from a table; ``split`` is what the spec's preprocessing says of it."""
    store = DirectoryStore(place / "objects")
    taken = snapshots.publish(rows.to_reader(), "benchmark", store)
    data = store.local(taken.data_key)
    known = profile.profile(data, kinds_of(snapshots.schema_of(data), {}))
    options = Preprocessing.model_validate(split)
    parted = prepare.run(taken, known, target, None, options, 0.2, "", 0, store, place / "prepared")
    signature = Signature.read(place / "prepared" / prepared.SIGNATURE)
    _, objective = train.pose("benchmark", place / "prepared", TrainingOptions(metric=metric))
    curve = [(UNITS // 3, 0.0)]
    best = Trial(number=0, family="hist_gradient_boosting", parameters={}, curve=curve, seconds=0.0)
    learned = prepared.load_training(place / "prepared")
    pipeline = refit.fit(best, place / "prepared", learned, objective, 2)
    files = place / "bundle"
    files.mkdir()
    (files / ONNX).write_bytes(onnx_export.export(pipeline, signature))
    (files / GOLDEN).write_text(json.dumps({"rows": [], "answers": []}), encoding="utf-8")
    signature.write(files / SIGNATURE)
    for name in (prepared.REFERENCE, prepared.SCHEMA):
        shutil.copyfile(place / "prepared" / name, files / name)
    bundle = Bundle.at(files, 2)
    store_bundle(bundle, store)
    lineage = Lineage(run_id="benchmark", snapshot=taken, split=parted, spec="{}", parameters={},
                      family=best.family, seed=0, code="", commit=None, python="",
                      packages={})  # fmt: skip
    version = ModelVersion(
        name="benchmark", version=1, semver="1.0.0", digest=bundle.digest, source="",
        signature=signature, metrics=[], decision=Decision(passed=True, reasons=[]),
        lineage=lineage, created_at=BEGIN,
    )  # fmt: skip
    held_out = frame_of(pq.read_table(store.local(f"snapshots/{parted.held_out}/data.parquet")))
    return Trained(version, bundle, held_out, store)
