"""What is learned from: the features, a task that fits the target, and classes to tell apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from treadle import snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle, schema_of, store_bundle
from treadle.encoding import NULL_CATEGORY, category
from treadle.errors import DataError, SpecError
from treadle.kinds import kinds_of
from treadle.prepared import load_training
from treadle.preprocessing import prepare
from treadle.preprocessing.features import choose_features, plan_transformer
from treadle.profile import profile
from treadle.records import (
    How,
    Kind,
    Nulls,
    OutOfRange,
    Recipe,
    Signature,
    Split,
    Task,
    Tokens,
    Treatment,
    Trial,
    Unseen,
)
from treadle.spec import Preprocessing, SplitBy
from treadle.training import refit
from treadle.training.families import Objective
from treadle.transformers import RARE_CATEGORY, Categories, Numbers

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


# How columns become numbers


NOTES = [f"a note of the {i}th day, in {i % 7} words" for i in range(120)]


@pytest.fixture
def planned(parquet: Callable[[pa.Table], Path]) -> Callable[..., tuple[Signature, Recipe]]:
    """Plans the transformer of a table with a number, categories, a text and an identifier."""

    def run(**columns: dict[str, object]) -> tuple[Signature, Recipe]:
        table = pa.table(
            {
                "y": WORDS,
                "size": SIZES,
                "code": ["x", "z"] * 60,
                "note": NOTES,
                "id": [f"id-{i}" for i in range(120)],
                "empty": pa.nulls(120, pa.string()),
            }
        )
        found = profile(parquet(table), kinds_of(table.schema, {}))
        options = Preprocessing.model_validate({"columns": columns})
        signature = choose_features(found, "y", None, options, ["a", "b", "c"])
        return signature, plan_transformer(signature, found, options, 0)

    return run


def test_texts_are_found_and_identifiers_and_empty_columns_stay_as_ignored(
    planned: Callable[..., tuple[Signature, Recipe]],
) -> None:
    signature, recipe = planned()
    assert signature.ignored == ["id", "empty"]
    assert recipe.features == {"size": How.NUMBER, "code": How.ONE_HOT, "note": How.WORDS}
    assert [f.tokens for f in signature.features] == [None, None, Tokens.WORDS]
    assert recipe.treatments["size"] == Treatment(nulls=Nulls.MEDIAN)
    assert recipe.treatments["code"] == Treatment(nulls=Nulls.OWN, rare_rows=10)


def test_what_the_spec_states_of_a_column_is_done(
    planned: Callable[..., tuple[Signature, Recipe]],
) -> None:
    signature, recipe = planned(
        size={"nulls": "mean", "out_of_range": "clip"},
        code={"how": "target_encoded", "unseen": "null", "rare_rows": 3},
        note={"how": "characters"},
        id={"how": "target_encoded"},
    )
    assert signature.names == ["size", "code", "note", "id"]
    assert signature.features[2].tokens is Tokens.CHARACTERS
    assert recipe.treatments["size"].out_of_range is OutOfRange.CLIP
    assert recipe.treatments["code"] == Treatment(nulls=Nulls.OWN, unseen=Unseen.NULL, rare_rows=3)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"size": {"how": "words"}}, "'size' is a number, which can't be words: say number, or"),
        ({"code": {"nulls": "median"}}, "nulls of 'code', one_hot, can't be median"),
        ({"size": {"nulls": "own"}}, "nulls of 'size', number, can't be own"),
        ({"note": {"nulls": "commonest"}}, "nulls of 'note', words, can't be commonest"),
        ({"code": {"out_of_range": "clip"}}, "out_of_range is for numbers; 'code' is one_hot"),
    ],
)
def test_a_treatment_that_a_column_cant_have_is_misuse(
    columns: dict[str, dict[str, object]],
    words: str,
    planned: Callable[..., tuple[Signature, Recipe]],
) -> None:
    with pytest.raises(SpecError, match=words):
        planned(**columns)


def test_a_treatment_of_no_column_is_named_with_the_nearest(
    planned: Callable[..., tuple[Signature, Recipe]],
) -> None:
    words = r"preprocessing.columns: there is no column 'sise'; did you mean 'size'\?"
    with pytest.raises(DataError, match=words):
        planned(sise={"nulls": "mean"})


def test_rare_null_and_unseen_categories_are_told_apart() -> None:
    column = np.array([["a"]] * 9 + [["b"]] * 8 + [["r"], ["s"]] + [[NULL_CATEGORY]] * 2, object)
    asked = np.array([["a"], ["r"], [NULL_CATEGORY], ["new"]], dtype=object)

    def found(nulls: Nulls, unseen: Unseen, rows: np.ndarray = column) -> list[str]:
        return Categories(nulls.value, unseen.value, 3).fit(rows).transform(asked).ravel().tolist()

    rare, null = RARE_CATEGORY, NULL_CATEGORY
    assert found(Nulls.OWN, Unseen.RARE) == ["a", rare, null, rare]
    assert found(Nulls.OWN, Unseen.NULL) == ["a", rare, null, null]
    assert found(Nulls.COMMONEST, Unseen.RARE) == ["a", rare, "a", rare]
    assert found(Nulls.COMMONEST, Unseen.NULL) == ["a", rare, "a", "a"]
    # Neither a null nor anything rare in training: both are defined at serving all the same.
    assert found(Nulls.OWN, Unseen.RARE, column[:17]) == ["a", rare, null, rare]


def test_numbers_are_what_pandas_makes_of_them() -> None:
    known = np.array([[1, 5, np.nan], [2, np.nan, np.nan], [2, 7, np.nan], [9, 6, np.nan]], "f4")
    step = Numbers(["commonest", "mean", "median"], ["clip", "null", "clip"]).fit(known)
    odd = np.array([[np.nan, np.nan, np.nan], [99, 99, 4], [-1, 5.5, np.nan]], "f4")
    np.testing.assert_array_equal(
        step.transform(odd), [[2, 6, 0, 1, 1], [9, 6, 4, 1, 0], [1, 5.5, 0, 0, 1]]
    )
    names = ["x0", "x1", "x2", "x1_null", "x2_null"]
    assert step.get_feature_names_out().tolist() == names


# The whole stage


def prepared(answers: Sequence[object], store: DirectoryStore, out: Path) -> Split:
    """Prepares rows in the order of time, the last fifth held out."""
    table = pa.table({"y": pa.array(answers), "size": SIZES, "at": np.arange(120)})
    taken = snapshots.publish(table.to_reader(), "a table", store)
    found = profile(store.local(taken.data_key), kinds_of(table.schema, {}))
    options = Preprocessing(split=SplitBy.TIME, split_column="at")
    return prepare.run(taken, found, "y", None, options, 0.2, "", 0, store, out)


def test_the_last_rows_are_held_out_and_the_rest_prepared(
    store: DirectoryStore, tmp_path: Path
) -> None:
    split = prepared(["no", "yes"] * 60, store, tmp_path / "out")
    assert (split.train_rows, split.test_rows, split.tuning_rows) == (96, 24, 20)
    assert Signature.read(tmp_path / "out" / "signature.json").classes == ["no", "yes"]


def staged(
    table: pa.Table, store: DirectoryStore, out: Path, **options: object
) -> tuple[Split, Signature]:
    taken = snapshots.publish(table.to_reader(), "a table", store)
    found = profile(store.local(taken.data_key), kinds_of(table.schema, {}))
    chosen = Preprocessing.model_validate(options)
    split = prepare.run(taken, found, "y", None, chosen, 0.2, "", 0, store, out)
    return split, Signature.read(out / "signature.json")


@pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto:DeprecationWarning")
def test_the_bundle_of_every_kind_of_column_is_onnx_and_proves_itself(
    store: DirectoryStore, tmp_path: Path
) -> None:
    table = pa.table(
        {
            "y": ["no", "yes"] * 60,
            "size": pa.array([None, *SIZES[1:]]),
            "code": pa.array([None, "x", "z"] * 40),
            "note": [*NOTES[:-1], None],
            "nick": [f"N{i % 9}a{i % 5}" for i in range(120)],
            "at": pa.array([10**6 * i for i in range(120)], pa.timestamp("s")),
            "late": pa.nulls(120, pa.float64()),
        }
    )
    stated = {"size": {"out_of_range": "clip"}, "nick": {"how": "characters"}}
    out = tmp_path / "out"
    _, signature = staged(table, store, out, columns=stated, split="stratum")
    best = Trial(number=0, family="linear", parameters={"regularisation": 1.0}, curve=[], seconds=0)
    rows = load_training(out)
    objective = Objective(signature.task, len(signature.classes), "roc_auc", seed=0)
    pipeline = refit.fit(best, out, rows, objective, 1)
    refit.write_bundle(pipeline, rows, signature, out, tmp_path / "bundle")
    made = Bundle.at(tmp_path / "bundle")
    made.prove()
    assert "model.onnx" in made.files and made.signature.ignored == ["late"]
    known, read = schema_of(_stored(made, store), store)
    assert known.rows == 120 and read == signature
    odd = {"size": 1e9, "code": "never", "note": "NEW day, of words!", "late": 3, "more": 1}
    (answer,) = made.predict_rows([odd])
    assert answer["prediction"] in ("no", "yes")


def _stored(made: Bundle, store: DirectoryStore) -> str:
    store_bundle(made, store)
    return made.digest


def test_a_column_empty_in_the_training_part_is_ignored_whatever_is_held_out(
    store: DirectoryStore, tmp_path: Path
) -> None:
    late = pa.array([None] * 100 + [1.5, 2.5] * 10)
    table = pa.table({"y": WORDS, "size": SIZES, "late": late, "at": np.arange(120)})
    _, signature = staged(table, store, tmp_path / "out", split="time", split_column="at")
    assert (signature.names, signature.ignored) == (["size", "at"], ["late"])


def test_what_is_learned_is_the_same_whatever_the_held_out_rows_hold(
    store: DirectoryStore, tmp_path: Path
) -> None:
    def learned(wild: float, code: str, out: Path) -> list[bytes]:
        table = pa.table(
            {
                "y": WORDS,
                "size": [*SIZES[:96], *[wild] * 24],
                "code": ["a", "b"] * 48 + [code] * 24,
                "at": np.arange(120),
            }
        )
        staged(table, store, out, split="time", split_column="at")
        names = ["recipe.json", "signature.json", "reference.json", "fit_x.npy", "train.parquet"]
        return [(out / name).read_bytes() for name in names]

    assert learned(1.0, "a", tmp_path / "one") == learned(9e9, "never seen", tmp_path / "two")


def test_rows_that_both_parts_share_are_counted_or_left_out(
    store: DirectoryStore, tmp_path: Path
) -> None:
    twice = [*range(60), *range(60)]
    table = pa.table({"y": [WORDS[i] for i in twice], "size": SIZES[twice], "id": np.arange(120)})

    def split(severity: object) -> Split:
        done, _ = staged(table, store, tmp_path / "o", exclude=["id"], shared_rows=severity)
        return done

    soft, hard, off = (split(severity) for severity in ("soft", "hard", False))
    assert soft.train_rows == off.train_rows == 96 and off.shared_rows == 0
    assert 0 < soft.shared_rows == hard.shared_rows == soft.train_rows - hard.train_rows
    alone = staged(table, store, tmp_path / "o")[0]  # every id is another
    assert alone.shared_rows == 0


def test_every_row_of_training_held_out_too_is_said(store: DirectoryStore, tmp_path: Path) -> None:
    table = pa.table({"y": ["a", "b"] * 60, "size": [1.0, 2.0] * 60})
    with pytest.raises(DataError, match="every row to learn from is held out too"):
        staged(table, store, tmp_path / "out", shared_rows="hard")


def test_a_class_of_one_row_breaks_no_split(store: DirectoryStore, tmp_path: Path) -> None:
    table = pa.table({"y": ["alone", *WORDS[1:]], "size": SIZES})
    split, signature = staged(table, store, tmp_path / "out", split="stratum")
    assert signature.classes == ["a", "alone", "b", "c"]
    assert split.test_rows == 24


def test_rows_to_learn_from_that_hold_one_class_are_refused_and_leave_nothing(
    store: DirectoryStore, tmp_path: Path
) -> None:
    words = r"^the rows to learn from hold one class only of 'y' \(no\): choose another split"
    with pytest.raises(DataError, match=words):
        prepared(["no"] * 96 + ["yes"] * 24, store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
