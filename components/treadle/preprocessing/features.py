"""Choose a model's features and the transformer that turns them into numbers."""

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from treadle.errors import DataError, SpecError, nearest
from treadle.kinds import infer_task, is_identifier
from treadle.records import ColumnProfile, Feature, Kind, Profile, Signature, Task
from treadle.spec import Preprocessing
from treadle.transformers import YEAR_S, TimeParts, ToFloat32

RARE_ROWS = 10


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


def build_transformer(
    signature: Signature, profile: Profile, options: Preprocessing, seed: int
) -> Pipeline:
    """Return the unfitted transformer: encoded features to a float32 matrix.

    Numbers and booleans: median for nulls, and a flag for each column that has them in training.
    Categories: one-hot up to ``onehot_up_to`` values (rare ones together, unseen as rare),
    target-encoded beyond (unseen: the mean; fitted across folds, so that no row sees its own
    target). Times: TimeParts, with the season only where the rows span more than a year: within
    one year it would say which day it was, and a model would learn that day's luck.
    """
    steps: list[tuple[str, object, list[str]]] = []
    numbers = [f.name for f in signature.features if f.kind in (Kind.NUMBER, Kind.BOOLEAN)]
    if numbers:
        imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        steps.append(("numbers", imputer, numbers))
    for feature in signature.features:
        column = profile.column(feature.name)
        if feature.kind is Kind.CATEGORY:
            few = column is not None and column.distinct <= options.onehot_up_to
            encoder = _one_hot() if few else _target_encoder(signature.task, seed)
            steps.append((f"category {feature.name}", encoder, [feature.name]))
        elif feature.kind is Kind.TIME:
            parts = TimeParts(seasonal=spans_years(column))
            steps.append((f"time {feature.name}", parts, [feature.name]))
    columns = ColumnTransformer(steps, sparse_threshold=0, verbose_feature_names_out=False)
    return Pipeline([("columns", columns), ("float32", ToFloat32())])


def spans_years(column: ColumnProfile | None) -> bool:
    """Say whether a column of times spans more than a year."""
    if column is None or column.minimum is None or column.maximum is None:
        return False
    return column.maximum - column.minimum > YEAR_S


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=RARE_ROWS, sparse_output=False
    )


def _target_encoder(task: Task, seed: int) -> TargetEncoder:
    kind = "continuous" if task is Task.REGRESSION else task.value
    return TargetEncoder(target_type=kind, cv=KFold(5, shuffle=True, random_state=seed))
