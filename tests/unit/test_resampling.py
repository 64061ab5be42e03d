"""Resamples are what the bootstrap says they are, and cheap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.metrics import measures, with_intervals
from treadle.records import Task
from treadle.resampling import draws, interval, mean_of, of_rows, resampled


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 40), st.integers(0, 99))
def test_every_resample_draws_as_many_rows_as_there_are(rows: int, rounds: int, seed: int) -> None:
    drawn = np.concatenate(list(draws(rows, rounds, seed)))
    assert drawn.shape == (rounds, rows)
    assert (drawn.sum(axis=1) == rows).all()


def test_blocks_of_resamples_are_small_however_many_rows_there_are() -> None:
    first = next(draws(300_000, 50, 0))
    assert first.nbytes < 30_000_000


def test_a_metric_of_counted_rows_is_that_of_the_rows_repeated() -> None:
    random = np.random.default_rng(0)
    answers = random.integers(0, 2, 60)
    scores = random.integers(0, 8, 60) / 8
    outputs = {
        Task.REGRESSION: random.normal(size=60),
        Task.BINARY: np.column_stack([1 - scores, scores]),
        Task.MULTICLASS: np.column_stack([1 - scores, scores]),
    }
    (counts,) = draws(60, 5, 1)
    for task, output in outputs.items():
        for m in measures(task):
            found = m.weighing(answers, output)(counts)
            repeated = [np.repeat(np.arange(60), drawn.astype(int)) for drawn in counts]
            wanted = [m.of(answers[picked], output[picked]) for picked in repeated]
            assert found == pytest.approx(wanted, rel=1e-9), m.name


def test_all_statistics_of_one_call_see_the_same_resamples() -> None:
    terms = np.random.default_rng(0).normal(size=200)
    one, other = resampled([mean_of(terms), mean_of(terms + 5)], 200, 30, 0)
    assert other - one == pytest.approx(5)


def test_the_spread_of_resamples_is_the_standard_error() -> None:
    terms = np.random.default_rng(0).normal(size=2_000)
    (drawn,) = resampled([mean_of(terms)], 2_000, 600, 0)
    assert drawn.std() == pytest.approx(terms.std() / np.sqrt(2_000), rel=0.1)
    low, high = interval(drawn)
    assert low < of_rows(mean_of(terms), 2_000) < high


def test_resamples_that_leave_a_metric_undefined_are_left_out_of_its_interval() -> None:
    # One positive among five: a third of the resamples has none.
    answers = np.array([1, 0, 0, 0, 0])
    output = np.column_stack([np.zeros(5), np.arange(5)])
    found = with_intervals(measures(Task.BINARY)[:1], answers, output, 200, 0)[0]
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
