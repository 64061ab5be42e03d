"""What a retraining learns from: the champion's own snapshot, widened by the logged rows that have
labels by now. The newest of these are held out, so that challenger and champion are judged on rows
that neither has seen, whatever the spec's own split.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treadle import snapshots
from treadle.errors import DataError
from treadle.feedback import log
from treadle.feedback.log import Logged
from treadle.feedback_spec import LearnFrom, Review
from treadle.monitoring import Learning
from treadle.ports import ObjectStore
from treadle.records import ModelVersion, Signature
from treadle.spec import Approval, Format, Source, Spec, SplitBy, Table

# Columns that the widened rows have beside the table's own; no model reads them.
ID, LOGGED_AT = "treadle_prediction_id", "treadle_logged_at"
HELD_OUT_SHARE = 0.25
LEAST_ROWS = 200
BATCH_ROWS = 50_000


def of(
    version: ModelVersion,
    keys: Sequence[str],
    faults: Sequence[tuple[datetime, datetime]],
    now: datetime,
    store: ObjectStore,
) -> Learning | str:
    """Return what to learn from; in words, why there isn't enough of it yet. ``faults`` are times
    of rows that nothing is learned from."""
    spec = Spec.model_validate_json(version.lineage.spec)
    if spec.feedback.review is Review.REQUIRED:
        spec = spec.model_copy(update={"approval": Approval.REQUIRED})
    if spec.feedback.learn_from is LearnFrom.SOURCE:
        return Learning(spec=spec.model_dump_json(exclude={"resources"}))
    logged = log.without(log.read_any(keys, version, now, store).looked_at(), faults)
    labelled = log.join(logged, version.name, version.signature, store)
    former = store.local(version.lineage.snapshot.data_key)
    kept = logged.only(labelled.known)
    new = ~np.isin(np.asarray(kept.table["prediction_id"]), _learned_ids(former))
    fresh = kept.only(new)
    if fresh.rows < LEAST_ROWS:
        return (
            f"{fresh.rows:,} labelled rows are new, and a retraining needs {LEAST_ROWS}: send "
            "labels, or set feedback.learn_from: source"
        )
    answers = _answers(labelled.answers[new], version.signature)
    added = _table(fresh, answers, version.signature, pq.read_schema(former))
    total = pq.read_metadata(former).num_rows + added.num_rows
    held_out = max(int(HELD_OUT_SHARE * added.num_rows), LEAST_ROWS // 2)
    reader = pa.RecordBatchReader.from_batches(
        added.schema, _widened(former, version, added, fresh.at[0])
    )
    taken = snapshots.publish(
        reader,
        f"{version.lineage.snapshot.source} and {added.num_rows:,} logged rows with labels",
        store,
        parts=[version.lineage.snapshot.digest],
    )
    whole = _spec(spec, store, taken.data_key, held_out / total)
    return Learning(
        spec=whole.model_dump_json(exclude={"resources"}),
        snapshot=taken.digest,
        added=added.num_rows,
        held_out=held_out,
    )


def _learned_ids(former: object) -> npt.NDArray[np.object_]:
    """Return the predictions whose rows the champion's snapshot holds already."""
    if ID not in pq.read_schema(former).names:
        return np.empty(0, dtype=object)
    return np.asarray(pq.read_table(former, columns=[ID])[ID].drop_null(), dtype=object)


def _answers(answers: log.Answers, signature: Signature) -> pa.Array:
    if not signature.task.is_classification:
        return pa.array(answers)
    return pa.array(signature.classes).take(pa.array(answers))


def _table(fresh: Logged, answers: pa.Array, signature: Signature, former: pa.Schema) -> pa.Table:
    """Return labelled rows with the former snapshot's columns and types; what isn't logged, because
    no model reads it, is null."""
    kinds = {feature.name: feature for feature in signature.features}
    columns = fresh.columns
    own = [pa.field(ID, pa.string()), pa.field(LOGGED_AT, pa.timestamp("us", "UTC"))]
    schema = pa.schema([*(field for field in former if field.name not in (ID, LOGGED_AT)), *own])
    found: list[pa.Array] = []
    for field in schema:
        if field.name == ID:
            found.append(fresh.table["prediction_id"].combine_chunks())
        elif field.name == LOGGED_AT:
            found.append(pa.array(fresh.at).cast(field.type))
        elif field.name == signature.target:
            found.append(_cast(answers, field))
        elif field.name in kinds:
            _refuse_tokens(kinds[field.name].tokens is not None, field.name)
            found.append(_cast(log.plain(columns[field.name], kinds[field.name].kind), field))
        else:
            found.append(pa.nulls(fresh.rows, field.type))
    return pa.Table.from_arrays(found, schema=schema)


def _refuse_tokens(is_text: bool, name: str) -> None:
    if is_text:
        raise DataError(
            f"column {name!r} is a text of which the log holds the parts alone: set "
            "feedback.learn_from: source"
        )


def _cast(values: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return values.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"column {field.name!r} was {field.type} when it was learned, and what was logged "
            f"doesn't fit that ({error}): set feedback.learn_from: source"
        ) from error


def _widened(
    former: object, version: ModelVersion, added: pa.Table, first: np.int64
) -> Iterator[pa.RecordBatch]:
    """Yield the former rows, which count as logged before all others, then the labelled ones."""
    times = _times(former, version, first)
    names = set(pq.read_schema(former).names)
    done = 0
    with pq.ParquetFile(former) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            here = times[done : done + batch.num_rows]
            done += batch.num_rows
            columns = [
                pa.array(here).cast(field.type)
                if field.name == LOGGED_AT
                else batch.column(field.name)
                if field.name in names
                else pa.nulls(batch.num_rows, field.type)
                for field in added.schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=added.schema)
    yield from added.to_batches(BATCH_ROWS)


def _times(former: object, version: ModelVersion, first: np.int64) -> npt.NDArray[np.int64]:
    """Return a time for each of the former rows (microseconds): the one at which it was logged, or
    a second a row before the first of the labelled ones, in the order in which the rows came or,
    where the version's split was by time, in that."""
    schema, split = pq.read_schema(former), version.lineage.split
    rows = pq.read_metadata(former).num_rows
    rank = np.arange(rows)
    if split.by == "time" and split.column in schema.names and split.column != LOGGED_AT:
        order = pc.sort_indices(pq.read_table(former, columns=[split.column])[split.column])
        rank[order.to_numpy()] = np.arange(rows)
    second = int(timedelta(seconds=1).total_seconds() * 1e6)
    made = int(first) - (rows - rank) * second
    if LOGGED_AT not in schema.names:
        return np.asarray(made)
    known = pq.read_table(former, columns=[LOGGED_AT])[LOGGED_AT].cast(pa.int64())
    return np.asarray(np.minimum(known.to_numpy(), int(first) - 1))


def _spec(spec: Spec, store: ObjectStore, key: str, share: float) -> Spec:
    """Return the spec that learns from the widened snapshot."""
    address = store.uri(key)
    path = address if address.startswith("s3://") else str(store.local(key))
    table = Table(path=path, format=Format.PARQUET)
    source = Source(tables={"data": table}, dataset=spec.source.dataset)
    excluded = [*spec.preprocessing.exclude, ID, LOGGED_AT]
    preprocessing = spec.preprocessing.model_copy(
        update={
            "split": SplitBy.TIME,
            "split_column": LOGGED_AT,
            "test_share": share,
            "exclude": list(dict.fromkeys(excluded)),
        }
    )
    return spec.model_copy(update={"source": source, "preprocessing": preprocessing})
