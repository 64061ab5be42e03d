"""The digest that names a snapshot.

It is taken over the table's content, column by column and in row order, so that it doesn't depend
on row groups, batch sizes, compression, machine or library version. For each column three
SHA-256 streams run beside each other: validity (one byte a row), lengths (of strings, as
little-endian int64) and values (little-endian, nulls as zero; times as ISO text). The digest of
all the streams' digests, with the columns' names and types, names the table.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ContentDigest:
    """Takes record batches of one schema; ``hexdigest`` names what was seen."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [_ColumnDigest() for _ in schema]
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of ``batch``."""
        self._rows += batch.num_rows
        for digest, column in zip(self._columns, batch.columns, strict=True):
            digest.update(column)

    def hexdigest(self) -> str:
        """Return the name of the content so far: 32 hexadecimal digits."""
        whole = hashlib.sha256(f"treadle-snapshot-1 {self._rows}".encode())
        for field, digest in zip(self._schema, self._columns, strict=True):
            whole.update(f"\0{field.name}\0{_type_name(field.type)}\0".encode())
            whole.update(digest.digest())
        return whole.hexdigest()[:32]


class _ColumnDigest:
    def __init__(self) -> None:
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()

    def update(self, column: pa.Array) -> None:
        valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
        self._validity.update(valid.astype(np.uint8))
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._update_text(column)
        elif pa.types.is_boolean(kind):
            values = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
            self._values.update(values.astype(np.uint8))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._update_numbers(column)
        else:
            self._update_text(pc.cast(column, pa.string()))

    def _update_text(self, column: pa.Array) -> None:
        filled = pc.fill_null(column.cast(pa.large_string()), "")
        lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False)
        self._lengths.update(np.ascontiguousarray(lengths, dtype="<i8").data)
        offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)
        first, last = (offsets[filled.offset], offsets[filled.offset + len(filled)])
        data = filled.buffers()[2]
        if data is not None:
            self._values.update(memoryview(data)[first:last])

    def _update_numbers(self, column: pa.Array) -> None:
        values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f":
            # One bit pattern for each value: -0.0 is 0.0, and there is one NaN.
            values = np.where(np.isnan(values), np.nan, values + 0.0).astype(values.dtype)
        little = values.dtype.newbyteorder("<")
        self._values.update(np.ascontiguousarray(values, dtype=little).data)

    def digest(self) -> bytes:
        return self._validity.digest() + self._lengths.digest() + self._values.digest()


def _type_name(kind: pa.DataType) -> str:
    return "string" if pa.types.is_large_string(kind) else str(kind)
