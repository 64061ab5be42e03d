"""Turn good rows into what training needs: features chosen, rows parted, a transformer fitted on
the training part only."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treadle import prepared, snapshots
from treadle.encoding import category
from treadle.errors import DataError, counted, nearest
from treadle.ports import ObjectStore
from treadle.preprocessing.features import choose_features, plan_transformer
from treadle.preprocessing.split import Parts, part
from treadle.profile import profile as profile_table
from treadle.records import (
    Feature,
    Kind,
    Profile,
    Severity,
    Signature,
    Snapshot,
    Split,
    Task,
)
from treadle.signature import encode_frame, frame_of
from treadle.spec import Preprocessing, SplitBy
from treadle.sql import connected, quoted, single
from treadle.transformers import build_transformer


def run(
    accepted: Snapshot,
    profile: Profile,
    target: str,
    task: Task | None,
    options: Preprocessing,
    tuning_share: float,
    weight: str,
    seed: int,
    store: ObjectStore,
    out: Path,
) -> Split:
    """Write the prepared directory (see ``treadle.prepared``) to ``out`` and return the split."""
    if weight:
        # It says how much a row counts, which is nothing to predict from.
        _check_weight(weight, profile, target)
        options = options.model_copy(update={"exclude": [*options.exclude, weight]})
    table = pq.read_table(store.local(accepted.data_key))
    parts = _part(frame_of(table), profile, target, options, options.test_share, seed)
    held_out = snapshots.publish(
        table.filter(pa.array(parts.held_out)).to_reader(),
        f"held-out rows of snapshot {accepted.digest}",
        store,
    )
    kept, shared = _apart(table.filter(pa.array(~parts.held_out)), held_out, options, store)
    reference = _profile(kept, profile)
    training = frame_of(kept)
    labels = sorted({category(value) for value in training[target]})
    signature = choose_features(reference, target, task, options, labels)
    tuning = _part(training, profile, target, options, tuning_share, seed + 1).held_out
    split = Split(
        by=options.split.value,
        column=options.split_column,
        seed=seed,
        train_rows=len(training),
        test_rows=held_out.rows,
        cutoff=_iso(parts.cutoff),
        tuning_rows=int(tuning.sum()),
        shared_rows=shared,
        held_out=held_out.digest,
    )
    out.mkdir(parents=True, exist_ok=True)
    signature.write(out / prepared.SIGNATURE)
    split.write(out / prepared.SPLIT)
    profile.write(out / prepared.SCHEMA)
    reference.write(out / prepared.REFERENCE)
    _write_training(training, tuning, signature, reference, options, seed, out)
    if weight:
        _write_weights(training[weight], tuning, out)
    return split


def _apart(
    training: pa.Table, held_out: Snapshot, options: Preprocessing, store: ObjectStore
) -> tuple[pa.Table, int]:
    """Return the rows to learn from and how many held-out rows are the same as one of them, answer
    included; where that is a hard check, those are no longer learned from. Raises DataError where
    no row is left."""
    if options.shared_rows is Severity.OFF:
        return training, 0
    names = [name for name in training.column_names if name not in options.exclude]
    row = f"hash({', '.join(quoted(name) for name in names)})"
    with connected() as connection:
        connection.register("training", training)
        connection.read_parquet(str(store.local(held_out.data_key))).create_view("held_out")
        among = f"SELECT count(*) FROM held_out WHERE {row} IN (SELECT {row} FROM training)"
        shared = int(single(connection, among)[0])
        if not shared or options.shared_rows is not Severity.HARD:
            return training, shared
        alone = f"SELECT {row} NOT IN (SELECT {row} FROM held_out) AS alone FROM training"
        kept = training.filter(connection.sql(alone).to_arrow_table()["alone"])
    if not kept.num_rows:
        raise DataError(
            "every row to learn from is held out too, and preprocessing.shared_rows is hard: take "
            "doubles out of the table, or split by group"
        )
    return kept, shared


def _part(
    frame: pd.DataFrame,
    profile: Profile,
    target: str,
    options: Preprocessing,
    share: float,
    seed: int,
) -> Parts:
    key: npt.NDArray[np.generic] | None = None
    if options.split is SplitBy.STRATUM:
        key = np.array([category(value) for value in frame[target]], dtype=object)
    elif options.split_column is not None:
        key = _split_key(frame, profile, options)
    return part(options.split, share, seed, key, len(frame))


def _split_key(
    frame: pd.DataFrame, profile: Profile, options: Preprocessing
) -> npt.NDArray[np.generic]:
    name = options.split_column or ""
    column = profile.column(name)
    if column is None:
        known = [c.name for c in profile.columns]
        raise DataError(f"preprocessing.split_column: no column {name!r}{nearest(name, known)}")
    if options.split is SplitBy.GROUP:
        return np.array([category(value) for value in frame[name]], dtype=object)
    kind = Kind.NUMBER if column.kind is Kind.NUMBER else Kind.TIME
    feature = Signature(task=Task.REGRESSION, target="", features=[Feature(name=name, kind=kind)])
    return encode_frame(frame, feature)[name].to_numpy(dtype=np.float64)


def _write_training(
    training: pd.DataFrame,
    tuning: npt.NDArray[np.bool_],
    signature: Signature,
    profile: Profile,
    options: Preprocessing,
    seed: int,
    out: Path,
) -> None:
    encoded = encode_frame(training, signature)
    answers = prepared.encode_target(training[signature.target], signature)
    recipe = plan_transformer(signature, profile, options, seed)
    recipe.write(out / prepared.RECIPE)
    fitted = build_transformer(recipe)
    if signature.task.is_classification and len(np.unique(answers[~tuning])) < 2:
        raise DataError(
            f"without the tuning part the rows to learn from hold one class only of "
            f"{signature.target!r}: choose another split, or a smaller training.tuning_share"
        )
    matrices = {
        "fit_x": fitted.fit_transform(encoded[~tuning], answers[~tuning]),
        "fit_y": answers[~tuning],
        "tuning_x": fitted.transform(encoded[tuning]),
        "tuning_y": answers[tuning],
        "train_y": answers,
    }
    np.save(out / prepared.TUNING_ROWS, tuning)
    for name, matrix in matrices.items():
        np.save(out / f"{name}.npy", matrix)
    encoded.reset_index(drop=True).to_parquet(out / prepared.TRAIN, compression="zstd")


def _check_weight(name: str, profile: Profile, target: str) -> None:
    column = profile.column(name)
    if column is None:
        known = [c.name for c in profile.columns]
        raise DataError(f"training.sample_weight: no column {name!r}{nearest(name, known)}")
    if column.kind is not Kind.NUMBER or name == target:
        why = "the target" if name == target else f"a {column.kind}"
        raise DataError(f"training.sample_weight: {name!r} is {why}, and weights are numbers")


def _write_weights(column: "pd.Series[float]", tuning: npt.NDArray[np.bool_], out: Path) -> None:
    """Keep the rows' weights. Raises DataError for a weight that can't be one."""
    weights = column.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        raise DataError(
            f"training.sample_weight: {counted(int(bad.sum()), 'row')} without a weight in "
            f"{column.name!r}, as {weights[bad][0]:g}: a weight is a number from 0 up"
        )
    if not weights[~tuning].any():
        raise DataError(f"training.sample_weight: every weight in {column.name!r} is 0")
    np.save(out / "fit_w.npy", weights[~tuning])
    np.save(out / "train_w.npy", weights)


def _profile(training: pa.Table, accepted: Profile) -> Profile:
    """Profile the training rows: what features are chosen by, and later data compared with."""
    with TemporaryDirectory(prefix="treadle-") as scratch:
        path = Path(scratch) / "training.parquet"
        pq.write_table(training, path)
        return profile_table(path, {column.name: column.kind for column in accepted.columns})


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    stamp = pc.cast(pa.scalar(int(seconds), pa.timestamp("s", "UTC")), pa.string()).as_py()
    return str(stamp)
