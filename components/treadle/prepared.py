"""The prepared directory: what preprocessing leaves for training.

signature.json     records.Signature
split.json         records.Split
transformer.skops  the transformer, unfitted
train.parquet      the encoded features of the training rows
train_y.npy        their answers: float64, or int64 codes into the signature's classes
fit_x.npy fit_y.npy tuning_x.npy tuning_y.npy
                   the training rows parted again, as float32 matrices: candidates are fitted
                   on the first and scored on the second; the transformer behind them saw the
                   first only
fit_w.npy train_w.npy
                   the rows' weights, float64, where the spec names a column of them
tuning_rows.npy    which of the training rows are tuning rows
reference.json     records.Profile of the training rows, to compare later data with
schema.json        records.Profile of all good rows, to enforce on later tables
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from treadle.encoding import category
from treadle.records import Signature

if TYPE_CHECKING:
    import pandas as pd

SIGNATURE = "signature.json"
SPLIT = "split.json"
RECIPE = "recipe.json"
TRAIN = "train.parquet"
REFERENCE = "reference.json"
SCHEMA = "schema.json"
TUNING_ROWS = "tuning_rows.npy"

Matrix = npt.NDArray[np.float32]
Answers = npt.NDArray[np.float64] | npt.NDArray[np.int64]
UNKNOWN_CLASS = -1


@dataclass(frozen=True)
class TuningData:
    """Matrices to fit candidates on and to score them on."""

    fit_x: Matrix
    fit_y: Answers
    tuning_x: Matrix
    tuning_y: Answers
    fit_w: npt.NDArray[np.float64] | None = None


def load_tuning(directory: Path) -> TuningData:
    """Map the matrices into memory; they are read, not copied."""

    def mapped(name: str) -> Any:
        return np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r"))

    return TuningData(
        fit_x=mapped("fit_x"),
        fit_y=mapped("fit_y"),
        tuning_x=mapped("tuning_x"),
        tuning_y=mapped("tuning_y"),
        fit_w=mapped("fit_w") if (directory / "fit_w.npy").exists() else None,
    )


@dataclass(frozen=True)
class TrainingRows:
    """All training rows: encoded features, answers, and weights where there are any."""

    columns: "pd.DataFrame"
    answers: Answers
    weights: npt.NDArray[np.float64] | None


def load_training(directory: Path) -> TrainingRows:
    """Return what the winner is fitted on."""
    import pandas as pd  # a third of a second, which the search does without

    weights = directory / "train_w.npy"
    return TrainingRows(
        pd.read_parquet(directory / TRAIN),
        np.load(directory / "train_y.npy"),
        np.load(weights) if weights.exists() else None,
    )


def digest(directory: Path) -> str:
    """Return a digest of all that training reads: 32 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in sorted(directory.glob("*")):
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        whole.update(f"{path.name}\0{found}\0".encode())
    return whole.hexdigest()[:32]


def encode_target(column: "pd.Series[Any]", signature: Signature) -> Answers:
    """Return answers as float64, or as int64 codes into the signature's classes (UNKNOWN_CLASS
    for a label that training never saw)."""
    if not signature.task.is_classification:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = {label: code for code, label in enumerate(signature.classes)}
    return np.array([codes.get(category(v), UNKNOWN_CLASS) for v in column], dtype=np.int64)
