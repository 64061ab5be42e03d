"""What was answered and isn't in the object store yet: files on this machine's disk.

An answer is appended before it is sent, so a process that is killed outright loses none that
anybody has seen. A segment is locked by the process that writes it, for as long as it lives; one
that isn't locked was left by a process that is gone, and whoever finds it stores it.

A segment is frames, one behind the other; a last one that isn't whole was never answered:

    version   what the frames behind it were answered by: records.Signature, what training saw
    rows      rows as they came in JSON, with ids and output
    columns   rows as the model read them, with ids and output
"""

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from treadle.encoding import Column, RowEncoder
from treadle.records import Kind, Signature
from treadle.signature import row_encoder

Rows = Sequence[dict[str, Any]]
Columns = dict[str, Column]
Output = npt.NDArray[Any]
# Kind, role, whether it is logged, microseconds since 1970, rows, output, ids, rows or columns.
Frame = tuple[int, int, bool, int, int, bytes, bytes, bytes]
ROLES = ("champion", "canary", "pinned", "shadow")
SEGMENT_BYTES, MOST_BYTES = 32 * 2**20, 512 * 2**20
SUFFIX = ".segment"
# Kind, role, whether it is logged, version's place in the segment, microseconds since 1970, rows;
# then the lengths of the output, of the ids and of the rows or columns.
_HEAD = struct.Struct("<BB?HqIIII")
_VERSION, _ROWS, _COLUMNS = range(3)


@dataclass(frozen=True, eq=False)
class Version:
    """Whose answers they are, and what training saw of its features: the range of a number, or
    all categories."""

    name: str
    number: int
    digest: str
    signature: Signature
    seen: dict[str, Any]

    def packed(self) -> bytes:
        """Return the frame's content."""
        return orjson.dumps({
            "name": self.name, "number": self.number, "digest": self.digest, "seen": self.seen,
            "signature": self.signature.model_dump(mode="json"),
        })  # fmt: skip

    @classmethod
    def unpacked(cls, content: bytes) -> "Version":
        """Read a frame's content."""
        found = orjson.loads(content)
        return cls(**{**found, "signature": Signature.model_validate(found["signature"])})


@dataclass(frozen=True)
class Answer:
    """Rows that were answered together, as they came or encoded."""

    version: Version
    encoder: RowEncoder
    role: str
    logged: bool
    at_us: int
    ids: list[str]
    read: Rows | Columns
    output: Output


