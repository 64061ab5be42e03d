"""A logged model for the tests of the loop: rows as the server would have written them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from serving_fakes import SIGNATURE

from treadle import labels, predictions
from treadle.labels import Label
from treadle.ports import ObjectStore
from treadle.records import ModelVersion
from treadle.signature import encode_rows, row_encoder

BEGIN = datetime(2026, 3, 1, 10, tzinfo=UTC)


def rows_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as the model ``sum`` was trained on."""
    random = np.random.default_rng(seed)
    return [
        {"x": float(x), "y": float(y), "colour": str(colour)}
        for x, y, colour in zip(
            random.uniform(0, 8, count), random.uniform(0, 8, count),
            random.choice(["red", "red", "blue"], count), strict=True,
        )
    ]  # fmt: skip


def answer(row: dict[str, Any], plus: float = 0.0) -> float:
    """What the model ``sum`` says of a row."""
    colours = {"red": 10.0, "blue": 20.0}
    return float((row["x"] or 0) + (row["y"] or 0) + colours.get(row["colour"], 0.0) + plus)


def log(
    version: ModelVersion,
    rows: Sequence[dict[str, Any]],
    store: ObjectStore,
    *,
    at: datetime = BEGIN,
    ids: Sequence[str] | None = None,
    role: str = "champion",
    plus: float = 0.0,
    every_s: float = 1.0,
) -> str:
    """Write one file of the log; return its key. Ids are ``<hour>-<n>`` where none are given."""
    ids = ids or [f"{at:%d-%H-%M}-{n}" for n in range(len(rows))]
    microseconds = [int((at + timedelta(seconds=every_s * n)).timestamp() * 1e6)
                    for n in range(len(rows))]  # fmt: skip
    columns = encode_rows(list(rows), row_encoder(SIGNATURE))
    output = np.array([answer(row, plus) for row in rows], dtype=np.float32)
    batch = predictions.batch(
        SIGNATURE, list(ids), np.array(microseconds), version.version, version.digest,
        [role] * len(rows), columns, output,
    )  # fmt: skip
    key, content = predictions.sealed(
        version.name, version.digest, predictions.hour_of(at), [batch]
    )
    store.put_bytes(key, content)
    return key


def tell(
    version: ModelVersion,
    answers: Sequence[tuple[str, float]],
    store: ObjectStore,
    now: datetime = BEGIN + timedelta(hours=1),
) -> None:
    """Deliver labels."""
    sent = [Label(id_, value) for id_, value in answers]
    labels.deliver(version.name, SIGNATURE, sent, now, store)
