"""Why single held-out rows got their answers: a usual one, the highest and the most wrong."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from treadle import metrics
from treadle.analysis.examined import Examined
from treadle.bundle import Bundle, decode_row
from treadle.evaluation import Explained, Part
from treadle.explanation import Explanation, explain_row, usual_row
from treadle.metrics import Measure

MOST_PARTS = 6


def rows(bundle: Bundle, seen: Examined, m: Measure, most_s: float) -> list[Explained]:
    """Explain a few rows that show how the model thinks, as many as ``most_s`` seconds allow."""
    usual, deadline = usual_row(bundle), time.monotonic() + most_s
    found: list[Explained] = []
    slowest = 0.0
    for words, position in _shown(seen, m).items():
        started = time.monotonic()
        if started + slowest > deadline:
            break
        row = seen.at(np.array([position]))
        why = explain_row(bundle, row, usual)
        slowest = max(slowest, time.monotonic() - started)
        plain = decode_row(row, 0, seen.signature)
        found.append(_explained(words, position, why, plain, seen))
    return found


def _shown(seen: Examined, m: Measure) -> dict[str, int]:
    """Choose rows: what they show, and where they are."""
    losses = metrics.row_losses(m.name, seen.answers, seen.output)
    order = np.argsort(losses, kind="stable")
    if not seen.signature.classes:
        by_output = np.argsort(seen.output, kind="stable")
        return {
            "A row in the middle of the predictions": int(by_output[len(by_output) // 2]),
            "The highest prediction": int(by_output[-1]),
            "The row that it was most wrong about": int(order[-1]),
        }
    surest = np.argsort(-seen.output.max(axis=1), kind="stable")
    return {
        "The row that it was surest about": int(surest[0]),
        "The row that it was least sure about": int(surest[-1]),
        "The row that it was most wrong about": int(order[-1]),
    }


def _explained(
    words: str, position: int, why: Explanation, plain: Mapping[str, Any], seen: Examined
) -> Explained:
    classes, output = seen.signature.classes, seen.output[position]
    actual = seen.answers[position]
    return Explained(
        words=words,
        predicted=classes[int(output.argmax())] if classes else f"{float(output):.4g}",
        actual=classes[int(actual)] if classes else f"{float(actual):.4g}",
        usual=why.usual,
        output=why.output,
        error=why.error,
        parts=[
            Part(feature=name, value=_value(plain[name]), adds=adds)
            for name, adds in list(why.parts.items())[:MOST_PARTS]
            if adds
        ],
    )


def _value(value: object) -> str:
    if value is None:
        return "no value"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:60]
