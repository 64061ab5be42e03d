"""Held-out rows, and what a model says to them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from treadle import prepared
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.encoding import Column
from treadle.errors import DataError
from treadle.records import Signature
from treadle.resampling import Vector
from treadle.signature import arrays, encode_frame


@dataclass(frozen=True)
class Examined:
    """Held-out rows as they came and encoded, with the model's output beside the answers.
    ``numbers`` are theirs among all held-out rows: some may be left out."""

    signature: Signature
    frame: pd.DataFrame
    columns: dict[str, Column]
    answers: Vector
    output: Output
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.answers)

    def at(self, picked: Vector) -> dict[str, Column]:
        """Return the encoded columns of some rows."""
        return {name: values[picked] for name, values in self.columns.items()}


def examine(bundle: Bundle, held_out: pd.DataFrame) -> Examined:
    """Run the bundle over the held-out rows. Rows of a class that training never saw are left
    out."""
    answers = prepared.encode_target(held_out[bundle.signature.target], bundle.signature)
    known = np.ones(len(answers), dtype=bool)
    if bundle.signature.task.is_classification:
        known = answers != prepared.UNKNOWN_CLASS
    if not known.any():
        raise DataError("no held-out row has a class that training saw")
    frame = held_out[known].reset_index(drop=True)
    columns = arrays(encode_frame(frame, bundle.signature))
    output = bundle.model.output(columns)
    return Examined(bundle.signature, frame, columns, answers[known], output, np.flatnonzero(known))
