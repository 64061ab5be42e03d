"""What is learned from: the features, a task that fits the target, and classes to tell apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from treadle import snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.encoding import category
from treadle.errors import DataError, SpecError
from treadle.kinds import kinds_of
from treadle.preprocessing import prepare
from treadle.preprocessing.features import choose_features
from treadle.profile import profile
from treadle.records import Kind, Signature, Split, Task
from treadle.spec import Preprocessing, SplitBy

Choose = Callable[..., Signature]
SIZES = np.random.default_rng(0).normal(size=120)


@pytest.fixture
def choose(parquet: Callable[[pa.Table], Path]) -> Choose:
    """Chooses the features of a table with this target, all rows learned from."""

    def run(
        answers: Sequence[object],
        task: Task | None = None,
        exclude: Sequence[str] = (),
        kind: Kind | None = None,
    ) -> Signature:
        table = pa.table({"y": pa.array(answers), "size": SIZES, "same": [1] * 120})
        found = profile(parquet(table), kinds_of(table.schema, {"y": kind}))
        classes = sorted({category(value) for value in answers})
        return choose_features(found, "y", task, Preprocessing(exclude=list(exclude)), classes)

    return run


WORDS, WHOLE, HALVES = ["a", "b", "c"] * 40, [0, 1, 2] * 40, [0.5, 1.5] * 60


@pytest.mark.parametrize(
    ("answers", "task", "found"),
    [
        (WORDS, None, Task.MULTICLASS),
        (HALVES, None, Task.REGRESSION),
        (WHOLE, None, Task.MULTICLASS),
        (WHOLE, Task.REGRESSION, Task.REGRESSION),
        ([True, False] * 60, None, Task.BINARY),
        ([True, False] * 60, Task.MULTICLASS, Task.MULTICLASS),
    ],
)
def test_a_task_that_fits_is_taken_with_its_classes(
    choose: Choose, answers: list[object], task: Task | None, found: Task
) -> None:
    chosen = choose(answers, task)
    classes = sorted({category(value) for value in answers})
    assert (chosen.task, chosen.names, chosen.ignored) == (found, ["size"], ["same"])
    assert chosen.classes == (classes if found.is_classification else [])


@pytest.mark.parametrize(
    ("answers", "task", "words"),
    [
        (WORDS, Task.REGRESSION, "task: regression needs numbers, and 'y' is a category"),
        (WORDS, Task.BINARY, "task: binary, but 'y' has 3 classes: say multiclass"),
        (HALVES, Task.BINARY, "task: binary needs classes, and 'y' holds fractions: say regress"),
        (HALVES, Task.MULTICLASS, "task: multiclass needs classes, and 'y' holds fractions: say "),
    ],
)
def test_a_task_that_does_not_fit_the_target_is_refused_with_the_way_out(
    choose: Choose, answers: list[object], task: Task, words: str
) -> None:
    with pytest.raises(SpecError, match=f"^{words}"):
        choose(answers, task)


def test_fractions_that_are_stated_to_be_categories_are_classes(choose: Choose) -> None:
    assert choose(HALVES, Task.BINARY, kind=Kind.CATEGORY).classes == ["0.5", "1.5"]


def test_an_excluded_column_that_is_not_there_is_named_with_the_nearest(choose: Choose) -> None:
    words = r"^preprocessing.exclude: there is no column 'sizes'; did you mean 'size'\?"
    with pytest.raises(DataError, match=words):
        choose(WORDS, exclude=["sizes"])


def test_a_table_without_a_feature_left_is_refused(choose: Choose) -> None:
    with pytest.raises(DataError, match=r"^no column is left to predict 'y' from"):
        choose(WORDS, exclude=["size"])


# The whole stage


def prepared(answers: Sequence[object], store: DirectoryStore, out: Path) -> Split:
    """Prepares rows in the order of time, the last fifth held out."""
    table = pa.table({"y": pa.array(answers), "size": SIZES, "at": np.arange(120)})
    taken = snapshots.publish(table.to_reader(), "a table", store)
    found = profile(store.local(taken.data_key), kinds_of(table.schema, {}))
    options = Preprocessing(split=SplitBy.TIME, split_column="at")
    return prepare.run(taken, found, "y", None, options, 0.2, 0, store, out)


def test_the_last_rows_are_held_out_and_the_rest_prepared(
    store: DirectoryStore, tmp_path: Path
) -> None:
    split = prepared(["no", "yes"] * 60, store, tmp_path / "out")
    assert (split.train_rows, split.test_rows, split.tuning_rows) == (96, 24, 20)
    assert Signature.read(tmp_path / "out" / "signature.json").classes == ["no", "yes"]


def test_rows_to_learn_from_that_hold_one_class_are_refused_and_leave_nothing(
    store: DirectoryStore, tmp_path: Path
) -> None:
    words = r"^the rows to learn from hold one class only of 'y' \(no\): choose another split"
    with pytest.raises(DataError, match=words):
        prepared(["no"] * 96 + ["yes"] * 24, store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
