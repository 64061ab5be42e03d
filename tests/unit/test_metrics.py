"""Metrics equal scikit-learn's, and say nan where there is nothing to measure."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from treadle.errors import SpecError
from treadle.metrics import Vector, measure, measures, with_interval
from treadle.records import Metric, Task
from treadle.spec import MetricName

quick = settings(deadline=None)
VALUES = st.floats(-1e6, 1e6)


def value(task: Task, name: MetricName, answers: Vector, output: Vector) -> float:
    return measure(task, name).of(answers, output)


@quick
@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=50))
def test_regression_metrics_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    answers, output = np.array(pairs).T
    assume(np.ptp(answers) > 1e-3)
    for name, known in [
        (MetricName.RMSE, theirs.root_mean_squared_error),
        (MetricName.MAE, theirs.mean_absolute_error),
        (MetricName.R2, theirs.r2_score),
    ]:
        found = value(Task.REGRESSION, name, answers, output)
        assert found == pytest.approx(known(answers, output), rel=1e-9, abs=1e-12)


# Few distinct scores, so that ties are common.
@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=60))
def test_the_area_under_the_curve_is_scikit_learns_ties_and_all(
    pairs: list[tuple[bool, int]],
) -> None:
    answers, scores = np.array([p[0] for p in pairs], dtype=int), np.array([p[1] for p in pairs])
    assume(0 < answers.sum() < len(answers))
    output = np.column_stack([1 - scores / 10, scores / 10]).astype(np.float32)
    found = value(Task.BINARY, MetricName.ROC_AUC, answers, output)
    assert found == pytest.approx(theirs.roc_auc_score(answers, scores))


@quick
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 999))
def test_log_loss_and_accuracy_are_scikit_learns(classes: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    output = random.dirichlet(np.full(classes, 0.7), rows)
    output = (output + 1e-4) / (1 + classes * 1e-4)
    answers = random.integers(0, classes, rows)
    labels = list(range(classes))
    found = value(Task.MULTICLASS, MetricName.LOG_LOSS, answers, output)
    assert found == pytest.approx(theirs.log_loss(answers, output, labels=labels))
    found = value(Task.MULTICLASS, MetricName.ACCURACY, answers, output)
    assert found == theirs.accuracy_score(answers, output.argmax(axis=1))


def test_a_sure_and_wrong_probability_costs_much_but_not_everything() -> None:
    output = np.array([[1, 0], [0, 1]], dtype=np.float32)
    loss = value(Task.BINARY, MetricName.LOG_LOSS, np.array([1, 1]), output)
    assert loss == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2)


def test_a_metric_is_nan_where_it_is_undefined_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant, ones = np.full(5, 3.0), np.ones(5, dtype=int)
        assert np.isnan(value(Task.REGRESSION, MetricName.R2, constant, np.arange(5.0)))
        halves = np.full((5, 2), 0.5)
        assert np.isnan(value(Task.BINARY, MetricName.ROC_AUC, ones, halves))
        found = with_interval(measure(Task.BINARY, MetricName.AUTO), ones, halves, 20, 0)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_an_undefined_metric_survives_its_json() -> None:
    metric = Metric(name="r2", value=float("nan"), low=0, high=1, higher_is_better=True)
    again = Metric.model_validate_json(metric.model_dump_json())
    assert np.isnan(again.value)


@quick
@given(st.sampled_from(Task), st.integers(0, 999))
def test_the_interval_of_plain_data_holds_the_value_and_repeats_with_its_seed(
    task: Task, seed: int
) -> None:
    random = np.random.default_rng(seed)
    if task is Task.REGRESSION:
        answers: Vector = random.normal(size=200)
        output: Vector = answers + random.normal(size=200) / 2
    else:
        answers = random.integers(0, 2, 200)
        right = 0.5 + 0.4 * (answers - 0.5) + random.uniform(-0.25, 0.25, 200)
        output = np.column_stack([1 - right, right])
    for m in measures(task):
        found = with_interval(m, answers, output, 60, seed)
        assert found.low < found.value < found.high
        assert found.value == m.of(answers, output)
        assert found == with_interval(m, answers, output, 60, seed)


def test_the_interval_narrows_with_the_square_root_of_the_rows() -> None:
    errors = np.random.default_rng(0).normal(size=40_000)
    mae = measure(Task.REGRESSION, MetricName.MAE)
    few, many = (
        with_interval(mae, errors[:rows], np.zeros(rows), 400, 0) for rows in (400, 40_000)
    )
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(10, rel=0.25)


def test_a_higher_score_is_better_for_every_metric() -> None:
    answers = np.array([0, 1, 1, 0])
    good = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]])
    for task in (Task.BINARY, Task.MULTICLASS):
        for m in measures(task):
            assert m.score(answers, good) > m.score(answers, good[:, ::-1])
    for m in measures(Task.REGRESSION):
        assert m.score(answers, answers + 0.1) > m.score(answers, answers + 5.0)


def test_auto_is_the_first_metric_of_each_task() -> None:
    chosen = {task: measure(task, MetricName.AUTO).name for task in Task}
    assert chosen == {
        Task.REGRESSION: MetricName.RMSE,
        Task.BINARY: MetricName.ROC_AUC,
        Task.MULTICLASS: MetricName.LOG_LOSS,
    }


def test_a_metric_that_does_not_fit_the_task_is_refused_with_those_that_do() -> None:
    words = "training.metric: rmse doesn't fit a binary task; these do: roc_auc, log_loss, accuracy"
    with pytest.raises(SpecError, match=f"^{words}, balanced_accuracy, .*, neg_brier_score$"):
        measure(Task.BINARY, MetricName.RMSE)
    with pytest.raises(SpecError, match=r"these do: log_loss, accuracy, .*roc_auc_ovr"):
        measure(Task.MULTICLASS, MetricName.ROC_AUC)
