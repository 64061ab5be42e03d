"""Choose a model's features, and how each becomes numbers."""

from treadle.errors import DataError, SpecError, nearest
from treadle.kinds import infer_task, is_identifier
from treadle.records import (
    ColumnProfile,
    Feature,
    How,
    Kind,
    Profile,
    Recipe,
    Signature,
    Task,
)
from treadle.spec import Preprocessing
from treadle.transformers import YEAR_S


def choose_features(
    profile: Profile, target: str, task: Task | None, options: Preprocessing, classes: list[str]
) -> Signature:
    """Return the signature: every column but the target, the excluded and the useless ones.

    ``classes`` are the target's values in the training rows. Raises DataError where no feature is
    left or an excluded column doesn't exist.
    """
    names = [column.name for column in profile.columns]
    for name in options.exclude:
        if name not in names:
            raise DataError(
                f"preprocessing.exclude: there is no column {name!r}{nearest(name, names)}"
            )
    found = profile.column(target)
    if found is None:
        raise DataError(f"there is no column {target!r}{nearest(target, names)}")
    task = task or infer_task(found)
    _check_task(task, found, classes)
    useful = [c for c in profile.columns if c.name != target and c.name not in options.exclude]
    ignored = [c.name for c in useful if _is_useless(c)]
    features = [
        Feature(name=c.name, kind=c.kind, nullable=c.nulls > 0)
        for c in useful
        if c.name not in ignored
    ]
    if not features:
        raise DataError(f"no column is left to predict {target!r} from (of {', '.join(names)})")
    labels = classes if task.is_classification else []
    return Signature(task=task, target=target, features=features, classes=labels, ignored=ignored)


def _check_task(task: Task, target: ColumnProfile, classes: list[str]) -> None:
    """Refuse a task that the target doesn't fit."""
    name = target.name
    if task is Task.REGRESSION:
        if target.kind is not Kind.NUMBER:
            raise SpecError(f"task: regression needs numbers, and {name!r} is a {target.kind}")
        return
    if target.kind is Kind.NUMBER and not target.whole:
        raise SpecError(
            f"task: {task} needs classes, and {name!r} holds fractions: say regression, or "
            f"kind: category for {name!r} in validation.columns"
        )
    if len(classes) < 2:
        raise DataError(
            f"the rows to learn from hold one class only of {name!r} ({', '.join(classes)}): "
            "choose another split"
        )
    if task is Task.BINARY and len(classes) > 2:
        raise SpecError(f"task: binary, but {name!r} has {len(classes)} classes: say multiclass")


def _is_useless(column: ColumnProfile) -> bool:
    return column.distinct <= 1 or is_identifier(column)


def plan_transformer(
    signature: Signature, profile: Profile, options: Preprocessing, seed: int
) -> Recipe:
    """Return how each feature becomes numbers: categories one-hot up to ``onehot_up_to`` values and
    target-encoded beyond; times with the season only where the rows span more than a year: within
    one year it would say which day it was, and a model would learn that day's luck."""
    features = {}
    for feature in signature.features:
        column = profile.column(feature.name)
        match feature.kind:
            case Kind.CATEGORY:
                few = column is not None and column.distinct <= options.onehot_up_to
                how = How.ONE_HOT if few else How.TARGET_ENCODED
            case Kind.TIME:
                how = How.SEASONAL_TIME if spans_years(column) else How.TIME
            case _:
                how = How.NUMBER
        features[feature.name] = how
    return Recipe(task=signature.task, seed=seed, features=features)


def spans_years(column: ColumnProfile | None) -> bool:
    """Say whether a column of times spans more than a year."""
    if column is None or column.minimum is None or column.maximum is None:
        return False
    return column.maximum - column.minimum > YEAR_S
