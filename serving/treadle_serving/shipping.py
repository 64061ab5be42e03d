"""Stores what the spool holds, as Parquet in the object store: see ``treadle.predictions``.

``python -m treadle_serving.shipping`` does so in a process of its own and of low priority: what
takes milliseconds here would otherwise hold up requests there. It reads a segment's path a line and
answers each with a line of JSON; it ends when its input does.
"""

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from treadle import predictions
from treadle.errors import StoreError, TreadleError
from treadle.ports import ObjectStore
from treadle.signature import encode_rows
from treadle_serving import spool
from treadle_serving.drift import DriftCounter
from treadle_serving.spool import Answer, Columns, Version

NICENESS = 10
# So many rows are encoded and packed at once.
PACK_ROWS = 20_000
_Key = tuple[str, int, datetime]


@dataclass
class Shipped:
    """What came of a segment: rows stored, and what was counted over all of its rows."""

    rows: int = 0
    nulls: dict[str, dict[str, int]] = field(default_factory=dict)
    outside: dict[str, dict[str, int]] = field(default_factory=dict)


class BrokenSegment(TreadleError):
    """A segment holds what nobody has written: a disk's fault."""


class Packer:
    """Gathers a segment's answers by model version and hour."""

    def __init__(self) -> None:
        self.drift = DriftCounter()
        self.batches: dict[_Key, list[pa.RecordBatch]] = defaultdict(list)
        self.versions: dict[_Key, Version] = {}
        self._waiting: dict[_Key, list[Answer]] = defaultdict(list)
        self._rows = 0

    def add(self, answer: Answer) -> None:
        """Take an answer in."""
        hour = predictions.hour_of(datetime.fromtimestamp(answer.at_us / 1e6, UTC))
        key = (answer.version.name, answer.version.number, hour)
        self.versions[key] = answer.version
        self._waiting[key].append(answer)
        self._rows += len(answer.ids)
        if self._rows >= PACK_ROWS:
            self.pack()

    def pack(self) -> None:
        """Pack what was taken in."""
        for key, answers in self._waiting.items():
            # Those that came as rows go first, so that order and columns agree.
            answers.sort(key=lambda answer: isinstance(answer.read, dict))
            columns = _joined(answers)
            self.drift.count(self.versions[key], columns)
            if any(answer.logged for answer in answers):
                self.batches[key].append(_packed(answers, columns))
        self._waiting.clear()
        self._rows = 0


def ship(segment: Path, store: ObjectStore) -> Shipped:
    """Store a segment, a file a model version and hour. Doing it again replaces these files by the
    same. Raises BrokenSegment for one that can't be read, TreadleError where the store refuses."""
    packer = Packer()
    try:
        for answer in spool.answers(segment):
            packer.add(answer)
        packer.pack()
    except Exception as error:
        raise BrokenSegment(f"{segment} can't be read: {error!r}") from error
    done = Shipped(
        nulls={name: dict(counts) for name, counts in packer.drift.nulls.items()},
        outside={name: dict(counts) for name, counts in packer.drift.outside.items()},
    )
    for key, batches in packer.batches.items():
        name, number, hour = key
        unique = f"{number}-{segment.stem}"
        digest = packer.versions[key].digest
        store.put_bytes(*predictions.sealed(name, digest, hour, batches, unique))
        done.rows += sum(batch.num_rows for batch in batches)
    return done


def _joined(answers: Sequence[Answer]) -> Columns:
    """Return the encoded rows of answers of one version, those that came as rows first."""
    rows = [row for answer in answers if not isinstance(answer.read, dict) for row in answer.read]
    parts = [answer.read for answer in answers if isinstance(answer.read, dict)]
    if rows:
        parts.insert(0, encode_rows(rows, answers[0].encoder))
    names = answers[0].version.signature.names
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _packed(answers: Sequence[Answer], columns: Columns) -> pa.RecordBatch:
    """Return answers of one version, those that are logged, as rows of the log."""
    version = answers[0].version
    counts = [len(answer.ids) for answer in answers]
    whole = predictions.batch(
        version.signature,
        [id_ for answer in answers for id_ in answer.ids],
        np.repeat([answer.at_us for answer in answers], counts),
        version.number,
        version.digest,
        [answer.role for answer in answers for _ in answer.ids],
        columns,
        np.concatenate([answer.output for answer in answers]),
    )
    kept = np.repeat([answer.logged for answer in answers], counts)
    return whole if kept.all() else whole.filter(pa.array(kept))


class ShippingProcess:
    """Has another process ship, and starts it anew where it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __call__(self, segment: Path) -> Shipped:
        """Store a segment. Raises TreadleError where that doesn't succeed."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{segment}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self.end()
            raise StoreError("the process that stores the prediction log ended: it is tried again")
        found = json.loads(line)
        if "broken" in found:
            raise BrokenSegment(found["broken"])
        if "fault" in found:
            raise StoreError(found["fault"])
        return Shipped(**found)

    def end(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is not None:
            self.end()
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    # A signal to the server's group isn't for it: what waits is stored first.
                    start_new_session=True,
                )  # fmt: skip
            return self._process


def main() -> None:
    """Ship what standard input names."""
    from treadle import runtime

    os.nice(NICENESS)
    store = runtime.object_store()
    for line in sys.stdin:
        try:
            said = asdict(ship(Path(line.rstrip("\n")), store))
        except BrokenSegment as error:
            said = {"broken": str(error)}
        except TreadleError as error:
            said = {"fault": str(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
