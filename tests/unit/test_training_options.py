"""What a spec may ask of training, and what becomes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import mean_pinball_loss
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from treadle import prepared
from treadle.errors import SpecError
from treadle.metrics import SCORERS, measure
from treadle.prepared import TuningData
from treadle.records import Candidate, How, Recipe, Signature, Task
from treadle.search import Choice, Range
from treadle.spec import BOOSTING, PARAMETERS, Family, Interval, TrainingOptions
from treadle.training import candidate, families, train
from treadle.training.families import Objective
from treadle.training.search_space import SPACES, space_of


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More threads than cores make boosting a hundred times slower."""
    with threadpool_limits(1):
        yield


WEIGHING = [family for family in Family if family is not Family.NEIGHBOURS]


def test_the_spec_knows_every_parameter_that_there_is_to_search() -> None:
    assert {f: set(space.dimensions) for f, space in SPACES.items()} == {
        f: set(names) for f, names in PARAMETERS.items()
    }
    assert set(SPACES) == set(families.FAMILIES) == set(Family)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spaces": {"forest": {"max_leaf_node": 64}}}, "forest has no parameter 'max_leaf_node'; "
         "did you mean 'max_leaf_nodes'?"),
        ({"spaces": {"mlp": {"depth": 1}}}, "spaces narrows mlp, which is not one of its families"),
        ({"spaces": {"forest": {"min_samples_leaf": {"low": 9, "high": 3}}}}, "low 9 is not below"),
        ({"metric": "rmsee"}, "there is no metric 'rmsee'; did you mean 'rmse'?"),
        ({"budget_s": 0}, "greater than 0"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"monotonic": {"a": "increasing"}}, "monotonic: linear can't do that; name families among "
         "hist_gradient_boosting, lightgbm, xgboost, forest"),
        ({"quantile": 0.9}, "quantile: linear can't do that"),
        ({"families": ["neighbours"], "sample_weight": "w"}, "sample_weight: neighbours can't do "
         "that; name families among linear, hist_gradient_boosting, forest, mlp, lightgbm, "
         "xgboost"),
        ({"families": ["neighbours"], "balance_classes": True}, "neighbours can't do that"),
        ({"quantile": 1.0}, "less than 1"),
        ({"quantile": 0.9, "families": ["hist_gradient_boosting"], "metric": "mae"},
         "its metric is the pinball loss"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingOptions.model_validate(options)
    assert words in str(refused.value)


def test_a_space_is_narrowed_and_its_first_point_lies_within() -> None:
    space = space_of(
        Family.FOREST,
        {"max_leaf_nodes": Interval(low=64, high=256), "max_features": [0.3, 1.0],
         "min_samples_leaf": 7},
    )  # fmt: skip
    assert space.dimensions["max_leaf_nodes"] == Range(64, 256, log=True, whole=True)
    assert space.dimensions["max_features"] == Choice((0.3, 1.0))
    assert space.dimensions["min_samples_leaf"] == Choice((7,))
    assert space.first == {"max_leaf_nodes": 256, "max_features": 0.3, "min_samples_leaf": 7}


@pytest.mark.parametrize(
    ("family", "narrowed", "words"),
    [
        (Family.FOREST, {"max_leaf_nodes": 7.5}, "must be a whole number, and is 7.5"),
        (Family.FOREST, {"max_leaf_nodes": "many"}, "must be a number, and is 'many'"),
        (Family.FOREST, {"max_features": Interval(low=0.1, high=1)}, "has no range: name one"),
        (Family.FOREST, {"max_features": []}, "is an empty list"),
        (Family.LINEAR, {"regularisation": Interval(low=0, high=1)}, "low must be above 0"),
    ],
)
def test_a_value_outside_of_its_space_is_refused_by_its_place(
    family: Family, narrowed: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=f"training.spaces.{family}.") as refused:
        space_of(family, narrowed)
    assert words in str(refused.value)


@pytest.mark.parametrize(("task", "name"), [(t, n) for t, names in SCORERS.items() for n in names])
def test_every_scorer_of_scikit_learn_scores_better_what_is_better(task: Task, name: str) -> None:
    random = np.random.default_rng(0)
    if task is Task.REGRESSION:
        answers = random.uniform(1, 2, 60)
        good, bad = answers * 1.01, np.roll(answers, 7) + 1
    else:
        classes = 2 if task is Task.BINARY else 3
        answers = np.arange(60) % classes
        good = np.full((60, classes), 0.1)
        good[np.arange(60), answers] = 0.8
        bad = np.roll(good, 1, axis=0)
    found = measure(task, name)
    assert found.name == name
    assert found.score(answers, good) > found.score(answers, bad)


def test_a_scorer_that_is_undefined_is_not_a_number() -> None:
    one_class = np.zeros(5, dtype=int)
    assert np.isnan(measure(Task.MULTICLASS, "roc_auc_ovr").of(one_class, np.full((5, 3), 1 / 3)))


def test_the_pinball_loss_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    answers, output = random.normal(size=50), random.normal(size=50)
    found = measure(Task.REGRESSION, "pinball_0.9")
    expected = mean_pinball_loss(answers, output, alpha=0.9)
    assert found.of(answers, output) == pytest.approx(expected)
    assert not found.higher_is_better


def rows(answers: Any, x: Any, weights: Any = None) -> TuningData:
    x = np.asarray(x, dtype=np.float32).reshape(len(answers), -1)
    return TuningData(x, answers, x, answers, weights)


def grown(family: Family, objective: Objective, data: TuningData) -> Any:
    asked = Candidate(number=0, family=family, parameters=SPACES[family].first)
    return candidate.grow(objective, data, asked, 3, None, 1)[0]


@pytest.mark.parametrize("family", BOOSTING)
def test_a_quantile_lies_above_its_share_of_the_answers(family: Family) -> None:
    random = np.random.default_rng(0)
    x = random.uniform(size=2000)
    data = rows(x + random.exponential(size=2000), x)
    objective = Objective(Task.REGRESSION, 0, "pinball_0.9", 0, quantile=0.9)
    model = grown(family, objective, data)
    assert np.mean(data.fit_y <= model.predict(data.fit_x)) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("family", [*BOOSTING, Family.FOREST])
def test_a_monotonic_prediction_never_turns(family: Family) -> None:
    random = np.random.default_rng(0)
    x = random.uniform(size=600)
    data = rows(x + random.normal(scale=0.5, size=600), x)
    grid = np.linspace(0, 1, 200, dtype=np.float32).reshape(-1, 1)
    free = grown(family, Objective(Task.REGRESSION, 0, "rmse", 0), data)
    bound = grown(family, Objective(Task.REGRESSION, 0, "rmse", 0, monotonic=(1,)), data)
    assert np.diff(free.predict(grid)).min() < -1e-6
    assert np.diff(bound.predict(grid)).min() >= -1e-9


@pytest.mark.parametrize("family", WEIGHING)
def test_balanced_classes_weigh_the_same(family: Family) -> None:
    random = np.random.default_rng(0)
    answers = (np.arange(600) % 10 == 0).astype(np.int64)
    data = rows(answers, random.normal(size=(600, 2)) + answers[:, None] * 0.7)
    plain = grown(family, Objective(Task.BINARY, 2, "roc_auc", 0), data)
    fair = grown(family, Objective(Task.BINARY, 2, "roc_auc", 0, balanced=True), data)
    share = [model.predict_proba(data.fit_x)[:, 1].mean() for model in (plain, fair)]
    assert share[1] > 1.3 * share[0]


@pytest.mark.parametrize("family", WEIGHING)
def test_rows_of_no_weight_teach_nothing(family: Family) -> None:
    random = np.random.default_rng(0)
    x = random.uniform(size=800)
    wrong = np.arange(800) % 2 == 1
    answers = np.where(wrong, 50.0, 2 * x)
    data = rows(answers, x, np.where(wrong, 0.0, 1.0))
    model = grown(family, Objective(Task.REGRESSION, 0, "rmse", 0), data)
    assert float(np.max(model.predict(data.fit_x))) < 10


def prepared_for(task: Task, directory: Path) -> Path:
    Signature(
        task=task, target="y", features=[], classes=[] if task is Task.REGRESSION else ["a", "b"]
    ).write(directory / prepared.SIGNATURE)
    Recipe(task=task, seed=0, features={"n": How.NUMBER, "c": How.ONE_HOT}, treatments={}).write(
        directory / prepared.RECIPE
    )
    for name in ("fit", "tuning"):
        np.save(directory / f"{name}_x.npy", np.zeros((4, 3), dtype=np.float32))
    return directory


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (Task.BINARY, {"quantile": 0.5, "families": ["hist_gradient_boosting"]},
         "pinball_0.5 doesn't fit a binary task"),
        (Task.REGRESSION, {"balance_classes": True}, "a regression has no classes"),
        (Task.REGRESSION, {"metric": "f1"}, "f1 doesn't fit a regression task"),
        (Task.REGRESSION, {"monotonic": {"nn": "increasing"}, "families": ["forest"]},
         "'nn' is no feature of this model; did you mean 'n'?"),
        (Task.REGRESSION, {"monotonic": {"c": "increasing"}, "families": ["forest"]},
         "'c' is no number"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_rows_are_refused(
    task: Task, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as refused:
        train.pose("m", prepared_for(task, tmp_path), TrainingOptions.model_validate(options))
    assert words in str(refused.value)


def test_neighbours_are_for_small_tables(tmp_path: Path) -> None:
    directory = prepared_for(Task.REGRESSION, tmp_path)
    options = TrainingOptions(families=[Family.NEIGHBOURS])
    np.save(directory / "train_y.npy", np.zeros(20_000))
    assert train.pose("m", directory, options)[0].first == [("neighbours", {"neighbours": 15})]
    np.save(directory / "train_y.npy", np.zeros(20_001))
    with pytest.raises(SpecError, match="there are 20,001: it is for 20,000 at most; leave it out"):
        train.pose("m", directory, options)


def test_fewer_rows_than_neighbours_are_all_of_them() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(8, 3)).astype(np.float32), random.normal(size=8)
    objective = Objective(Task.REGRESSION, 0, "rmse", seed=0)
    asked = Candidate(number=0, family="neighbours", parameters={"neighbours": 15})
    data = TuningData(fit_x=x, fit_y=y, tuning_x=x, tuning_y=y)
    grown, _ = candidate.grow(objective, data, asked, 9, None, 1)
    np.testing.assert_allclose(grown.predict(x), y.mean())


def test_the_same_rows_and_options_have_the_same_name(tmp_path: Path) -> None:
    directory = prepared_for(Task.REGRESSION, tmp_path)
    first = train.pose("m", directory, TrainingOptions())[0].name
    assert train.pose("m", directory, TrainingOptions())[0].name == first
    assert train.pose("m", directory, TrainingOptions(seed=1))[0].name != first
    np.save(directory / "fit_x.npy", np.ones((4, 3), dtype=np.float32))
    assert train.pose("m", directory, TrainingOptions())[0].name != first


def test_the_search_starts_from_what_the_champion_is_made_of(tmp_path: Path) -> None:
    directory = prepared_for(Task.REGRESSION, tmp_path)
    options = TrainingOptions(
        families=[Family.LINEAR, Family.FOREST], spaces={Family.FOREST: {"min_samples_leaf": 9}}
    )
    known = Candidate(
        number=0, family="forest", parameters={"max_leaf_nodes": 99, "min_samples_leaf": 2}
    )
    cold = train.pose("m", directory, options)[0]
    warm = train.pose("m", directory, options, known)[0]
    point = {"max_leaf_nodes": 99, "min_samples_leaf": 9, "max_features": 0.5}
    assert warm.first == [("forest", point), *cold.first], "as far as the space reaches"
    assert warm.name != cold.name
    gone = known.model_copy(update={"family": "hist_gradient_boosting"})
    assert train.pose("m", directory, options, gone)[0].first == cold.first
