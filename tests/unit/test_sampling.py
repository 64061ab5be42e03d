"""Rows that fitting has no memory for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from treadle import prepared
from treadle.errors import DataError
from treadle.records import Signature, Task
from treadle.spec import TrainingOptions
from treadle.training import sampling

ROWS = 20_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    out = tmp_path / "rows"
    out.mkdir()
    Signature(task=Task.BINARY, target="y", features=[], classes=["a", "b"]).write(
        out / prepared.SIGNATURE
    )
    random = np.random.default_rng(0)
    answers = (random.uniform(size=ROWS) < 0.01).astype(np.int64)
    tuning = random.uniform(size=ROWS) < 0.2
    number = np.arange(ROWS, dtype=np.float32)
    x = np.stack([number, answers.astype(np.float32)], axis=1)
    for part, rows in (("fit", ~tuning), ("tuning", tuning)):
        np.save(out / f"{part}_x.npy", x[rows])
        np.save(out / f"{part}_y.npy", answers[rows])
    np.save(out / "fit_w.npy", number[~tuning].astype(float))
    np.save(out / "train_y.npy", answers)
    np.save(out / "train_w.npy", number.astype(float))
    np.save(out / prepared.TUNING_ROWS, tuning)
    pd.DataFrame({"number": number}).to_parquet(out / prepared.TRAIN)
    return out


def test_what_fits_is_left_as_it_is(directory: Path) -> None:
    with sampling.fitting(directory, TrainingOptions(), 10**9, 2) as (chosen, notes):
        assert chosen == directory
        assert notes == []
    with sampling.fitting(directory, TrainingOptions(), None, 2) as (chosen, _):
        assert chosen == directory


def test_a_part_of_each_class_is_drawn_and_stays_together(directory: Path) -> None:
    options = TrainingOptions(memory_gib=0.0002)
    with sampling.fitting(directory, options, None, 1) as (chosen, notes):
        rows = prepared.load_training(chosen)
        data = prepared.load_tuning(chosen)
        share = len(rows.columns) / ROWS
        assert 0.3 < share < 0.6
        assert "training.memory_gib allows" in notes[0]
        assert "each class by its share" in notes[0]
        assert rows.answers.mean() == pytest.approx(0.01, rel=0.2)
        assert rows.weights is not None
        assert np.array_equal(rows.weights, rows.columns["number"])
        held = np.load(chosen / prepared.TUNING_ROWS)
        number = rows.columns["number"].to_numpy()
        assert np.array_equal(number[~held], data.fit_x[:, 0])
        assert np.array_equal(number[held], data.tuning_x[:, 0])
        assert np.array_equal(data.fit_y, data.fit_x[:, 1])
        assert data.fit_w is not None
        assert np.array_equal(data.fit_w, data.fit_x[:, 0])
    with sampling.fitting(directory, options, None, 1) as (chosen, _):
        assert np.array_equal(prepared.load_training(chosen).columns["number"], number)
    assert not chosen.exists()


def test_too_little_for_a_thousand_rows_is_said_before_anything_is_tried(directory: Path) -> None:
    with (
        pytest.raises(DataError, match=r"not enough for 1,000 rows; give it more memory"),
        sampling.fitting(directory, TrainingOptions(memory_gib=1e-6), None, 1),
    ):
        pytest.fail("it was tried")
