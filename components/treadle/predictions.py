"""The prediction log: what the server answered, for labels that come later.

Parquet files in the object store, one model version and one hour (UTC) each, several files an hour:

    predictions/<model>/<YYYY-MM-DD>/<HH>/<bundle digest>-<unique>.parquet

One row a predicted row:

    prediction_id   string             what a label is joined by: the answer's ``id``
    at              timestamp[us,UTC]  when it was answered
    version         int32              the model version, and
    digest          string             its bundle
    role            string             champion, canary, pinned, or shadow (answered unseen)
    prediction      double | string    the value, or the class
    probabilities   list<float>        of the signature's classes, in their order; else null
    features        struct             the features as the model read them: numbers and booleans
                                       float, times timestamp[us,UTC], categories string

A file appears whole or not at all, and the same row never appears twice. What a server has
answered and not stored yet waits on its disk, and is stored when it, or its successor, can.
"""

import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from treadle.encoding import NULL_CATEGORY, Column
from treadle.ports import ObjectStore
from treadle.records import Feature, Kind, Signature

PREFIX = "predictions"
_TYPES = {
    Kind.NUMBER: pa.float32(),
    Kind.BOOLEAN: pa.float32(),
    Kind.TIME: pa.timestamp("us", "UTC"),
    Kind.CATEGORY: pa.string(),
}


def schema(signature: Signature) -> pa.Schema:
    """Return the columns of a model's log."""
    answer = pa.string() if signature.task.is_classification else pa.float64()
    features = pa.struct([pa.field(f.name, _TYPES[f.kind]) for f in signature.features])
    return pa.schema(
        [
            pa.field("prediction_id", pa.string(), nullable=False),
            pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("version", pa.int32(), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("role", pa.string(), nullable=False),
            pa.field("prediction", answer),
            pa.field("probabilities", pa.list_(pa.float32())),
            pa.field("features", features),
        ]
    )


def batch(
    signature: Signature,
    ids: Sequence[str],
    at: npt.NDArray[np.int64],
    version: int,
    digest: str,
    roles: Sequence[str],
    columns: Mapping[str, Column],
    output: npt.NDArray[np.float32],
) -> pa.RecordBatch:
    """Return rows of the log. ``at`` is in microseconds since 1970, UTC; ``output`` is the model's:
    (n,) values, or (n, classes) probabilities."""
    wanted = schema(signature)
    count = len(ids)
    if signature.task.is_classification:
        labels = np.asarray(signature.classes, dtype=object)[output.argmax(axis=1)]
        answer = pa.array(labels, pa.string())
        flat = pa.array(np.ascontiguousarray(output, dtype=np.float32).reshape(-1))
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * output.shape[1])
        probabilities = pa.ListArray.from_arrays(offsets, flat)
    else:
        answer = pa.array(np.asarray(output, dtype=np.float64))
        probabilities = pa.nulls(count, pa.list_(pa.float32()))
    features = [feature_array(columns[f.name], f) for f in signature.features]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(ids, pa.string()),
            pa.array(at).cast(pa.timestamp("us", "UTC")),
            pa.array(np.full(count, version, dtype=np.int32)),
            pa.array([digest] * count, pa.string()),
            pa.array(roles, pa.string()),
            answer,
            probabilities,
            pa.StructArray.from_arrays(features, fields=list(wanted.field("features").type)),
        ],
        schema=wanted,
    )


def feature_array(column: Column, feature: Feature) -> pa.Array:
    """Return a feature, encoded, as the log holds it."""
    if feature.kind is Kind.CATEGORY:
        return pa.array(column, pa.string(), mask=np.asarray(column == NULL_CATEGORY))
    values = np.asarray(column)
    null = np.isnan(values)
    if feature.kind is not Kind.TIME:
        return pa.array(values, mask=null)
    microseconds = np.round(np.where(null, 0, values) * 1e6).astype(np.int64)
    return pa.array(microseconds, mask=null).cast(_TYPES[Kind.TIME])


def sealed(
    model: str,
    digest: str,
    hour: datetime,
    batches: Sequence[pa.RecordBatch],
    unique: str | None = None,
) -> tuple[str, bytes]:
    """Return key and content of a file with the rows of one model version and one hour. Storing it
    twice changes nothing; ``unique`` (else drawn) tells it from others of that version and hour."""
    content = io.BytesIO()
    pq.write_table(pa.Table.from_batches(batches), content, compression="zstd")
    return (
        f"{_folder(model, hour)}{digest}-{unique or uuid.uuid4().hex}.parquet",
        content.getvalue(),
    )


def keys(model: str, since: datetime, until: datetime, store: ObjectStore) -> Iterator[str]:
    """Yield the keys of the files that hold what was answered from ``since`` to ``until`` (the
    hours they lie in, whole)."""
    hour = hour_of(since)
    while hour <= until:
        yield from store.keys(_folder(model, hour))
        hour += timedelta(hours=1)


def _folder(model: str, hour: datetime) -> str:
    return f"{PREFIX}/{model}/{hour.astimezone(UTC):%Y-%m-%d/%H}/"


def hour_of(at: datetime) -> datetime:
    """Return the hour (UTC) in which a moment lies."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
