"""Models of segments: one file of a bundle that holds many small models and the pooled one.

    segments.zip
      index.json    records.SegmentIndex
      pooled.onnx   the whole pipeline, for rows of every other segment
      matrix.onnx   the transformer alone: features to the matrix that estimators read
      0.onnx …      an estimator for each segment that has one of its own: matrix to output

Only the graphs that are asked for are loaded, and the least recently asked for is let go.
"""

import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle import graphs
from treadle.answers import Output
from treadle.encoding import Column, feeds
from treadle.errors import ModelError
from treadle.records import SegmentIndex

INDEX, POOLED, MATRIX = "index.json", "pooled.onnx", "matrix.onnx"
MOST_LOADED = 512
# What a lean session takes, and what it takes for each byte of its graph (measured).
SESSION_BYTES, TIMES_BYTES = 64 * 1024, 1.5
_THE_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(path: Path, index: SegmentIndex, graphs: Mapping[str, bytes]) -> None:
    """Write the file; the same content always has the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        contents = {INDEX: index.model_dump_json(indent=1).encode(), **graphs}
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, _THE_EPOCH), contents[name])


def read_index(path: Path) -> SegmentIndex:
    """Return what is known of each segment."""
    with zipfile.ZipFile(path) as archive:
        return SegmentIndex.model_validate_json(archive.read(INDEX))


def keys_of(columns: Any, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each row's segment: its values in the columns that part the rows. ``columns`` are
    encoded, by name: a frame or a mapping."""
    values = ([str(value) for value in columns[name]] for name in names)
    return list(zip(*values, strict=True))


class SegmentedModel:
    """Answers each row by its segment's model."""

    def __init__(self, path: Path, classes: int, threads: int = 1, lean: bool = False) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            self._index = SegmentIndex.model_validate_json(self._archive.read(INDEX))
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise ModelError(f"{path} can't be loaded: {error}") from error
        self._classes = classes
        self._threads, self._lean = threads, lean
        self._own = {
            tuple(segment.key): position
            for position, segment in enumerate(self._index.segments)
            if segment.family is not None
        }
        self._pooled = self._session(POOLED)
        self._matrix = self._session(MATRIX)
        self._loaded: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def most_bytes(self) -> int:
        """What the graphs that are loaded when they are asked for may come to take."""
        sizes = (each.file_size for each in self._archive.infolist()
                 if each.filename not in (INDEX, POOLED, MATRIX))  # fmt: skip
        largest = sorted(sizes, reverse=True)[:MOST_LOADED]
        return round(sum(SESSION_BYTES + TIMES_BYTES * size for size in largest))

    def output(self, columns: Mapping[str, Column]) -> Output:
        """Return the output of each row's model."""
        found = [self._own.get(key) for key in keys_of(columns, self._index.columns)]
        own = np.array([-1 if position is None else position for position in found])
        output: Output | None = None
        if (own < 0).any():
            output = self._with_pooled(columns, own)
        if (own >= 0).any():
            output = self._with_own(columns, own, output)
        if output is None:  # no row at all
            return self._run(self._pooled, feeds(columns))
        return output

    def _with_pooled(self, columns: Mapping[str, Column], own: npt.NDArray[Any]) -> Output:
        part = {name: column[own < 0] for name, column in columns.items()}
        answers = self._run(self._pooled, feeds(part))
        output = np.zeros((len(own), *answers.shape[1:]), dtype=answers.dtype)
        output[own < 0] = answers
        return output

    def _with_own(
        self, columns: Mapping[str, Column], own: npt.NDArray[Any], output: Output | None
    ) -> Output:
        rows = np.flatnonzero(own >= 0)
        order = rows[np.argsort(own[rows], kind="stable")]
        matrix = self._run(
            self._matrix, feeds({name: column[order] for name, column in columns.items()})
        )
        if output is None:
            shape = (len(own), self._classes) if self._classes else (len(own),)
            output = np.zeros(shape, dtype=np.float32)
        begins = np.flatnonzero(np.diff(own[order], prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
            position = int(own[order[begin]])
            answers = self._run(self._graph(position), {"X": matrix[begin:end]})
            if self._classes:
                known = self._index.segments[position].classes
                output[np.ix_(order[begin:end], np.array(known))] = answers
            else:
                output[order[begin:end]] = answers.reshape(-1)
        return output

    def _graph(self, position: int) -> Any:
        with self._lock:
            if position in self._loaded:
                self._loaded.move_to_end(position)
                return self._loaded[position]
        session = self._session(f"{position}.onnx")
        with self._lock:
            self._loaded[position] = session
            if len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        return session

    def _session(self, name: str) -> Any:
        threads = self._threads if name in (POOLED, MATRIX) else 1
        where = f"{name} of {self._archive.filename}"
        return graphs.opened(self._archive.read(name), where, threads, self._lean)

    def _run(self, session: Any, inputs: Mapping[str, Any]) -> Output:
        return np.asarray(session.run([session.get_outputs()[-1].name], inputs)[0])
