"""A bundle in a directory of its own, proven and loaded."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from treadle import signing
from treadle.answers import answers, check_golden
from treadle.encoding import Fault, RowEncoder, feeds, ignored_values
from treadle.errors import DataError, ModelError
from treadle_edge import ed25519

ONNX, SIGNATURE, GOLDEN = "model.onnx", "signature.json", "golden.json"
# Beside the bundle: who it is (signing.champion_statement).
CHAMPION = "champion.json"


class Damaged(ModelError):
    """The bundle's files aren't those that were put there."""


class RowErrors(DataError):
    """Rows that don't fit the signature: each by position, column and reason."""

    def __init__(self, errors: Sequence[Fault]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"row {row}, {name}: {why}" for row, name, why in errors[:5]))


@dataclass(frozen=True)
class Signature:
    """What is needed of a bundle's signature: ``(name, read as)`` of each feature, the labels, and
    the columns that training knew and found nothing in."""

    features: list[tuple[str, str]]
    classes: list[str]
    ignored: list[str]

    @classmethod
    def read(cls, path: Path) -> "Signature":
        """Read signature.json."""
        given = json.loads(path.read_text(encoding="utf-8"))
        features = [(f["name"], f.get("tokens") or f["kind"]) for f in given["features"]]
        return cls(features, given["classes"], given.get("ignored", []))


class Model:
    """A loaded model. Making one checks its files against its directory's name, their digest, and
    against ``key``, if there is one; raises ModelError."""

    def __init__(self, directory: Path, key: bytes | None) -> None:
        check(directory, key)
        self.identity = identity(directory)
        self._signature = Signature.read(directory / SIGNATURE)
        self._golden = directory / GOLDEN
        self._encoder = RowEncoder(self._signature.features)
        self._session = _session(directory / ONNX)
        # The last output is the one of numbers.
        self._wanted = [self._session.get_outputs()[-1].name]

    def answer(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Answer rows as a document; ``ignored`` is in it where columns have values in which
        training found nothing. Raises RowErrors."""
        predictions = self.predict(rows)
        ignored = ignored_values(rows, self._signature.ignored)
        told = {"ignored": ignored} if ignored else {}
        return {**self.identity, "predictions": predictions, **told}

    def predict(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer rows; raises RowErrors that names every value that can't be read."""
        columns, faults = self._encoder.encode(rows)
        if faults:
            raise RowErrors(sorted(faults))
        output = np.asarray(self._session.run(self._wanted, feeds(columns))[0])
        return answers(output, self._signature)

    def prove(self) -> None:
        """Answer the golden rows; raises ModelError where an answer isn't the expected one."""
        golden = json.loads(self._golden.read_text(encoding="utf-8"))
        check_golden(self.predict(golden["rows"]), golden["answers"])


def check(directory: Path, key: bytes | None) -> None:
    """Raise Damaged or ModelError where a bundle isn't whole, or isn't signed with ``key``."""
    try:
        files = {path.name: path for path in directory.iterdir()
                 if path.name not in (CHAMPION, signing.FILE)}  # fmt: skip
        found = signing.digest_of(files)
        if found != directory.name:
            raise Damaged(f"bundle {directory.name} is damaged: its files have digest {found}")
        if key is None:
            return
        signature = (directory / signing.FILE).read_bytes()
        statement = signing.statement(files)
    except FileNotFoundError as error:
        name = Path(error.filename).name
        words = "isn't signed" if name == signing.FILE else f"lacks {name}"
        raise Damaged(f"bundle {directory.name} {words}") from error
    if not is_signed(statement, signature, key):
        raise ModelError(f"bundle {directory.name} isn't signed with verify_key of edge.json: it "
                         "comes from somebody else, or that is another key")  # fmt: skip


def is_signed(text: bytes, signature: bytes, key: bytes) -> bool:
    """Say whether ``signature``, in base64, is the key's, of exactly this text."""
    try:
        return ed25519.is_signed(text, base64.b64decode(signature, validate=True), key)
    except ValueError:
        return False


def identity(directory: Path) -> dict[str, Any]:
    """Return who a model is: a part of every answer."""
    try:
        told = json.loads((directory / CHAMPION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}  # it says nothing about whether the model is good
    names = ("model", "version", "semver")
    return {**{name: told.get(name) for name in names}, "digest": directory.name}


def _session(path: Path) -> ort.InferenceSession:
    """Load a graph so that it takes little memory: one thread, no arena that only grows."""
    if not path.exists():
        raise ModelError(f"bundle {path.parent.name} has no {ONNX}: it can't run here")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 3
    # pybind's own exceptions have no common base that onnxruntime exports.
    try:
        return ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path} can't be loaded: {error}") from error
