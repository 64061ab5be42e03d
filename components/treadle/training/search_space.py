"""What there is to search: each family's space, and the point in it that is tried first."""

from dataclasses import dataclass

from treadle.records import Parameter
from treadle.search import Choice, Dimension, Range
from treadle.spec import Family


@dataclass(frozen=True)
class Space:
    """A family's parameters: where to search, and a point that is a good guess for any table."""

    dimensions: dict[str, Dimension]
    first: dict[str, Parameter]


SPACES = {
    Family.LINEAR: Space(
        {"regularisation": Range(1e-3, 1e3, log=True)},
        {"regularisation": 1.0},
    ),
    Family.HIST_GRADIENT_BOOSTING: Space(
        {
            "learning_rate": Range(0.03, 0.3, log=True),
            "max_leaf_nodes": Range(8, 128, log=True, whole=True),
            "min_samples_leaf": Range(5, 200, log=True, whole=True),
            "l2_regularization": Range(1e-3, 10, log=True),
        },
        {
            "learning_rate": 0.1,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 20,
            "l2_regularization": 0.01,
        },
    ),
    Family.FOREST: Space(
        {
            "max_leaf_nodes": Range(64, 2048, log=True, whole=True),
            "min_samples_leaf": Range(2, 64, log=True, whole=True),
            "max_features": Choice((0.3, 0.5, 0.8, 1.0)),
        },
        {"max_leaf_nodes": 1024, "min_samples_leaf": 4, "max_features": 0.5},
    ),
}
