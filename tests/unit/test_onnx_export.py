"""The exported graph answers as scikit-learn does, row by row, also for what it never saw."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pyarrow.parquet as pq
import pytest
import skops.io as sio
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from treadle.bundle import OnnxModel, SkopsModel
from treadle.encoding import NULL_CATEGORY, feeds
from treadle.kinds import kinds_of
from treadle.preprocessing.features import how_encoded, plan_transformer
from treadle.profile import profile
from treadle.records import (
    ColumnProfile,
    Feature,
    How,
    Kind,
    Nulls,
    OutOfRange,
    Parameter,
    Profile,
    Signature,
    Task,
    Tokens,
    Unseen,
)
from treadle.signature import arrays, encode_frame
from treadle.spec import ColumnTreatment, Family, Preprocessing
from treadle.training.families import Objective, build
from treadle.training.onnx_export import estimator_graph, export, export_transformer
from treadle.transformers import YEAR_S, TimeParts, build_transformer

# skl2onnx 1.20 gives protobuf booleans where it asks for integers.
pytestmark = pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto:DeprecationWarning")

quick = settings(deadline=None, max_examples=40)
ROWS = 400
NAMES = {"size": "size", "open": "open", "few": "few", "many": "many", "at": "at"}
TOKENS = {How.WORDS: Tokens.WORDS, How.CHARACTERS: Tokens.CHARACTERS}
PARAMETERS: dict[Family, dict[str, Parameter]] = {
    Family.LINEAR: {"regularisation": 1.0},
    Family.HIST_GRADIENT_BOOSTING: {"learning_rate": 0.1, "max_leaf_nodes": 15},
    Family.FOREST: {"max_leaf_nodes": 256, "min_samples_leaf": 4, "max_features": 0.5},
    Family.MLP: {"width": 16, "depth": 2, "learning_rate": 1e-3, "regularisation": 1e-4},
    Family.LIGHTGBM: {"learning_rate": 0.1, "num_leaves": 15},
    Family.XGBOOST: {"learning_rate": 0.1, "max_depth": 4},
}
# Of neighbours that are equally near, as many are in a table of categories, the graph may take
# others; such a model is served by scikit-learn.
EQUAL = [family for family in Family if family is not Family.NEIGHBOURS]
CLASSES = {Task.REGRESSION: [], Task.BINARY: ["no", "yes"], Task.MULTICLASS: ["a b", "naïve", "9"]}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More threads than cores make boosting a hundred times slower."""
    with threadpool_limits(1):
        yield


def mixed_frame(names: dict[str, str] = NAMES, days: int = 800) -> pd.DataFrame:
    """A table with a column of each kind; a tenth of each is null, and one category is rare."""
    random = np.random.default_rng(0)
    moments = pd.Timestamp("2021-03-05") + pd.to_timedelta(random.uniform(0, days, ROWS), "D")
    columns = {
        "size": random.normal(40, 100, ROWS),
        "open": random.integers(0, 2, ROWS).astype(bool),
        "few": random.choice(["red", "größe", "it's", "rare"], ROWS, p=[0.5, 0.3, 0.19, 0.01]),
        "many": random.choice([f"town {i}" for i in range(30)], ROWS),
        "at": moments,
    }
    kept = {names[key]: pd.Series(values) for key, values in columns.items() if key in names}
    return pd.DataFrame(
        {name: column.mask(random.uniform(size=ROWS) < 0.1) for name, column in kept.items()}
    )


def answers_of(task: Task) -> np.ndarray:
    random = np.random.default_rng(1)
    if task is Task.REGRESSION:
        return random.normal(size=ROWS) * 50
    return random.integers(0, len(CLASSES[task]), ROWS)


