"""The decision: evidence in, a verdict with reasons out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from treadle import metrics
from treadle.feedback import decision, estimate
from treadle.feedback_spec import Feedback
from treadle.monitoring import (
    Against,
    Estimate,
    Evidence,
    LogState,
    Skew,
    State,
    Step,
    Usual,
    Verdict,
)
from treadle.records import ColumnDrift, Metric, Task
from treadle.spec import MetricName

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
OPTIONS = Feedback()
MOVED = ColumnDrift(
    column="x", distance=0.4, significant=True, words="above 3: 1 % before, 9 % now"
)


def seen(**told: Any) -> Evidence:
    plain: dict[str, Any] = {"model": "m", "version": 2, "digest": "d", "window": "all rows",
                             "rows": 1_000, "columns": []}  # fmt: skip
    return Evidence(**(plain | told))


def rmse(value: float, spread: float = 0.01) -> Metric:
    return Metric(name="rmse", value=value, low=value - spread, high=value + spread,
                  higher_is_better=False)  # fmt: skip


def auc(value: float, spread: float = 0.01) -> Metric:
    return Metric(name="roc_auc", value=value, low=value - spread, high=value + spread,
                  higher_is_better=True)  # fmt: skip


def step(distance: float, usual: float = 0.05, **told: Any) -> Step:
    plain: dict[str, Any] = {"nulls": (0.0, 0.0), "words": "below 3: 1 % before, 90 % now"}
    return Step(column="x", distance=distance, usual=Usual(distance=usual), **(plain | told))


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ({}, Verdict.HEALTHY, "no column moved far enough to matter"),
        ({"columns": [MOVED]}, Verdict.WATCH, "there are no labels to measure it by"),
        ({"columns": [MOVED.model_copy(update={"distance": 0.15})]}, Verdict.WATCH, "x moved by"),
        ({"columns": [MOVED.model_copy(update={"significant": False})]}, Verdict.HEALTHY, "no col"),
        ({"metric": rmse(1.0), "reference": rmse(1.0)}, Verdict.HEALTHY, "rmse is 1"),
        ({"metric": rmse(1.0), "reference": rmse(1.0), "columns": [MOVED]}, Verdict.WATCH, "not"),
        ({"metric": rmse(1.2), "reference": rmse(1.0)}, Verdict.RETRAIN, "worse by more than 10%"),
        ({"metric": rmse(1.2, 0.2), "reference": rmse(1.0)}, Verdict.HEALTHY, "not worse by 10%"),
        ({"metric": rmse(1.2), "reference": rmse(1.0, 0.2)}, Verdict.HEALTHY, "not worse by 10%"),
        ({"metric": rmse(0.5), "reference": rmse(1.0)}, Verdict.HEALTHY, "not worse"),
        ({"metric": auc(0.7), "reference": auc(0.8)}, Verdict.RETRAIN, "roc_auc is 0.7"),
        ({"metric": auc(0.9), "reference": auc(0.8)}, Verdict.HEALTHY, "roc_auc is 0.9"),
        ({"steps": [step(0.3)]}, Verdict.INCIDENT, "x jumped by 0.30 (by 0.05 at most in"),
        ({"steps": [step(0.2)]}, Verdict.HEALTHY, "no column"),
        ({"steps": [step(0.5, usual=0.4)]}, Verdict.HEALTHY, "no column"),
        ({"steps": [step(0.3, nulls=(0.1, 0.5))]}, Verdict.INCIDENT, "50% of its values are null"),
        ({"steps": [step(0.3, unseen=0.2)]}, Verdict.INCIDENT, "20% of its values are none that"),
        ({"steps": [step(0.1, unseen=0.2)]}, Verdict.INCIDENT, "20% of its values are none that"),
        ({"steps": [step(0.1, usual=0.9, nulls=(0.1, 0.3))]}, Verdict.INCIDENT, "30% of its"),
        ({"steps": [step(0.1, usual=0.9, shift=4.0)]}, Verdict.INCIDENT, "moved by 4.0 spreads"),
        ({"steps": [step(0.9)], "metric": rmse(9), "reference": rmse(1)}, Verdict.INCIDENT, "mend"),
        ({"skew": Skew(rows=100, largest_difference=0.5, passed=False)}, Verdict.INCIDENT, "serv"),
        ({"against": Against(version=1, rows=900, gain=-0.2, low=-0.3, high=-0.1)},
         Verdict.ROLL_BACK, "version 1, the champion before, would be 20.0% better"),
        ({"against": Against(version=1, rows=900, gain=-0.2, low=-0.5, high=0.1)},
         Verdict.HEALTHY, "no column"),
        ({"against": Against(version=1, rows=900, gain=-0.2, low=-0.3, high=-0.1),
          "metric": rmse(9), "reference": rmse(1)}, Verdict.ROLL_BACK, "version 1"),
        ({"estimate": Estimate(metric=auc(0.6), reference=auc(0.8))}, Verdict.WATCH, "send labels"),
        ({"estimate": Estimate(metric=auc(0.8), reference=auc(0.8)), "columns": [MOVED]},
         Verdict.WATCH, "without labels, roc_auc is 0.8"),
        ({"estimate": Estimate(metric=auc(0.6), reference=auc(0.8)), "metric": auc(0.8),
          "reference": auc(0.8)}, Verdict.HEALTHY, "not worse"),
        ({"log": LogState(unreadable=["a"], repeated=3)},
         Verdict.HEALTHY, "1 file of the log or of labels left out"),
    ],
)  # fmt: skip
def test_what_is_decided(told: dict[str, Any], verdict: Verdict, words: str) -> None:
    found = decision.decide(seen(**told), OPTIONS)
    assert (found.verdict, words in "; ".join(found.reasons)) == (verdict, True), found.reasons


def test_a_source_that_brings_answers_is_learned_from_without_labels() -> None:
    options = Feedback(learn_from="source")
    assert decision.decide(seen(columns=[MOVED]), options).verdict is Verdict.RETRAIN


def test_many_models_that_one_column_moves_at_once_are_a_storm() -> None:
    worse = {"metric": rmse(2), "reference": rmse(1)}
    struck = [decision.decide(seen(columns=[MOVED], **worse), OPTIONS) for _ in range(4)]
    well = [decision.decide(seen(), OPTIONS) for _ in range(6)]
    assert decision.storm([*struck, *well], share=0.3) == "x"
    assert decision.storm([*struck, *well], share=0.5) is None
    assert decision.storm(struck[:2], share=0.3) is None
    alone = decision.decide(seen(columns=[MOVED.model_copy(update={"column": "y"})], **worse),
                            OPTIONS)  # fmt: skip
    assert decision.storm([*struck[:2], alone], share=0.3) is None
    calm = decision.calmed(struck[0], "x", 4)
    assert calm.verdict is Verdict.INCIDENT
    assert calm.reasons[0].startswith("4 models would be retrained at once, and x moved in all")


@pytest.mark.parametrize(
    ("state", "options", "words"),
    [
        (State(), {}, None),
        (State(begun=[NOW - timedelta(hours=23)]), {}, "cool-down: the last retraining was at"),
        (State(begun=[NOW - timedelta(hours=25)]), {}, None),
        (State(begun=[NOW - timedelta(hours=25)], ended=[NOW - timedelta(hours=1)]), {}, "cool-"),
        (
            State(begun=[NOW - timedelta(days=d) for d in (2, 3, 4)]),
            {},
            "3 retrainings in the last",
        ),
        (State(begun=[NOW - timedelta(days=d) for d in (2, 3, 9)]), {}, None),
        (State(), {"retrains_a_week": 0}, "0 retrainings"),
        (State(), {"quiet_hours": "8-18"}, "quiet hours (8-18 UTC"),
        (State(), {"quiet_hours": "18-13"}, "quiet hours"),
        (State(), {"quiet_hours": "13-18"}, None),
    ],
)
def test_a_retraining_waits_by_the_spec(
    state: State, options: dict[str, Any], words: str | None
) -> None:
    found = decision.hindrance(state, Feedback(**options), NOW)
    assert (found is None) if words is None else (found is not None and words in found)


def test_an_interval_over_blocks_is_wider_where_neighbours_are_alike() -> None:
    random = np.random.default_rng(0)
    apart = random.normal(0, 1, 4_000)
    alike = np.repeat(random.normal(0, 1, 40), 100)
    rmse_ = metrics.measure(Task.REGRESSION, MetricName.RMSE)
    nothing = np.zeros(4_000)
    widths = [found.high - found.low for errors in (apart, alike)
              if (found := metrics.with_block_interval(rmse_, nothing, errors))]  # fmt: skip
    assert widths[1] > 3 * widths[0]


def test_a_block_interval_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    mae = metrics.measure(Task.REGRESSION, MetricName.MAE)
    truth = np.sqrt(2 / np.pi)
    held = 0
    for _ in range(200):
        found = metrics.with_block_interval(mae, np.zeros(400), random.normal(0, 1, 400))
        held += found.low <= truth <= found.high
    assert 180 <= held <= 199


@pytest.mark.parametrize("name", [MetricName.ACCURACY, MetricName.LOG_LOSS, MetricName.ROC_AUC])
def test_the_estimate_without_labels_is_what_labels_show(name: MetricName) -> None:
    random = np.random.default_rng(2)
    positive = random.beta(0.7, 0.9, 20_000)
    output = np.column_stack([1 - positive, positive])
    answers = (random.random(20_000) < positive).astype(np.int64)
    found = estimate.estimated(Task.BINARY, name, output)
    assert found is not None
    assert found.value == pytest.approx(metrics.measure(Task.BINARY, name).of(answers, output),
                                        abs=0.01)  # fmt: skip
    assert estimate.miscalibration(answers, output) < 0.02


def test_overconfident_probabilities_are_not_calibrated() -> None:
    random = np.random.default_rng(3)
    positive = random.uniform(0, 1, 5_000)
    answers = (random.random(5_000) < 0.5 + (positive - 0.5) / 3).astype(np.int64)
    output = np.column_stack([1 - positive, positive])
    assert estimate.miscalibration(answers, output) > estimate.MOST_MISCALIBRATED
    assert estimate.estimated(Task.REGRESSION, MetricName.RMSE, positive) is None
