"""The bundle: everything a place needs to run a model, and nothing else.

    model.onnx      the whole pipeline, or
    model.skops     scikit-learn's own, where ONNX can't be equal, or
    segments.zip    a model for each segment, and the pooled one (treadle.segments)
    signature.json  records.Signature
    reference.json  records.Profile of the training rows
    schema.json     records.Profile of all good rows, held-out ones included: what validation
                    enforces on the next table
    golden.json     a few rows with their answers, to prove an installation
    MLmodel         the same bundle in MLflow's words

Its digest, over the files' names and contents, is the model's identity everywhere. In the object
store a bundle lies under ``bundles/<digest>/``, beside its signature, if it has one.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from treadle import graphs, signing
from treadle.answers import Output, answers, check_golden
from treadle.encoding import NULL_CATEGORY, Column, RowEncoder, feeds, untokenised
from treadle.errors import ModelError
from treadle.ports import ObjectStore
from treadle.records import Kind, Profile, Signature
from treadle.segments import SegmentedModel
from treadle.signature import encode_rows, row_encoder
from treadle.signing import digest_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

ONNX, SKOPS, SEGMENTS = "model.onnx", "model.skops", "segments.zip"
SIGNATURE, REFERENCE, GOLDEN = "signature.json", "reference.json", "golden.json"
SCHEMA = "schema.json"
MLMODEL = "MLmodel"
# The key of MLmodel's metadata that says why there is no ONNX graph.
WHY_NATIVE = "why_native"
FILES = (ONNX, SKOPS, SEGMENTS, SIGNATURE, REFERENCE, SCHEMA, GOLDEN, MLMODEL)


class Model(Protocol):
    """A loaded model: encoded columns, each of (n,), to (n,) values or (n, classes)
    probabilities."""

    def output(self, columns: Mapping[str, Column]) -> Output:
        """Return the model's output."""


class OnnxModel:
    """The graph, run by onnxruntime."""

    def __init__(self, path: Path, threads: int = 1, lean: bool = False) -> None:
        self._session = graphs.opened(path, str(path), threads, lean)
        # The last output is the one of numbers: see training/onnx_export.py.
        self._wanted = [self._session.get_outputs()[-1].name]

    def output(self, columns: Mapping[str, Column]) -> Output:
        """Return the model's output."""
        return np.asarray(self._session.run(self._wanted, feeds(columns))[0])


class SkopsModel:
    """The scikit-learn pipeline, loaded from skops: no pickle, and only types we trust."""

    def __init__(self, path: Path, signature: Signature) -> None:
        import skops.io as sio

        self._task = signature.task
        try:
            self._pipeline = sio.load(path, trusted=TRUSTED)
        except ImportError as error:
            raise ModelError(
                f"{path} needs {error.name}, which isn't installed here: "
                "pip install 'treadle[boosting]'"
            ) from error

    def output(self, columns: Mapping[str, Column]) -> Output:
        """Return the model's output."""
        import pandas as pd

        frame = pd.DataFrame(dict(columns))
        predict = self._pipeline.predict_proba if self._task.is_classification else None
        return np.asarray((predict or self._pipeline.predict)(frame))


# Types that skops doesn't know to be harmless by itself.
TRUSTED = [
    # These two can be made to read beyond their arrays: a bundle's digest, and its signature where
    # a key is set, are checked before it is loaded.
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.model_selection._split.KFold",
    # The same may be said of these, of the extra boosting: each reads a model of its own format.
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
    "collections.OrderedDict",
    "treadle.transformers.Categories",
    "treadle.transformers.Numbers",
    "treadle.transformers.Terms",
    "treadle.transformers.TimeParts",
    "treadle.transformers.ToFloat32",
]