def fitted(
    frame: pd.DataFrame,
    task: Task,
    family: Family,
    place: Path,
    options: Preprocessing = Preprocessing(),  # noqa: B008 - it is frozen
) -> tuple[Pipeline, Signature, pd.DataFrame]:
    """The pipeline as training fits it, its signature and the encoded rows."""
    frame.to_parquet(place / "rows.parquet")
    schema = pq.read_schema(place / "rows.parquet")
    kinds = kinds_of(schema.remove_metadata(), {})
    table = profile(place / "rows.parquet", kinds)
    hows = {column.name: how_encoded(column, options) for column in table.columns}
    wanted = Signature(
        task=task,
        target="answer",
        features=[
            Feature(name=name, kind=kind, tokens=TOKENS.get(hows[name]))
            for name, kind in kinds.items()
        ],
        classes=CLASSES[task],
    )
    encoded = encode_frame(pd.read_parquet(place / "rows.parquet"), wanted)
    plan = plan_transformer(wanted, table, options, seed=0)
    objective = Objective(task, len(CLASSES[task]), "auto", seed=0)
    steps = [
        ("transformer", build_transformer(plan)),
        ("estimator", build(family, objective, PARAMETERS[family], 3)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs are meant
        return Pipeline(steps).fit(encoded, answers_of(task)), wanted, encoded


@pytest.mark.parametrize("task", Task)
def test_neighbours_that_are_not_equally_near_are_the_same_in_the_graph(task: Task) -> None:
    random = np.random.default_rng(0)
    rows, others = (random.normal(size=(n, 4)).astype(np.float32) for n in (ROWS, 50))
    objective = Objective(task, len(CLASSES[task]), "auto", seed=0)
    model = build(Family.NEIGHBOURS, objective, {"neighbours": 15}, 9).fit(rows, answers_of(task))
    graph = estimator_graph(model, 4, task.is_classification).SerializeToString()
    session = ort.InferenceSession(graph)
    found = session.run([session.get_outputs()[-1].name], {"X": others})[0]
    known = model.predict_proba(others) if task.is_classification else model.predict(others)
    np.testing.assert_allclose(found.reshape(known.shape), known, atol=1e-4)


def with_odd_rows(encoded: pd.DataFrame, signature: Signature) -> pd.DataFrame:
    """The rows, and for each column in turn some that hold a null or an unseen category there."""
    odd = []
    for feature in signature.features:
        rows = encoded.iloc[:20].copy()
        if feature.kind is Kind.CATEGORY:
            rows[feature.name] = ([NULL_CATEGORY, "never seen", "", "rare"] * 5)[: len(rows)]
        else:
            rows[feature.name] = np.nan
        odd.append(rows.astype(encoded.dtypes))
    return pd.concat([encoded, *odd], ignore_index=True)


def assert_equal_answers(pipeline: Pipeline, signature: Signature, rows: pd.DataFrame) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(export(pipeline, signature), options)
    assert [given.name for given in session.get_inputs()] == signature.names
    names = [output.name for output in session.get_outputs()]
    assert not set(names) & set(signature.names)
    # An output whose name a column has taken is called by it with underscores.
    kinds = [name.rstrip("_") for name in names]
    found = dict(zip(kinds, session.run(None, feeds(arrays(rows))), strict=True))
    if signature.task is Task.REGRESSION:
        assert kinds == ["prediction"]
        assert found["prediction"].dtype == np.float32
        np.testing.assert_allclose(found["prediction"], pipeline.predict(rows), atol=1e-4)
    else:
        assert kinds == ["label", "probabilities"]
        known = pipeline.predict_proba(rows)
        np.testing.assert_allclose(found["probabilities"], known, atol=1e-4)
        labels = [signature.classes[code] for code in pipeline.predict(rows)]
        assert found["label"].tolist() == labels


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("family", EQUAL)
def test_without_times_the_graph_equals_scikit_learn_row_by_row(
    task: Task, family: Family, tmp_path: Path
) -> None:
    names = {key: name for key, name in NAMES.items() if key != "at"}
    pipeline, signature, rows = fitted(mixed_frame(names), task, family, tmp_path)
    assert_equal_answers(pipeline, signature, with_odd_rows(rows, signature))


@pytest.mark.parametrize("days", [90, 800], ids=["within a year", "seasonal"])
@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("family", EQUAL)
def test_with_times_the_graph_equals_scikit_learn_row_by_row(
    task: Task, family: Family, days: int, tmp_path: Path
) -> None:
    pipeline, signature, rows = fitted(mixed_frame(days=days), task, family, tmp_path)
    names = pipeline["transformer"].get_feature_names_out()
    assert ("at_season" in names) == (days > 365)
    assert_equal_answers(pipeline, signature, with_odd_rows(rows, signature))


def test_times_are_the_same_numbers_in_the_graph_where_a_wave_should_be_zero(
    tmp_path: Path,
) -> None:
    """At six in the evening two libraries' cosines are -1.8e-16 and -1.9e-16."""
    pipeline, signature, _ = fitted(
        mixed_frame({"at": "at"}, 800), Task.REGRESSION, Family.HIST_GRADIENT_BOOSTING, tmp_path
    )
    full_hours = pd.DataFrame({"at": 1.35e9 // 86_400 * 86_400 + 900.0 * np.arange(60_000)})
    (tmp_path / "matrix.onnx").write_bytes(export_transformer(pipeline["transformer"], signature))
    found = OnnxModel(tmp_path / "matrix.onnx").output(arrays(full_hours))
    known = pipeline["transformer"].transform(full_hours)
    np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("family", [Family.FOREST, Family.HIST_GRADIENT_BOOSTING, Family.LINEAR])
def test_a_lean_session_answers_to_the_bit_as_any_other(family: Family, tmp_path: Path) -> None:
    pipeline, signature, rows = fitted(mixed_frame(), Task.MULTICLASS, family, tmp_path)
    (tmp_path / "model.onnx").write_bytes(export(pipeline, signature))
    asked = arrays(with_odd_rows(rows, signature))
    usual, lean = (OnnxModel(tmp_path / "model.onnx", lean=lean) for lean in (False, True))
    np.testing.assert_array_equal(lean.output(asked), usual.output(asked))


@pytest.mark.parametrize("kind", ["size", "open", "few", "many", "at"])
def test_a_single_column_of_any_kind_is_enough(kind: str, tmp_path: Path) -> None:
    frame = mixed_frame({kind: kind})
    pipeline, signature, rows = fitted(frame, Task.MULTICLASS, Family.LINEAR, tmp_path)
    assert_equal_answers(pipeline, signature, with_odd_rows(rows, signature))


@pytest.mark.parametrize("task", Task)
def test_odd_names_of_columns_are_inputs_as_they_are(task: Task, tmp_path: Path) -> None:
    odd = ["the size, in m²", 'open "now"?', "名前", "a.b/c's", "größe\\n"]
    names = dict(zip(NAMES, odd, strict=True))
    pipeline, signature, rows = fitted(mixed_frame(names), task, Family.LINEAR, tmp_path)
    assert_equal_answers(pipeline, signature, rows)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *[(Task.REGRESSION, "prediction"), (Task.BINARY, "label"), (Task.BINARY, "probabilities")],
        *[(Task.BINARY, "variable"), (Task.REGRESSION, "treadle/Concat_0")],
    ],
)
def test_a_column_may_be_called_as_something_within_the_graph(
    task: Task, name: str, tmp_path: Path
) -> None:
    frame = mixed_frame(NAMES | {"size": name})
    pipeline, signature, rows = fitted(frame, task, Family.LINEAR, tmp_path)
    assert_equal_answers(pipeline, signature, rows)
    (tmp_path / "model.onnx").write_bytes(export(pipeline, signature))
    found = OnnxModel(tmp_path / "model.onnx", threads=2).output(arrays(rows))
    known = pipeline.predict_proba if task.is_classification else pipeline.predict
    np.testing.assert_allclose(found, known(rows), atol=1e-4)


@pytest.mark.parametrize("family", [Family.FOREST, Family.HIST_GRADIENT_BOOSTING])
def test_numbers_next_to_each_other_in_float32_are_told_apart(
    family: Family, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"account": 1_600_000_000 + 128 * (np.arange(ROWS) % 40)})
    pipeline, signature, rows = fitted(frame, Task.REGRESSION, family, tmp_path)
    assert_equal_answers(pipeline, signature, rows)


# What becomes of odd values, and texts


def treated(**columns: ColumnTreatment) -> Preprocessing:
    return Preprocessing(columns=columns)


NUMBER_NULLS = [Nulls.MEDIAN, Nulls.MEAN, Nulls.ZERO, Nulls.COMMONEST]


@pytest.mark.parametrize("nulls", NUMBER_NULLS)
@pytest.mark.parametrize("out_of_range", OutOfRange)
def test_the_graph_treats_odd_numbers_as_scikit_learn_does(
    nulls: Nulls, out_of_range: OutOfRange, tmp_path: Path
) -> None:
    options = treated(size=ColumnTreatment(nulls=nulls, out_of_range=out_of_range))
    frame = mixed_frame({"size": "size", "open": "open", "few": "few"})
    made = fitted(frame, Task.REGRESSION, Family.HIST_GRADIENT_BOOSTING, tmp_path, options)
    pipeline, signature, rows = made
    wild = rows.iloc[:4].assign(size=np.array([1e9, -1e9, np.inf, np.nan], dtype=np.float32))
    assert_equal_answers(pipeline, signature, pd.concat([rows, wild], ignore_index=True))


@pytest.mark.parametrize("nulls", [Nulls.OWN, Nulls.COMMONEST])
@pytest.mark.parametrize("unseen", Unseen)
@pytest.mark.parametrize("how", [How.ONE_HOT, How.TARGET_ENCODED])
def test_the_graph_treats_odd_categories_as_scikit_learn_does(
    nulls: Nulls, unseen: Unseen, how: How, tmp_path: Path
) -> None:
    treatment = ColumnTreatment(how=how, nulls=nulls, unseen=unseen, rare_rows=20)
    frame = mixed_frame({"few": "few", "many": "many"})
    options = treated(few=treatment, many=treatment)
    for task in (Task.BINARY, Task.MULTICLASS):
        pipeline, signature, rows = fitted(frame, task, Family.FOREST, tmp_path, options)
        assert_equal_answers(pipeline, signature, with_odd_rows(rows, signature))


WORDS = ["red", "Größe", "train", "to", "the", "station", "12", "naïve", "it's"]


def texts(count: int = ROWS) -> list[str | None]:
    random = np.random.default_rng(3)
    drawn = [" ".join(random.choice(WORDS, random.integers(0, 9))) for _ in range(count - 4)]
    return [*drawn, None, "", "?!", "  , "]


@pytest.mark.parametrize("how", [How.WORDS, How.CHARACTERS])
@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("family", EQUAL)
def test_texts_are_weighed_in_the_graph_as_in_scikit_learn(
    how: How, task: Task, family: Family, tmp_path: Path
) -> None:
    frame = mixed_frame({"size": "size"}).assign(note=texts())
    options = treated(note=ColumnTreatment(how=how))
    pipeline, signature, rows = fitted(frame, task, family, tmp_path, options)
    odd = rows.iloc[:3].assign(note=["", NULL_CATEGORY, "never seen before"])
    assert_equal_answers(pipeline, signature, pd.concat([rows, odd], ignore_index=True))
    for lonely in (0, 1, 2):  # a request of one row, without a token too
        assert_equal_answers(pipeline, signature, odd.iloc[[lonely]])


@pytest.mark.parametrize("how", [How.WORDS, How.CHARACTERS])
def test_a_text_without_a_term_in_training_is_no_fault(how: How, tmp_path: Path) -> None:
    frame = mixed_frame({"size": "size"}).assign(note=["!", "a"[:0], None, "?"] * (ROWS // 4))
    options = treated(note=ColumnTreatment(how=how))
    made = fitted(frame, Task.REGRESSION, Family.LINEAR, tmp_path, options)
    pipeline, signature, rows = made
    odd = rows.iloc[:3].assign(note=["a b c d", NULL_CATEGORY, "none"])
    assert_equal_answers(pipeline, signature, pd.concat([rows, odd], ignore_index=True))


def test_a_bundle_in_skops_holds_every_part(tmp_path: Path) -> None:
    frame = mixed_frame().assign(note=texts())
    options = treated(size=ColumnTreatment(out_of_range=OutOfRange.CLIP))
    pipeline, signature, rows = fitted(frame, Task.BINARY, Family.LINEAR, tmp_path, options)
    assert {f.name: f.tokens for f in signature.features}["note"] is Tokens.WORDS
    sio.dump(pipeline, tmp_path / "model.skops")
    found = SkopsModel(tmp_path / "model.skops", signature).output(arrays(rows))
    np.testing.assert_allclose(found, pipeline.predict_proba(rows))


@quick
@given(st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=8), st.sampled_from(Tokens))
def test_any_text_is_weighed_alike(drawn: list[str | None], tokens: Tokens) -> None:
    how = How.WORDS if tokens is Tokens.WORDS else How.CHARACTERS
    feature = Feature(name="note", kind=Kind.CATEGORY, tokens=tokens)
    signature = Signature(task=Task.REGRESSION, target="answer", features=[feature])
    options = treated(note=ColumnTreatment(how=how))
    column = ColumnProfile(name="note", kind=Kind.CATEGORY, rows=9, nulls=0, distinct=9)
    table = Profile(rows=9, columns=[column])
    steps = [
        ("transformer", build_transformer(plan_transformer(signature, table, options, 0))),
        ("estimator", Ridge()),
    ]
    rows = encode_frame(pd.DataFrame({"note": [*drawn, "a few words", "more words"]}), signature)
    pipeline = Pipeline(steps).fit(rows, np.arange(len(rows), dtype=float))
    assert_equal_answers(pipeline, signature, rows)
    assert_equal_answers(pipeline, signature, rows.iloc[:1])


def test_the_same_pipeline_gives_the_same_bytes(tmp_path: Path) -> None:
    pipeline, signature, _ = fitted(mixed_frame(), Task.BINARY, Family.FOREST, tmp_path)
    assert export(pipeline, signature) == export(pipeline, signature)


# TimeParts


@settings(deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_the_parts_of_a_time_are_pandas_hour_and_day_of_the_week(moment: datetime) -> None:
    stamp = pd.Timestamp(moment)
    parts = TimeParts(seasonal=True).fit_transform([[moment.timestamp()]])
    hour, weekday, sine, cosine, null, season, year_sine, year_cosine = parts[0].tolist()
    passed = (stamp - stamp.normalize()).total_seconds()
    assert hour == pytest.approx(passed / 3600, abs=1e-4)
    assert weekday == pytest.approx(stamp.day_of_week + passed / 86400, abs=1e-4)
    assert null == 0
    assert season == pytest.approx(moment.timestamp() / YEAR_S % 1, abs=1e-6)
    for part, phase in [
        *[(sine, np.sin(passed / 86400 * 2 * np.pi)), (cosine, np.cos(passed / 86400 * 2 * np.pi))],
        *[(year_sine, np.sin(season * 2 * np.pi)), (year_cosine, np.cos(season * 2 * np.pi))],
    ]:
        assert part == pytest.approx(phase, abs=1e-5)


def test_a_monday_at_midnight_begins_the_week_and_a_null_says_so() -> None:
    monday = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    parts = TimeParts(seasonal=False).fit_transform([[monday], [np.nan]])
    assert parts.tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert parts.dtype == np.float32


@pytest.mark.parametrize("seasonal", [True, False])
def test_every_part_of_a_time_has_a_name(seasonal: bool) -> None:
    step = TimeParts(seasonal=seasonal).fit([[0.0]])
    assert len(step.get_feature_names_out(["at"])) == step.transform([[0.0]]).shape[1]
    assert step.get_feature_names_out(["at"])[0] == "at_hour"
