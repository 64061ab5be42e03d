"""A model's output in words, and whether two answers are the same.

The edge runtime carries this very file: it needs numpy and the standard library, nothing else.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from treadle.errors import ModelError

# Answers of one graph on two machines may differ in the last bits.
GOLDEN_TOLERANCE = 1e-4

Output = npt.NDArray[Any]


class Labelled(Protocol):
    """What knows the labels, in the order of the model's probabilities; none for regression."""

    @property
    def classes(self) -> Sequence[str]:
        """The labels."""


def answers(output: Output, signature: Labelled) -> list[dict[str, Any]]:
    """Put a model's output into words: ``{"prediction": 3.2}``, or ``{"prediction": "cat",
    "probabilities": {"cat": 0.7, "dog": 0.3}}``."""
    classes = signature.classes
    if not classes:
        return [{"prediction": value} for value in np.asarray(output, dtype=float).tolist()]
    best = np.argmax(output, axis=1).tolist()
    return [
        {"prediction": classes[code], "probabilities": dict(zip(classes, row, strict=True))}
        for code, row in zip(best, np.asarray(output, dtype=float).tolist(), strict=True)
    ]


def check_golden(got: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    """Raise ModelError where an answer to a golden row isn't the expected one."""
    for position, (answer, wanted) in enumerate(zip(got, expected, strict=True)):
        if not same_answer(answer, wanted):
            raise ModelError(
                f"golden row {position}: expected {wanted}, got {answer}: this bundle "
                "doesn't run here as it did where it was made"
            )


def same_answer(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether two answers agree within GOLDEN_TOLERANCE."""
    if isinstance(one["prediction"], str):
        pairs = zip(one["probabilities"].values(), other["probabilities"].values(), strict=True)
        return one["prediction"] == other["prediction"] and all(_close(a, b) for a, b in pairs)
    return _close(one["prediction"], other["prediction"])


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= GOLDEN_TOLERANCE * max(1.0, abs(a), abs(b))
