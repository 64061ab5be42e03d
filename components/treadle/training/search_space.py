"""What there is to search: each family's space, and the point in it that is tried first."""

from collections.abc import Mapping
from dataclasses import dataclass

from treadle.errors import SpecError
from treadle.records import Parameter
from treadle.search import Choice, Dimension, Range
from treadle.spec import Family, Interval, Narrowed


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
    Family.MLP: Space(
        {
            "width": Range(16, 128, log=True, whole=True),
            "depth": Choice((1, 2)),
            "learning_rate": Range(3e-4, 1e-2, log=True),
            "regularisation": Range(1e-5, 1e-1, log=True),
        },
        {"width": 64, "depth": 2, "learning_rate": 1e-3, "regularisation": 1e-4},
    ),
    # Each counts the same: ONNX weighs by distance in another way where that is 0.
    Family.NEIGHBOURS: Space(
        {"neighbours": Range(3, 100, log=True, whole=True)},
        {"neighbours": 15},
    ),
    Family.LIGHTGBM: Space(
        {
            "learning_rate": Range(0.03, 0.3, log=True),
            "num_leaves": Range(8, 128, log=True, whole=True),
            "min_child_samples": Range(5, 200, log=True, whole=True),
            "reg_lambda": Range(1e-3, 10, log=True),
        },
        {"learning_rate": 0.1, "num_leaves": 31, "min_child_samples": 20, "reg_lambda": 0.01},
    ),
    Family.XGBOOST: Space(
        {
            "learning_rate": Range(0.03, 0.3, log=True),
            "max_depth": Range(3, 10, whole=True),
            "min_child_weight": Range(1, 100, log=True),
            "reg_lambda": Range(1e-3, 10, log=True),
        },
        {"learning_rate": 0.1, "max_depth": 6, "min_child_weight": 1.0, "reg_lambda": 1.0},
    ),
}


def space_of(family: Family, narrowed: Mapping[str, Narrowed]) -> Space:
    """Return a family's space, narrowed. Raises SpecError for what lies outside it."""
    whole = SPACES[family]
    dimensions = dict(whole.dimensions)
    first = dict(whole.first)
    for name, wanted in narrowed.items():
        where = f"training.spaces.{family}.{name}"
        dimensions[name] = _narrow(dimensions[name], wanted, where)
        first[name] = _nearest(first[name], dimensions[name])
    return Space(dimensions, first)


def within(space: Space, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the point of a space that is nearest to some parameters; what they leave out is as in
    its first point."""
    return {
        name: _nearest(parameters.get(name, space.first[name]), dimension)
        for name, dimension in space.dimensions.items()
    }


def _narrow(dimension: Dimension, wanted: Narrowed, where: str) -> Dimension:
    if isinstance(wanted, Interval):
        if isinstance(dimension, Choice):
            known = ", ".join(map(str, dimension.values))
            raise SpecError(f"{where} has no range: name one or several of {known}")
        low, high = wanted.low, wanted.high
        if dimension.log and low <= 0:
            raise SpecError(f"{where}: low must be above 0, and is {low:g}")
        return Range(low, high, dimension.log, dimension.whole)
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values:
        raise SpecError(f"{where} is an empty list: leave it out, or name a value")
    for value in values:
        _check(dimension, value, where)
    return Choice(tuple(values))


def _check(dimension: Dimension, value: Parameter, where: str) -> None:
    """Refuse a value that its parameter can't have."""
    known = dimension.values if isinstance(dimension, Choice) else (dimension.low,)
    if any(isinstance(one, str) for one in known):
        if value not in known:
            raise SpecError(f"{where} can't be {value!r}; it may be {', '.join(map(str, known))}")
    elif isinstance(value, bool | str):
        raise SpecError(f"{where} must be a number, and is {value!r}")
    elif isinstance(dimension, Range) and dimension.whole and value != int(value):
        raise SpecError(f"{where} must be a whole number, and is {value!r}")


def _nearest(value: Parameter, dimension: Dimension) -> Parameter:
    """Return the point of a dimension that is nearest to ``value``."""
    if isinstance(dimension, Range):
        low, high = dimension.low, dimension.high
        inside = min(max(float(value), low), high)
        return int(inside) if dimension.whole else inside
    return value if value in dimension.values else dimension.values[0]
