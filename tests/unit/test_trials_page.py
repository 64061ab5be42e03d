"""The trials, as the report shows them."""

import numpy as np

from treadle.analysis import trials
from treadle.records import Training, Trial


def training(count: int) -> Training:
    random = np.random.default_rng(0)
    made = [
        Trial(
            number=i,
            family="forest" if i % 4 else "linear",
            parameters=(
                {"max_leaf_nodes": int(2 ** random.integers(4, 11)), "max_features": 0.5,
                 "kind": ["a", "b"][i % 2]}
                if i % 4
                else {"regularisation": float(random.uniform())}
            ),
            curve=[(1, float(random.uniform())), (9, float(random.uniform()) + 1)],
            seconds=0.1,
        )
        for i in range(count)
    ]  # fmt: skip
    best = max((t for t in made if t.family == "forest"), key=lambda t: t.score or 0)
    return Training(
        metric="r2", higher_is_better=True, trials=made, best=best, search_seconds=1,
        refit_seconds=1, fit_rows=10,
    )  # fmt: skip


def test_parallel_coordinates_have_an_axis_for_each_parameter_that_differs() -> None:
    picture = trials.parameters(training(16))
    assert picture.startswith("<figure id=")
    assert "max_leaf_nodes" in picture
    assert "rank by r2" in picture
    assert ">kind<" in picture
    assert "max_features" not in picture, "every candidate had the same"
    assert "regularisation" not in picture, "another family's"


def test_two_candidates_are_not_worth_a_picture() -> None:
    assert trials.parameters(training(3)) == ""
