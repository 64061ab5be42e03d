"""The digest that names a snapshot.

It is taken over the table's content, column by column and in row order, so that it doesn't depend
on row groups, batch sizes, compression, machine or library version. For each column three
SHA-256 streams run beside each other: validity (one bit a row, the first row lowest), lengths (of
strings, as little-endian uint32) and values (little-endian, nulls as zero; booleans as one byte,
times and dates as the whole number that their type counts). The digest of all the streams'
digests, with the columns' names and types, names the table.
"""

import hashlib

import numpy as np
import numpy.typing as npt
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
        whole = hashlib.sha256(f"treadle-snapshot-2 {self._rows}".encode())
        for field, digest in zip(self._schema, self._columns, strict=True):
            whole.update(f"\0{field.name}\0{_type_name(field.type)}\0".encode())
            # What a column says of itself, as the order of its categories, is content too.
            for key, value in sorted((field.metadata or {}).items()):
                whole.update(key + b"\0" + value + b"\0")
            whole.update(digest.digest())
        return whole.hexdigest()[:32]


class _ColumnDigest:
    def __init__(self) -> None:
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        # Rows whose bits don't fill a byte yet.
        self._waiting: npt.NDArray[np.bool_] = np.empty(0, dtype=bool)

    def update(self, column: pa.Array) -> None:
        self._update_validity(column)
        kind = column.type
        if pa.types.is_boolean(kind):
            values = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
            self._values.update(values.astype(np.uint8))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._update_numbers(column)
        elif pa.types.is_temporal(kind):
            self._update_numbers(column.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
        else:
            self._update_text(column)

    def _update_validity(self, column: pa.Array) -> None:
        if column.null_count:
            valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
        else:
            valid = np.ones(len(column), dtype=bool)
        valid = np.concatenate([self._waiting, valid])
        whole = len(valid) // 8 * 8
        self._validity.update(np.packbits(valid[:whole], bitorder="little").data)
        self._waiting = valid[whole:]

    def _update_text(self, column: pa.Array) -> None:
        # Cast to text first: decimals and the like are told by their digits.
        filled = column.cast(pa.large_string())
        if filled.null_count:
            filled = pc.fill_null(filled, "")
        offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)
        offsets = offsets[filled.offset : filled.offset + len(filled) + 1]
        self._lengths.update(np.ascontiguousarray(np.diff(offsets), dtype="<u4").data)
        data = filled.buffers()[2]
        if data is not None and len(filled):
            self._values.update(memoryview(data)[offsets[0] : offsets[-1]])

    def _update_numbers(self, column: pa.Array) -> None:
        if column.null_count:
            column = pc.fill_null(column, 0)
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f":
            # One bit pattern for each value: -0.0 is 0.0, and there is one NaN.
            values = values + values.dtype.type(0)
            values[np.isnan(values)] = np.nan
        little = values.dtype.newbyteorder("<")
        self._values.update(np.ascontiguousarray(values, dtype=little).data)

    def digest(self) -> bytes:
        self._validity.update(np.packbits(self._waiting, bitorder="little").data)
        self._waiting = self._waiting[:0]
        return self._validity.digest() + self._lengths.digest() + self._values.digest()


def _type_name(kind: pa.DataType) -> str:
    return "string" if pa.types.is_large_string(kind) else str(kind)