class Bundle:
    """A bundle, opened. ``files`` says where each of its files can be read; ``threads`` is how many
    a prediction may use; ``lean`` is for who keeps many (see ``graphs``)."""

    def __init__(self, files: Mapping[str, Path], threads: int = 1, lean: bool = False) -> None:
        self.files = dict(files)
        self.signature = Signature.read(self.files[SIGNATURE])
        self._threads, self._lean = threads, lean

    @classmethod
    def at(cls, directory: Path, threads: int = 1) -> Self:
        """Open the bundle in a directory."""
        present = {name: directory / name for name in FILES}
        return cls({name: path for name, path in present.items() if path.exists()}, threads)

    @classmethod
    def fetch(
        cls,
        digest: str,
        store: ObjectStore,
        threads: int = 1,
        *,
        verify_key: "Ed25519PublicKey | None",
        lean: bool = False,
    ) -> Self:
        """Open a stored bundle. Raises ModelError where it is missing, altered, not whole, or not
        signed with ``verify_key``, if there is one."""
        names = [name for name in FILES if store.exists(key(digest, name))]
        if not names:
            place = store.uri(f"bundles/{digest}")
            raise ModelError(f"bundle {digest} is missing: there is nothing at {place}")
        files = {name: store.local(key(digest, name)) for name in names}
        found = digest_of(files)
        if found != digest:
            raise ModelError(
                f"bundle {digest} was altered or is not whole: its files have digest {found}"
            )
        if verify_key is not None:
            _check_signature(digest, files, store, verify_key)
        return cls(files, threads, lean)

    @cached_property
    def model(self) -> Model:
        """The loaded model."""
        if ONNX in self.files:
            return OnnxModel(self.files[ONNX], self._threads, self._lean)
        if SEGMENTS in self.files:
            classes = len(self.signature.classes)
            return SegmentedModel(self.files[SEGMENTS], classes, self._threads, self._lean)
        return SkopsModel(self.files[SKOPS], self.signature)

    @cached_property
    def encoder(self) -> RowEncoder:
        """What reads JSON rows for this model."""
        return row_encoder(self.signature)

    @cached_property
    def digest(self) -> str:
        """The bundle's identity."""
        return digest_of(self.files)

    @property
    def why_native(self) -> str:
        """Why the bundle has no ONNX graph."""
        import yaml

        document = yaml.safe_load(self.files[MLMODEL].read_text(encoding="utf-8"))
        return str(document.get("metadata", {}).get(WHY_NATIVE, "it has no ONNX graph"))

    @property
    def reference(self) -> Profile:
        """The profile of the training rows."""
        return Profile.read(self.files[REFERENCE])

    @property
    def golden(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The golden rows and their answers."""
        content = json.loads(self.files[GOLDEN].read_text(encoding="utf-8"))
        return content["rows"], content["answers"]

    def predict_rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer JSON rows; raises signature.RowErrors for rows that don't fit."""
        return answers(self.model.output(encode_rows(rows, self.encoder)), self.signature)

    def prove(self) -> None:
        """Answer the golden rows; raises ModelError where an answer isn't the expected one."""
        rows, expected = self.golden
        check_golden(self.predict_rows(rows), expected)


def decode_row(
    columns: Mapping[str, Column], position: int, signature: Signature
) -> dict[str, Any]:
    """Return one encoded row as the JSON row that encodes to it."""
    row: dict[str, Any] = {}
    for feature in signature.features:
        value = columns[feature.name][position]
        if feature.kind is Kind.CATEGORY:
            text = untokenised(value, feature.tokens) if feature.tokens else str(value)
            row[feature.name] = None if value == NULL_CATEGORY else text
        elif np.isnan(value):
            row[feature.name] = None
        elif feature.kind is Kind.TIME:
            stamp = np.datetime64(round(float(value) * 1e6), "us")
            row[feature.name] = f"{np.datetime_as_string(stamp, unit='auto')}"
        else:
            # The shortest decimal that reads back as the same float32.
            shortest = float(np.format_float_positional(value, unique=True))
            row[feature.name] = bool(value) if feature.kind is Kind.BOOLEAN else shortest
    return row


def key(digest: str, name: str) -> str:
    """Return the object store's key of a bundle's file."""
    return f"bundles/{digest}/{name}"


def store_bundle(
    bundle: Bundle, store: ObjectStore, signing_key: "Ed25519PrivateKey | None" = None
) -> str:
    """Put a bundle into the object store, signed where there is a key; return its address. Doing
    it twice changes nothing."""
    for name, path in bundle.files.items():
        if not store.exists(key(bundle.digest, name)):
            store.put_file(key(bundle.digest, name), path)
    if signing_key is not None:
        # Ed25519 gives the same signature each time.
        store.put_bytes(key(bundle.digest, signing.FILE), signing.sign(bundle.files, signing_key))
    return store.uri(f"bundles/{bundle.digest}")


def schema_of(digest: str, store: ObjectStore) -> tuple[Profile, Signature]:
    """Return what the table of a stored bundle looked like, and what the bundle reads of it."""
    known = Profile.model_validate_json(store.get_bytes(key(digest, SCHEMA)))
    return known, Signature.model_validate_json(store.get_bytes(key(digest, SIGNATURE)))


def _check_signature(
    digest: str, files: Mapping[str, Path], store: ObjectStore, verify_key: "Ed25519PublicKey"
) -> None:
    place = key(digest, signing.FILE)
    way_out = "run its spec again where TREADLE_SIGNING_KEY is set"
    if not store.exists(place):
        raise ModelError(f"bundle {digest} isn't signed, and TREADLE_VERIFY_KEY is set: {way_out}")
    if not signing.is_signed(files, store.get_bytes(place), verify_key):
        raise ModelError(
            f"bundle {digest} isn't signed with the key in TREADLE_VERIFY_KEY: it comes from "
            f"somebody else, or that is another key; to sign it, {way_out}"
        )
