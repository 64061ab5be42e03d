"""What a champion was when it was trained, for later rows to be held against: made once from the
snapshots behind it, then kept in the object store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from treadle import drift, metrics, prepared
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.edges import QUANTILES, bin_edges, cell_edges
from treadle.feedback import estimate
from treadle.monitoring import Counted, Step, Usual
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
# The rows that training saw are parted so finely, down to parts of LEAST_PART rows, and ever more
# coarsely, to learn how far columns move from one part to the next anyway: a column that turns with
# the hour moves from hour to hour, and not from week to week.
MOST_PARTS, LEAST_PARTS = 512, 8
LEAST_PART = 200
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
    """Return how far each column moves from one part of the rows to the next, the finest parts
    first, and the counts of the last of the coarsest."""
    columns, _ = read_frame(frame_of(table), bundle.signature)
    features = {feature.name: feature for feature in bundle.signature.features}
    known = known_columns(bundle)
    usual: dict[str, list[Usual]] = {}
    last: dict[str, Counted] = {}
    for column in known:
        values = feature_array(columns[column.name], features[column.name])
        places, cells = drift.places_of(values, column)
        usual[column.name] = []
        for parts in _scales(len(values)):
            edges = np.arange(parts + 1) * len(values) // parts
            counts = _counts_of_parts(places, cells, edges)
            medians = _medians(values, column, edges)
            usual[column.name].append(_furthest(counts, medians, column, len(values) // parts))
        median = None if np.isnan(medians[-1]) else float(medians[-1])
        last[column.name] = Counted(cells=counts[-1].tolist(), median=median)
    return usual, last


def _counts_of_parts(
    places: npt.NDArray[np.int64], cells: int, edges: npt.NDArray[np.int64]
) -> drift.Counts:
    """Return (parts, cells) counts; ``places`` is where each value counts, of ``cells`` such
    places."""
    parts = len(edges) - 1
    of_part = np.repeat(np.arange(parts), np.diff(edges))
    return np.bincount(of_part * cells + places, minlength=parts * cells).reshape(parts, cells)


def _medians(values: pa.Array, column: ColumnProfile, edges: npt.NDArray[np.int64]) -> Vector:
    """Return the median of each part, nan where it holds no number."""
    sizes = np.diff(edges)
    if column.kind is not Kind.NUMBER:
        return np.full(len(sizes), np.nan)
    rows = np.full((len(sizes), sizes.max(initial=1)), np.nan, dtype=np.float32)
    rows[np.arange(rows.shape[1]) < sizes[:, None]] = values.to_numpy(zero_copy_only=False)
    rows.sort(axis=1)  # nan comes last
    known = rows.shape[1] - np.isnan(rows).sum(axis=1)
    middle = np.maximum(np.stack([known - 1, known]), 0) // 2
    return np.asarray(np.take_along_axis(rows, middle.T, axis=1).mean(axis=1, dtype=np.float64))


def _furthest(counts: drift.Counts, medians: Vector, column: ColumnProfile, rows: int) -> Usual:
    """Return how far a column moved at most from one part to the next."""
    rows_of = np.maximum(counts.sum(axis=1), 1)
    nulls, alike = counts[:, -1] / rows_of, _alike(counts, column)
    spread = drift.spread(column)
    shifts = np.abs(np.diff(medians)) / spread if spread else np.empty(0)
    return Usual(
        rows=rows,
        distance=float(drift.apart(counts[:-1], counts[1:]).max(initial=0.0)),
        shift=float(shifts[~np.isnan(shifts)].max(initial=0.0)),
        nulls=float(np.diff(nulls).max(initial=0.0)),
        alike=float(alike.max(initial=0.0)),
    )


def _alike(counts: drift.Counts, column: ColumnProfile) -> Vector:
    """Return the largest share of each row of counts that lies in one cell. The two outer cells of
    numbers are left out: what is warmer than a whole winter lies there together, and isn't alike.
    """
    inside = counts[:, 1:-3] if column.cells else counts[:, :-1]
    found = inside.max(axis=1, initial=0) / np.maximum(counts.sum(axis=1), 1)
    return np.asarray(found, dtype=np.float64)


def _scales(rows: int) -> list[int]:
    """Return into how many parts rows are parted, most first."""
    parts = max(min(MOST_PARTS, rows // LEAST_PART), 1)
    found = [parts]
    while found[-1] // 2 >= LEAST_PARTS:
        found.append(found[-1] // 2)
    return found


def usual_of(scales: Sequence[Usual], rows: int) -> Usual:
    """Return how far a column moves by itself over as many rows, or over more."""
    fitting = [each for each in scales if each.rows >= rows / 2] or list(scales[-1:])
    return Usual(
        rows=rows,
        distance=max((each.distance for each in fitting), default=0.0),
        shift=max((each.shift for each in fitting), default=0.0),
        nulls=max((each.nulls for each in fitting), default=0.0),
        alike=max((each.alike for each in fitting), default=1.0),
    )


def counted(cells: drift.Counts, values: pa.Array, column: ColumnProfile) -> Counted:
    """Return a column's counts with its median."""
    is_number = column.kind is Kind.NUMBER and values.null_count < len(values)
    median = float(np.median(values.drop_null().to_numpy())) if is_number else None
    return Counted(cells=cells.tolist(), median=median)


def between(column: ColumnProfile, before: Counted, now: Counted) -> Step:
    """Return how far a column moved from some rows to others."""
    one, other = np.array(before.cells), np.array(now.cells)
    spread = drift.spread(column)
    shift = None
    if before.median is not None and now.median is not None and spread:
        shift = abs(now.median - before.median) / spread
    return Step(
        column=column.name,
        distance=float(drift.apart(one[None], other[None])[0]),
        shift=shift,
        nulls=(float(one[-1] / max(one.sum(), 1)), float(other[-1] / max(other.sum(), 1))),
        alike=float(_alike(other[None], column)[0]),
        words="",
    )


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