class Segment:
    """A file of the spool, locked by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise
        self.began = time.monotonic()
        self.size_bytes = os.fstat(self._fd).st_size
        self.rows = 0
        self._places: dict[Version, int] = {}

    def append(self, version: Version, frame: "Frame") -> None:
        """Add a version's answers, or nothing: OSError."""
        place = self._places.get(version)
        if place is None:
            place = len(self._places)
            content = version.packed()
            self._write(_HEAD.pack(_VERSION, 0, False, place, 0, 0, 0, 0, len(content)) + content)
            self._places[version] = place
        kind, role, logged, at_us, rows, output, ids, read = frame
        head = _HEAD.pack(
            kind, role, logged, place, at_us, rows, len(output), len(ids), len(read)
        )  # fmt: skip
        self._write(b"".join((head, output, ids, read)))
        self.rows += rows

    def _write(self, content: bytes) -> None:
        try:
            written = os.write(self._fd, content)
            if written < len(content):
                os.write(self._fd, memoryview(content)[written:])
                if os.fstat(self._fd).st_size != self.size_bytes + len(content):
                    raise OSError("only a part of it could be written")
        except OSError:
            os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += len(content)

    def remove(self) -> None:
        """Take the file away: its rows are stored."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._fd)

    def leave(self) -> None:
        """Let go of the file: whoever comes next stores it."""
        os.close(self._fd)


class Spool:
    """The directory, of up to ``most_bytes``. Appending is safe from several threads."""

    def __init__(self, directory: Path, most_bytes: int = MOST_BYTES) -> None:
        self._directory, self._most_bytes = directory, most_bytes
        self._lock = threading.Lock()
        self._current: Segment | None = None
        self._full: list[Segment] = []

    @property
    def size_bytes(self) -> int:
        """What waits to be stored."""
        current = self._current
        return sum(s.size_bytes for s in list(self._full)) + (current.size_bytes if current else 0)

    def append(self, version: Version, frame: "Frame") -> None:
        """Write a version's answers, or raise OSError."""
        with self._lock:
            if self._current is None:
                if sum(segment.size_bytes for segment in self._full) >= self._most_bytes:
                    raise OSError(f"{self._most_bytes // 2**20} MiB wait to be stored already")
                self._directory.mkdir(parents=True, exist_ok=True)
                name = f"{time.time_ns():x}-{os.urandom(6).hex()}{SUFFIX}"
                self._current = Segment(self._directory / name)
            self._current.append(version, frame)
            if self._current.size_bytes > SEGMENT_BYTES:
                self._close()

    def waiting(self, age_s: float) -> list[Segment]:
        """Return what can be stored now: full segments, and the current one if it is older than
        ``age_s``."""
        with self._lock:
            if self._current is not None and time.monotonic() - self._current.began >= age_s:
                self._close()
            return list(self._full)

    def stored(self, segment: Segment) -> None:
        """Take a segment away."""
        with self._lock:
            self._full.remove(segment)
        segment.remove()

    def set_aside(self, segment: Segment) -> Path:
        """Keep a segment that can't be read, out of the way; return where. It may be gone."""
        aside = segment.path.with_suffix(".broken")
        with suppress(FileNotFoundError):
            segment.path.rename(aside)
        self.stored(segment)
        return aside

    def adopt(self) -> None:
        """Take over the segments that processes left which are gone."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            # Locked: somebody writes it, we perhaps. Gone: somebody has stored it.
            with suppress(BlockingIOError, FileNotFoundError), self._lock:
                if not any(path == segment.path for segment in self._full):
                    self._full.append(Segment(path))

    def leave(self) -> None:
        """End; what waits is left for the next process."""
        with self._lock:
            self._close()
            for segment in self._full:
                segment.leave()
            self._full.clear()

    def _close(self) -> None:
        if self._current is not None:
            self._full.append(self._current)
            self._current = None


def frame(
    signature: Signature, role: str, logged: bool, ids: Sequence[str], read: Rows | Columns,
    output: Output,
) -> Frame:  # fmt: skip
    """Return answers as a frame's parts."""
    kind, content = _ROWS, b""
    if isinstance(read, dict):
        kind, content = _COLUMNS, _packed(read, signature)
    else:
        content = orjson.dumps(read)
    if output.dtype != np.float32:
        output = output.astype(np.float32)
    at_us = time.time_ns() // 1000
    return (kind, ROLES.index(role), logged, at_us, len(ids), output.tobytes(), orjson.dumps(ids),
            content)  # fmt: skip


def answers(path: Path) -> Iterator[Answer]:
    """Yield what a segment holds, up to a frame that isn't whole."""
    content = memoryview(path.read_bytes())
    versions: list[tuple[Version, RowEncoder]] = []
    offset = 0
    while offset + _HEAD.size <= len(content):
        kind, role, logged, place, at_us, rows, *lengths = _HEAD.unpack_from(content, offset)
        begin = offset + _HEAD.size
        offset = begin + sum(lengths)
        if offset > len(content):
            return
        middle, last = begin + lengths[0], begin + lengths[0] + lengths[1]
        if kind == _VERSION:
            version = Version.unpacked(bytes(content[last:offset]))
            versions.append((version, row_encoder(version.signature)))
            continue
        version, encoder = versions[place]
        classes = len(version.signature.classes)
        output = np.frombuffer(content[begin:middle], np.float32)
        shaped = output.reshape(rows, classes) if classes else output
        read = (orjson.loads(content[last:offset]) if kind == _ROWS
                else _unpacked(content[last:offset], version.signature, rows))  # fmt: skip
        ids = orjson.loads(content[middle:last])
        yield Answer(version, encoder, ROLES[role], logged, at_us, ids, read, shaped)


def _packed(columns: Columns, signature: Signature) -> bytes:
    """Return columns as bytes: those of numbers, in the signature's order, then the texts."""
    numbers, texts = [], []
    for feature in signature.features:
        column = columns[feature.name]
        if feature.kind is Kind.CATEGORY:
            texts.append(column.tolist())
        else:
            numbers.append(column.tobytes())
    return b"".join((*numbers, orjson.dumps(texts)))


def _unpacked(content: memoryview, signature: Signature, rows: int) -> Columns:
    columns: Columns = {}
    offset = 0
    for feature in signature.features:
        if feature.kind is not Kind.CATEGORY:
            kind = np.dtype(np.float64 if feature.kind is Kind.TIME else np.float32)
            end = offset + rows * kind.itemsize
            columns[feature.name] = np.frombuffer(content[offset:end], kind)
            offset = end
    texts = iter(orjson.loads(content[offset:]))
    for feature in signature.features:
        if feature.kind is Kind.CATEGORY:
            columns[feature.name] = np.array(next(texts), dtype=object)
    return columns
