"""Labels: what turned out to be true, kept as it comes, for the predictions it is about.

Parquet files in the object store, one a delivery, by the hour (UTC) in which it came:

    labels/<model>/<YYYY-MM-DD>/<HH>/<digest>.parquet
    labels/<model>/received/<digest>.json              where that delivery lies, and when it came

One row a label:

    prediction_id   string             the prediction's ``id``
    label           double | string    the value, or the class
    at              timestamp[us,UTC]  when it became known: of several labels of a prediction the
                                       latest counts
    received_at     timestamp[us,UTC]  when it came

Nothing is joined here: a label may come before its prediction is logged, or for one that never was.
The same delivery twice is one, also after a correction or a kill in between: its note is created
first and says when it came, so that it can't come a second time, later.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from treadle.encoding import category, encode_values
from treadle.errors import DataError
from treadle.ports import ObjectStore
from treadle.records import Record, Signature, Task
from treadle.signature import RowErrors

PREFIX = "labels"
MOST_ID = 200
# A clock that is ahead by less is right enough.
AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class Label:
    """A label as it was sent; ``at`` is when it became known, if that was said."""

    prediction_id: object
    value: object
    at: object = None


class Delivery(Record):
    """What became of a delivery: how many labels it holds; how many of its rows had none yet, were
    of a class that the model doesn't know, or claim to be from the future (they count as known
    when they came). ``is_new`` is false for one that had come before."""

    digest: str
    labels: int
    not_yet_known: int
    unknown_class: int
    from_future: int
    is_new: bool = True


class _Note(Record):
    """Where a delivery lies, and when it came."""

    key: str
    received_at: datetime


def schema(task: Task) -> pa.Schema:
    """Return the columns of a model's labels."""
    time = pa.timestamp("us", "UTC")
    return pa.schema(
        [
            pa.field("prediction_id", pa.string(), nullable=False),
            pa.field("label", pa.string() if task.is_classification else pa.float64()),
            pa.field("at", time, nullable=False),
            pa.field("received_at", time, nullable=False),
        ]
    )


def deliver(
    model: str,
    signature: Signature,
    labels: Sequence[Label],
    now: datetime,
    store: ObjectStore,
) -> Delivery:
    """Keep labels. Raises RowErrors that names every one that can't be meant (nothing is kept
    then), DataError where there is none or where all are of classes that the model doesn't know.
    """
    if not labels:
        raise DataError("there are no labels: send at least one")
    ids, values, times = _read(labels, signature)
    known = np.array([value is not None for value in values])
    strange = [v for v in values if v is not None and signature.classes
               and v not in signature.classes]  # fmt: skip
    if strange and len(strange) == known.sum():
        raise DataError(
            f"no label is one of {model}'s classes ({', '.join(signature.classes[:10])}), the "
            f"first is {strange[0]!r:.60}: are these labels of {signature.target}?"
        )
    whole = pa.table({"prediction_id": ids, "label": _column(values, signature), "at": times})
    kept = whole.filter(pa.array(known))
    digest = _digest(kept)
    latest = (now + AHEAD).timestamp()
    found = Delivery(
        digest=digest,
        labels=kept.num_rows,
        not_yet_known=len(labels) - kept.num_rows,
        unknown_class=len(strange),
        from_future=int(np.nansum(times[known] > latest)),
    )
    if not kept.num_rows:
        return found
    return found.model_copy(update={"is_new": _keep(model, digest, kept, now, signature, store)})


def _read(
    labels: Sequence[Label], signature: Signature
) -> tuple[list[str], list[float | str | None], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return ids, values and times (epoch seconds, nan where none is said)."""
    faults: list[tuple[int, str, str]] = []
    ids, values = [], []
    for position, label in enumerate(labels):
        id_ = label.prediction_id
        if not isinstance(id_, str) or not 0 < len(id_) <= MOST_ID:
            faults.append((position, "id", f"{id_!r:.60} is no text of 1 to {MOST_ID} characters"))
        ids.append(str(id_))
        try:
            values.append(_value(label.value, signature))
        except ValueError as error:
            values.append(None)
            faults.append((position, "label", str(error)))
    times = encode_values([label.at for label in labels], "at", "time", faults)
    if faults:
        raise RowErrors(sorted(faults))
    return ids, values, times


def _value(value: object, signature: Signature) -> float | str | None:
    """Return a label as a number or as the name of a class. Raises ValueError with the reason."""
    if value is None or value != value:
        return None
    if isinstance(value, list | dict | bytes):
        raise ValueError(f"{value!r:.60} is no single value")
    if signature.task.is_classification:
        return category(value)
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{value} is not a number, and {signature.target} is one")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"{value!r:.60} is not a number, and {signature.target} is one")
    return number


def _column(values: list[float | str | None], signature: Signature) -> pa.Array:
    return pa.array(values, pa.string() if signature.task.is_classification else pa.float64())


def _digest(table: pa.Table) -> str:
    """Name a delivery by what was sent, whenever it came."""
    whole = hashlib.sha256()
    for column in table.columns:
        for value in column.to_pylist():
            whole.update(f"{value!r}\0".encode())
    return whole.hexdigest()[:32]


def _keep(
    model: str,
    digest: str,
    kept: pa.Table,
    now: datetime,
    signature: Signature,
    store: ObjectStore,
) -> bool:
    """Store a delivery unless it is there; say whether it wasn't."""
    place = f"{PREFIX}/{model}/received/{digest}.json"
    key = f"{PREFIX}/{model}/{now.astimezone(UTC):%Y-%m-%d/%H}/{digest}.parquet"
    note = _Note(key=key, received_at=now)
    if not store.create(place, note.model_dump_json().encode()):
        note = _Note.model_validate_json(store.get_bytes(place))
        if store.exists(note.key):
            return False
    came = note.received_at.timestamp()
    at = np.asarray(kept["at"])
    at = np.where(np.isnan(at), came, np.minimum(at, came))
    microseconds = pa.array(np.round(at * 1e6).astype(np.int64))
    columns = [
        kept["prediction_id"],
        kept["label"],
        microseconds.cast(pa.timestamp("us", "UTC")),
        pa.array([note.received_at] * len(kept), pa.timestamp("us", "UTC")),
    ]
    content = io.BytesIO()
    rows = pa.Table.from_arrays(columns, schema=schema(signature.task))
    pq.write_table(rows, content, compression="zstd")
    store.put_bytes(note.key, content.getvalue())
    return True


def keys(model: str, since: datetime | None, store: ObjectStore) -> Iterator[str]:
    """Yield the keys of the labels that came in the hour of ``since`` or later (None: all)."""
    folder = f"{PREFIX}/{model}/"
    first = "" if since is None else f"{folder}{since.astimezone(UTC):%Y-%m-%d/%H}/"
    for key in store.keys(folder):
        if key.endswith(".parquet") and key >= first:
            yield key
