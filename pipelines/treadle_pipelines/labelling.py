"""What ``treadle label`` does: a table of labels in, what became of them out."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from treadle import labels, runtime
from treadle.encoding import category
from treadle.errors import DataError, counted, nearest
from treadle.feedback import log
from treadle.ingestion import sources
from treadle.ingestion.rows import consumed
from treadle.labels import Delivery, Label
from treadle.records import Signature
from treadle.signature import frame_of
from treadle.spec import Source

IDS = ("id", "prediction_id")


def label(name: str, table: str | None, as_json: bool) -> str:
    """Keep the labels in a table, if one is named; say how a model's labels stand."""
    signature = runtime.serving_champion_version(name).signature
    store = runtime.object_store()
    sent = None
    if table is not None:
        sent = labels.deliver(name, signature, _read(table, signature),
                              datetime.now(UTC), store)  # fmt: skip
    counts = log.joined_counts(name, store)
    if as_json:
        delivery = sent.model_dump() if sent else None
        return json.dumps({"model": name, "delivery": delivery, **counts}, ensure_ascii=False)
    return "\n".join([*(_told(sent) if sent else []), *_standing(name, counts)])


def _read(table: str, signature: Signature) -> list[Label]:
    """Read the columns id, label (or the target's name) and, where there is one, at."""
    with sources.opened(Source.model_validate(table), runtime.outside()) as rows:
        names = rows.schema.names
        id_ = _column(names, IDS, table)
        value = _column(names, ("label", signature.target), table)
        wanted = [id_, value, *(["at"] if "at" in names else [])]
        whole = consumed(rows, lambda reader: _columns(reader, wanted))
    # A column of ids may look like one of numbers.
    columns = [list(frame_of(whole)[name]) for name in wanted]
    ids = [category(given) if given == given else None for given in columns[0]]
    times = columns[2] if len(columns) > 2 else [None] * len(ids)
    return [Label(*each) for each in zip(ids, columns[1], times, strict=True)]


def _columns(reader: pa.RecordBatchReader, wanted: list[str]) -> pa.Table:
    batches = [batch.select(wanted) for batch in reader]
    return pa.Table.from_batches(
        batches, schema=pa.schema([reader.schema.field(name) for name in wanted])
    )


def _column(names: list[str], wanted: tuple[str, ...], table: str) -> str:
    found = [name for name in wanted if name in names]
    if not found:
        near = nearest(wanted[0], names)
        raise DataError(
            f"{table} has no column {' or '.join(map(repr, wanted))}{near} (it has "
            f"{', '.join(names[:20])}): labels are a column of ids, as predictions carry them, and "
            "one of answers; a column at says when each became known"
        )
    return found[0]


def _told(sent: Delivery) -> list[str]:
    if not sent.is_new:
        return [f"{counted(sent.labels, 'label')} had come before: nothing was changed"]
    lines = [f"kept {counted(sent.labels, 'label')}"]
    if sent.not_yet_known:
        lines.append(f"  {counted(sent.not_yet_known, 'row')} without a label yet")
    if sent.unknown_class:
        lines.append(f"  {sent.unknown_class:,} are of classes that the model doesn't know")
    if sent.from_future:
        lines.append(f"  {sent.from_future:,} claim to be from the future: known as of now")
    return lines


def _standing(name: str, counts: dict[str, Any]) -> list[str]:
    cut = counts["unreadable_files"]
    broken = [f"  left out: {counted(cut, 'file')} of labels that can't be read: send theirs again"]
    if not counts["labels"]:
        return [f"{name} has no labels yet", *(broken if cut else [])]
    lines = [
        f"{name} has {counted(counts['labels'], 'label')} of "
        f"{counted(counts['predictions'], 'prediction')}"
    ]
    if counts["corrected"]:
        lines.append(f"  {counts['corrected']:,} were corrected: the latest counts")
    if counts["not_joined"]:
        lines.append(f"  {counts['not_joined']:,} are of no prediction in the log: they are kept, "
                     "and count as soon as it is")  # fmt: skip
    return [*lines, *(broken if cut else [])]
