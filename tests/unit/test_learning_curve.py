"""The learning curve says whether more rows would help, within its time."""

from pathlib import Path

import numpy as np
import pytest

from treadle.records import Task, Trial
from treadle.spec import MetricName
from treadle.training import learning_curve
from treadle.training.families import Objective

FOREST = Trial(
    number=0, family="forest", parameters={"max_depth": 8}, curve=[(1, -1.0)], seconds=0.1
)


def objective(task: Task = Task.REGRESSION, classes: int = 0) -> Objective:
    metric = MetricName.RMSE if task is Task.REGRESSION else MetricName.LOG_LOSS
    return Objective(task=task, classes=classes, metric=metric, seed=0)


def write(directory: Path, answers: dict[str, np.ndarray], x: dict[str, np.ndarray]) -> Path:
    for part in ("fit", "tuning"):
        np.save(directory / f"{part}_x.npy", x[part].astype(np.float32))
        np.save(directory / f"{part}_y.npy", answers[part])
    return directory


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    """Rows of a function that takes many rows to learn."""
    random = np.random.default_rng(0)
    x = {"fit": random.uniform(-2, 2, (1_600, 2)), "tuning": random.uniform(-2, 2, (400, 2))}
    return write(tmp_path, {k: np.sin(3 * v[:, 0]) * v[:, 1] for k, v in x.items()}, x)


def test_more_rows_help_where_there_is_more_to_learn(hard: Path) -> None:
    found = learning_curve.points(FOREST, hard, objective(), 1, 30.0)
    assert [point.rows for point in found] == [100, 200, 400, 800, 1_600]
    unseen = [point.unseen for point in found]
    assert unseen[-1] > unseen[0] / 2
    assert all(point.learned > point.unseen for point in found)
    assert found == learning_curve.points(FOREST, hard, objective(), 1, 30.0)


def test_without_time_there_is_no_curve(hard: Path) -> None:
    assert learning_curve.points(FOREST, hard, objective(), 1, 0.0) == []


def test_parts_that_lack_a_class_or_rows_are_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = {"fit": random.normal(size=(640, 2)), "tuning": random.normal(size=(80, 2))}
    answers = {k: (v[:, 0] > 0).astype(np.int64) for k, v in x.items()}
    answers["fit"][:3] = 2
    found = learning_curve.points(
        FOREST, write(tmp_path, answers, x), objective(Task.MULTICLASS, 3), 1, 30.0
    )
    assert 0 < len(found) < 4
    assert found[-1].rows == 640
