"""What a champion was when it was trained, for later rows to be held against: made once from the
snapshots behind it, then kept in the object store."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from treadle import metrics, prepared
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.edges import QUANTILES, bin_edges, cell_edges
from treadle.feedback import estimate, steps
from treadle.monitoring import Counted, Usual
from treadle.ports import ObjectStore
from treadle.predictions import feature_array
from treadle.records import (
    ColumnProfile,
    Kind,
    Metric,
    ModelVersion,
    Record,
    Share,
    Signature,
)
from treadle.resampling import Vector
from treadle.signature import frame_of, read_frame

PREDICTION = "prediction"
# Of larger tables the newest rows.
MOST_ROWS = 500_000
FORM = 4


class Reference(Record):
    """``usual`` is how far each column moves by itself, by the size of the parts, ``last`` the
    counts of the last part of the training rows, ``prediction`` the profile of the predictions of
    the held-out rows, ``metric`` the metric on those. ``estimate`` is what the metric would have
    been estimated to be, None where the model isn't calibrated or predicts numbers."""

    form: int = FORM
    usual: dict[str, list[Usual]]
    last: dict[str, Counted]
    prediction: ColumnProfile | None
    metric: Metric | None
    estimate: Metric | None
    miscalibration: float | None


def known_columns(bundle: Bundle) -> list[ColumnProfile]:
    """Return the training rows' profiles of the columns that can be compared: times move on by
    themselves, and of a text that is taken apart only its parts are logged."""
    wanted = {f.name for f in bundle.signature.features
              if f.tokens is None and f.kind is not Kind.TIME}  # fmt: skip
    return [column for column in bundle.reference.columns if column.name in wanted]


def of(version: ModelVersion, bundle: Bundle, metric: str, store: ObjectStore) -> Reference:
    """Return a version's reference; it is made where there is none yet."""
    key = f"monitor/references/{version.digest}-{version.lineage.snapshot.digest}-{metric}.json"
    if store.exists(key):
        try:
            found = Reference.model_validate_json(store.get_bytes(key))
        except ValidationError:
            found = None  # another release's
        if found is not None and found.form == FORM:
            return found
    made = make(version, bundle, metric, store)
    store.put_bytes(key, made.model_dump_json().encode())
    return made


def make(version: ModelVersion, bundle: Bundle, metric: str, store: ObjectStore) -> Reference:
    """Look at a version's snapshot, and at its held-out rows through the model's eyes."""
    split = version.lineage.split
    usual, last = _usual(_in_time(store.local(version.lineage.snapshot.data_key), version), bundle)
    held_out = frame_of(_newest(store.local(f"snapshots/{split.held_out}/data.parquet")))
    columns, _ = read_frame(held_out, bundle.signature)
    output = bundle.model.output(columns)
    answers = prepared.encode_target(held_out[bundle.signature.target], bundle.signature)
    known = usable(answers, bundle.signature)
    told = Reference(
        usual=usual,
        last=last,
        prediction=prediction_profile(output, bundle.signature),
        metric=None,
        estimate=None,
        miscalibration=None,
    )
    if not known.any():
        return told
    wanted = metrics.measure(bundle.signature.task, metric)
    measured = metrics.with_block_interval(wanted, answers[known], output[known])
    told = told.model_copy(update={"metric": measured})
    if not bundle.signature.task.is_classification:
        return told
    off = estimate.miscalibration(answers[known].astype(np.int64), output[known])
    promised = estimate.estimated(bundle.signature.task, metric, output[known])
    believed = promised if off <= estimate.MOST_MISCALIBRATED else None
    return told.model_copy(update={"miscalibration": off, "estimate": believed})


def usable(answers: Vector, signature: Signature) -> Vector:
    """Mark the answers that a metric can be measured by."""
    if signature.task.is_classification:
        return np.asarray(answers != prepared.UNKNOWN_CLASS)
    return ~np.isnan(answers)


def _newest(path: Path) -> pa.Table:
    """Return the last rows of a file, MOST_ROWS at most but for whole row groups."""
    with pq.ParquetFile(path) as file:
        groups, rows = [], 0
        for group in reversed(range(file.num_row_groups)):
            groups.append(group)
            rows += file.metadata.row_group(group).num_rows
            if rows >= MOST_ROWS:
                break
        return file.read_row_groups(sorted(groups))


def _in_time(path: Path, version: ModelVersion) -> pa.Table:
    """Return the rows that a version was made from in the order of their time, else as they came.
    Of nulls and of what validation set aside there are few."""
    table, split = _newest(path), version.lineage.split
    if split.by == "time" and split.column in table.column_names:
        return table.sort_by(split.column)
    return table


def _usual(table: pa.Table, bundle: Bundle) -> tuple[dict[str, list[Usual]], dict[str, Counted]]:
    """Return how far each column moves by itself, and the counts of the last rows."""
    columns, _ = read_frame(frame_of(table), bundle.signature)
    features = {feature.name: feature for feature in bundle.signature.features}
    known = known_columns(bundle)
    values = {c.name: feature_array(columns[c.name], features[c.name]) for c in known}
    return steps.by_themselves(known, values)


def prediction_profile(output: Output, signature: Signature) -> ColumnProfile:
    """Return the profile of predictions: of numbers, of the second of two classes' probability, or
    of the classes."""
    if signature.task.is_classification and len(signature.classes) > 2:
        counts = np.bincount(output.argmax(axis=1), minlength=len(signature.classes))
        shares = [Share(value=name, count=int(count))
                  for name, count in zip(signature.classes, counts, strict=True)]  # fmt: skip
        return ColumnProfile(
            name=PREDICTION, kind=Kind.CATEGORY, rows=len(output), nulls=0, distinct=len(shares),
            top=sorted(shares, key=lambda share: -share.count),
        )  # fmt: skip
    values = predicted_numbers(output).astype(np.float64)
    quantiles = np.quantile(values, QUANTILES, method="inverted_cdf").tolist()
    told = ColumnProfile(
        name=PREDICTION, kind=Kind.NUMBER, rows=len(values), nulls=0,
        distinct=len(np.unique(values)), minimum=float(values.min()), maximum=float(values.max()),
        mean=float(values.mean()), quantiles=quantiles,
    )  # fmt: skip
    edges = bin_edges(float(values.min()), float(values.max()), quantiles)
    update = {"edges": edges, "counts": _counts(values, edges[1:-1]),
              "cells": _counts(values, cell_edges(quantiles))}  # fmt: skip
    return told.model_copy(update=update)


def _counts(values: Vector, inner: list[float]) -> list[int]:
    places = np.searchsorted(inner, values, side="right")
    return [int(count) for count in np.bincount(places, minlength=len(inner) + 1)]


def predicted(output: Output, signature: Signature) -> pa.Array:
    """Return predictions as ``prediction_profile`` counts them."""
    if signature.task.is_classification and len(signature.classes) > 2:
        codes = pa.array(output.argmax(axis=1))
        return pa.array(signature.classes).take(codes)
    return pa.array(predicted_numbers(output).astype(np.float64))


def predicted_numbers(output: Output) -> Vector:
    """Return the values, or the second class's probability."""
    return np.asarray(output[:, 1] if output.ndim == 2 else output)
