"""Tables as bodies and as answers: CSV, Parquet, Arrow."""

import io

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from treadle import scoring
from treadle.answers import Output, answers
from treadle.bundle import Bundle
from treadle.signature import RowErrors, frame_of, ignored_columns, read_frame
from treadle_serving import csv_bodies
from treadle_serving.batch import Batch
from treadle_serving.models import Served
from treadle_serving.requests import JSON, Refused, WrongType

CSV = b"text/csv"
PARQUET = b"application/vnd.apache.parquet"
ARROW = b"application/vnd.apache.arrow.stream"
_KINDS = (CSV, PARQUET, ARROW)


def is_table(content_type: bytes) -> bool:
    """Say whether a body of this type is a table. Raises WrongType for one that isn't taken."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind in _KINDS:
        return True
    # What clients send that don't say what they send, as curl -d does.
    if kind in (b"", b"application/x-www-form-urlencoded", b"text/plain"):
        return False
    known = ", ".join(k.decode() for k in (JSON, *_KINDS))
    raise WrongType(f"{kind.decode(errors='replace')!r} is not taken: send {known}")


def score(
    served: Served, batch: Batch, body: bytes, kind: bytes, accept: bytes, id_: str
) -> tuple[bytes, bytes, int, dict[str, int]]:
    """Answer a table; return content, its type, how many rows, and the ignored values."""
    kind = kind.partition(b";")[0].strip().lower()
    wanted = next((k for k in (*_KINDS, JSON) if k in accept), kind)
    table = read(body, kind, served.bundle)
    if not table.num_rows:
        raise Refused("the table has no rows: send at least one")
    scoring.check_columns(served.bundle, table.column_names, "the table", served.name)
    columns, faults = read_frame(frame_of(table), served.version.signature)
    if faults:
        raise RowErrors(sorted(faults))
    ids = [f"{id_}-{position}" for position in range(table.num_rows)]
    output = batch.encoded(columns, ids)
    ignored = ignored_columns(table, served.version.signature)
    return _written(served, output, ids, wanted), wanted, table.num_rows, ignored


def read(body: bytes, kind: bytes, bundle: Bundle) -> pa.Table:
    """Read a body. CSV has no types: the model's signature says them."""
    try:
        if kind == ARROW:
            return pa.ipc.open_stream(body).read_all()
        if kind == PARQUET:
            return pq.read_table(io.BytesIO(body))
        return csv_bodies.read(body, bundle)
    except (pa.ArrowException, OSError) as error:
        name = kind.decode().rpartition("/")[2]
        raise Refused(f"the body can't be read as {name}: {str(error).splitlines()[0]}") from error


def _written(served: Served, output: Output, ids: list[str], wanted: bytes) -> bytes:
    signature = served.version.signature
    if wanted == JSON:
        found = answers(output, signature)
        for answer, prediction_id in zip(found, ids, strict=True):
            answer["id"] = prediction_id
        return orjson.dumps({**served.identity, "predictions": found})
    fields = [pa.field("prediction_id", pa.string()), *scoring.prediction_fields(signature)]
    arrays = [pa.array(ids), *scoring.prediction_columns(output, signature)]
    metadata = {key: str(value) for key, value in served.identity.items()}
    whole = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    sink = io.BytesIO()
    if wanted == CSV:
        pacsv.write_csv(whole, sink)
    elif wanted == PARQUET:
        pq.write_table(whole, sink)
    else:
        with pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole)
    return sink.getvalue()
