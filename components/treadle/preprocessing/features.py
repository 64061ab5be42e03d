"""Choose a model's features, and how each becomes numbers."""

from treadle.errors import DataError, SpecError, nearest
from treadle.kinds import infer_task, is_identifier, is_text
from treadle.records import (
    ColumnProfile,
    Feature,
    How,
    Kind,
    Nulls,
    OutOfRange,
    Profile,
    Recipe,
    Signature,
    Task,
    Tokens,
    Treatment,
)
from treadle.spec import ColumnTreatment, Preprocessing
from treadle.transformers import YEAR_S

_HOWS = {
    Kind.NUMBER: {How.NUMBER},
    Kind.BOOLEAN: {How.NUMBER},
    Kind.CATEGORY: {How.ONE_HOT, How.TARGET_ENCODED, How.WORDS, How.CHARACTERS},
    Kind.TIME: {How.TIME, How.SEASONAL_TIME},
}
_NUMBER_NULLS = {Nulls.MEDIAN, Nulls.MEAN, Nulls.ZERO, Nulls.COMMONEST}
_CATEGORY_NULLS = {Nulls.OWN, Nulls.COMMONEST}
_TOKENS = {How.WORDS: Tokens.WORDS, How.CHARACTERS: Tokens.CHARACTERS}


def choose_features(
    profile: Profile, target: str, task: Task | None, options: Preprocessing, classes: list[str]
) -> Signature:
    """Return the signature: every column but the target, the excluded and the useless ones.

    ``profile`` is that of the training rows, ``classes`` are the target's values in them. Columns
    without a value there stay in the signature as ignored. Raises DataError where no feature is
    left or a column that the spec names doesn't exist, SpecError where one can't be treated so.
    """
    names = [column.name for column in profile.columns]
    for key, stated in {"exclude": options.exclude, "columns": options.columns}.items():
        for name in stated:
            if name not in names:
                near = nearest(name, names)
                raise DataError(f"preprocessing.{key}: there is no column {name!r}{near}")
    found = profile.column(target)
    if found is None:
        raise DataError(f"there is no column {target!r}{nearest(target, names)}")
    task = task or infer_task(found)
    _check_task(task, found, classes)
    useful = [c for c in profile.columns if c.name != target and c.name not in options.exclude]
    ignored = [c.name for c in useful if _is_useless(c, options)]
    features = [
        Feature(
            name=c.name,
            kind=c.kind,
            nullable=c.nulls > 0,
            tokens=_TOKENS.get(how_encoded(c, options)),
        )
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
            f"task: {task} needs classes, and {name!r} holds fractions: say regression (and no "
            f"analysis.costs), or kind: category for {name!r} in validation.columns"
        )
    if len(classes) < 2:
        raise DataError(
            f"the rows to learn from hold one class only of {name!r} ({', '.join(classes)}): "
            "choose another split"
        )
    if task is Task.BINARY and len(classes) > 2:
        raise SpecError(
            f"task: binary, but {name!r} has {len(classes)} classes: say multiclass, and no "
            "analysis.costs, which are of two classes"
        )


def _is_useless(column: ColumnProfile, options: Preprocessing) -> bool:
    stated = options.columns.get(column.name, ColumnTreatment()).how
    return column.distinct <= 1 or (is_identifier(column) and stated is None)


def how_encoded(column: ColumnProfile, options: Preprocessing) -> How:
    """Return how a column becomes numbers: as the spec states, or texts as words, categories
    one-hot up to ``onehot_up_to`` values and target-encoded beyond; times with the season only
    where the rows span more than a year: within one year it would say which day it was, and a
    model would learn that day's luck. Raises SpecError where the column's kind doesn't allow it."""
    stated = options.columns.get(column.name, ColumnTreatment()).how
    if stated is not None:
        if stated not in _HOWS[column.kind]:
            known = ", ".join(sorted(_HOWS[column.kind]))
            raise SpecError(
                f"preprocessing.columns: {column.name!r} is a {column.kind}, which can't be "
                f"{stated}: say {known}, or another kind in validation.columns"
            )
        return stated
    match column.kind:
        case Kind.CATEGORY:
            few = column.distinct <= options.onehot_up_to
            return How.ONE_HOT if few else How.WORDS if is_text(column) else How.TARGET_ENCODED
        case Kind.TIME:
            return How.SEASONAL_TIME if spans_years(column) else How.TIME
        case _:
            return How.NUMBER


def plan_transformer(
    signature: Signature, profile: Profile, options: Preprocessing, seed: int
) -> Recipe:
    """Return how each feature becomes numbers, and what becomes of its odd values."""
    columns = {name: profile.column(name) for name in signature.names}
    found = {name: column for name, column in columns.items() if column is not None}
    features = {name: how_encoded(column, options) for name, column in found.items()}
    treatments = {name: _treatment(name, how, options) for name, how in features.items()}
    return Recipe(task=signature.task, seed=seed, features=features, treatments=treatments)


def _treatment(name: str, how: How, options: Preprocessing) -> Treatment:
    """Return what becomes of a feature's odd values. Raises SpecError for what it can't become."""
    stated = options.columns.get(name, ColumnTreatment())
    is_number = how is How.NUMBER
    allowed = _NUMBER_NULLS if is_number else _CATEGORY_NULLS
    nulls = stated.nulls or (Nulls.MEDIAN if is_number else Nulls.OWN)
    if nulls not in allowed or (how not in _TREATABLE and stated.nulls):
        raise SpecError(f"preprocessing.columns: nulls of {name!r}, {how}, can't be {nulls}")
    if stated.out_of_range is not OutOfRange.KEEP and not is_number:
        raise SpecError(f"preprocessing.columns: out_of_range is for numbers; {name!r} is {how}")
    rare_rows = options.rare_rows if how is How.ONE_HOT else 0
    return Treatment(
        nulls=nulls,
        out_of_range=stated.out_of_range,
        unseen=stated.unseen,
        rare_rows=rare_rows if stated.rare_rows is None else stated.rare_rows,
    )


_TREATABLE = {How.NUMBER, How.ONE_HOT, How.TARGET_ENCODED}


def spans_years(column: ColumnProfile | None) -> bool:
    """Say whether a column of times spans more than a year."""
    if column is None or column.minimum is None or column.maximum is None:
        return False
    return column.maximum - column.minimum > YEAR_S
