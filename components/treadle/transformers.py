"""The transformer, as preprocessing plans it and training fits it anew, and the parts of it that
scikit-learn doesn't have."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from treadle.encoding import NULL_CATEGORY
from treadle.records import How, Nulls, OutOfRange, Recipe, Task, Treatment, Unseen

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S
# Sines and cosines of times are told in so many steps.
CIRCLE_STEPS = 2.0**20
WEEK_S = 7 * DAY_S
# 1970-01-01 was a Thursday: three days into a week that starts on Monday.
WEEK_OFFSET_S = 3 * DAY_S
FOLDS = 5
DAILY = ("hour", "weekday", "hour_sin", "hour_cos", "null")
SEASONAL = ("season", "season_sin", "season_cos")
RARE_CATEGORY = "<rare>"
_NO_TERM = "<none>"
# The commonest terms of a text become a column each: words and pairs of them, or what two to four
# characters in a row spell.
MOST_TERMS = 128
NGRAMS = {How.WORDS: (1, 2), How.CHARACTERS: (2, 4)}


def build_transformer(recipe: Recipe) -> Pipeline:
    """Return the unfitted transformer: encoded features to a float32 matrix.

    Numbers and booleans come first, one column each: see Numbers. Target-encoded categories are
    fitted across folds, so that no row sees its own target; an unseen one is the mean. Times:
    TimeParts. Texts: Terms.
    """
    numbers = [name for name, how in recipe.features.items() if how is How.NUMBER]
    steps: list[tuple[str, object, list[str]]] = []
    if numbers:
        treated = [recipe.treatments[name] for name in numbers]
        nulls, ranges = [t.nulls.value for t in treated], [t.out_of_range.value for t in treated]
        steps.append(("numbers", Numbers(nulls, ranges), numbers))
    for name, how in recipe.features.items():
        if how is not How.NUMBER:
            steps.append((f"{how} {name}", _encoder(how, recipe.treatments[name], recipe), [name]))
    columns = ColumnTransformer(steps, sparse_threshold=0, verbose_feature_names_out=False)
    return Pipeline([("columns", columns), ("float32", ToFloat32())])


def _encoder(how: How, treatment: Treatment, recipe: Recipe) -> object:
    match how:
        case How.ONE_HOT | How.TARGET_ENCODED:
            known = Categories(treatment.nulls.value, treatment.unseen.value, treatment.rare_rows)
            return Pipeline([("known", known), ("encoded", _category_encoder(how, recipe))])
        case How.WORDS | How.CHARACTERS:
            return Terms(*NGRAMS[how])
        case _:
            return TimeParts(seasonal=how is How.SEASONAL_TIME)


def _category_encoder(how: How, recipe: Recipe) -> object:
    if how is How.ONE_HOT:
        return OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    kind = "continuous" if recipe.task is Task.REGRESSION else recipe.task.value
    folds = KFold(FOLDS, shuffle=True, random_state=recipe.seed)
    return TargetEncoder(target_type=kind, cv=folds)


class Numbers(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers without nulls, and after them a flag for each column that has nulls in training.

    ``nulls`` says for each column what a null becomes (records.Nulls), ``ranges`` what becomes of
    values beyond those seen in training (records.OutOfRange). A column without a value is 0.
    """

    def __init__(self, nulls: list[str], ranges: list[str]) -> None:
        self.nulls = nulls
        self.ranges = ranges

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn each column's range and what its nulls become."""
        numbers = np.asarray(X, dtype=np.float32)
        self.n_features_in_ = numbers.shape[1]
        lows, highs, fills = zip(*map(_learned, numbers.T, self.nulls), strict=True)
        kept = [how == OutOfRange.KEEP.value for how in self.ranges]
        self.low_ = np.where(kept, -np.inf, lows).astype(np.float32)
        self.high_ = np.where(kept, np.inf, highs).astype(np.float32)
        self.fill_ = np.array(fills, dtype=np.float32)
        clipped = [how == OutOfRange.CLIP.value for how in self.ranges]
        self.below_ = np.where(clipped, self.low_, np.nan).astype(np.float32)
        self.above_ = np.where(clipped, self.high_, np.nan).astype(np.float32)
        self.flagged_ = np.flatnonzero(np.isnan(numbers).any(axis=0))
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the numbers and the flags."""
        numbers = np.asarray(X, dtype=np.float32)
        numbers = np.where(numbers < self.low_, self.below_, numbers)
        numbers = np.where(numbers > self.high_, self.above_, numbers)
        null = np.isnan(numbers)
        filled = np.where(null, self.fill_, numbers)
        return np.hstack([filled, null[:, self.flagged_].astype(np.float32)])

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the columns' names, and those of the flags."""
        names = [f"x{i}" for i in range(self.n_features_in_)]
        names = names if input_features is None else [str(name) for name in input_features]
        flags = [f"{names[place]}_null" for place in self.flagged_]
        return np.array(names + flags, dtype=object)


def _learned(column: npt.NDArray[np.float32], nulls: str) -> tuple[float, float, float]:
    """Return a column's lowest and highest value and what stands for its nulls."""
    known = column[~np.isnan(column)].astype(np.float64)
    if not len(known):
        return -np.inf, np.inf, 0.0
    return float(known.min()), float(known.max()), _fill(known, Nulls(nulls))


def _fill(known: npt.NDArray[np.float64], nulls: Nulls) -> float:
    match nulls:
        case Nulls.MEDIAN:
            return float(np.median(known))
        case Nulls.MEAN:
            return float(np.mean(known))
        case Nulls.COMMONEST:
            values, counts = np.unique(known, return_counts=True)
            return float(values[np.argmax(counts)])
        case _:
            return 0.0


class Categories(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """One column of categories to those that an encoder is to tell apart.

    A null is a category of its own or the commonest one, a category with fewer than ``rare_rows``
    training rows is RARE_CATEGORY, and an unseen one is that too, or a null.
    """

    def __init__(self, nulls: str, unseen: str, rare_rows: int) -> None:
        self.nulls = nulls
        self.unseen = unseen
        self.rare_rows = rare_rows

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the categories, each with what it counts as."""
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = 1
        column = np.asarray(X, dtype=object).ravel()
        values, counts = np.unique(column.astype(str), return_counts=True)
        seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
        null = NULL_CATEGORY
        known = {value: count for value, count in seen.items() if value != null}
        if self.nulls == Nulls.COMMONEST.value and known:
            null = max(known, key=lambda value: (known[value], value))
            known[null] += seen.get(NULL_CATEGORY, 0)
        rare = {value for value, count in known.items() if count < self.rare_rows}
        taken = {v: RARE_CATEGORY if v in rare else v for v in known} | {NULL_CATEGORY: null}
        self.categories_ = [np.array(sorted(taken), dtype=object)]
        self.taken_ = [taken[value] for value in sorted(taken)]
        self.other_ = null if self.unseen == Unseen.NULL.value else RARE_CATEGORY
        return self

    def transform(self, X: Any) -> npt.NDArray[np.object_]:
        """Return what each value counts as, shape (n, 1)."""
        taken = dict(zip(self.categories_[0].tolist(), self.taken_, strict=True))
        column = np.asarray(X, dtype=object).ravel()
        found = [taken.get(value, self.other_) for value in column]
        return np.array(found, dtype=object).reshape(-1, 1)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the column's name."""
        return np.asarray(input_features, dtype=object)


class Terms(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """One column of tokens (``encoding.tokenised``) to the TF-IDF weights of its MOST_TERMS
    commonest terms, ``shortest`` to ``longest`` tokens in a row; each row has length 1, or 0."""

    def __init__(self, shortest: int, longest: int) -> None:
        self.shortest = shortest
        self.longest = longest

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the terms and how rare each is."""
        self.n_features_in_ = 1
        self.vectorizer_ = TfidfVectorizer(
            lowercase=False,
            token_pattern=r"\S+",  # noqa: S106 - no password
            ngram_range=(self.shortest, self.longest),
            max_features=MOST_TERMS,
        )
        texts = _texts(X)
        # Where no row has a term, one that none can have stands for the column.
        enough = any(len(text.split()) >= self.shortest for text in texts)
        self.vectorizer_.fit(texts if enough else [" ".join([_NO_TERM] * self.longest)])
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the weights."""
        weights: npt.NDArray[np.float64] = self.vectorizer_.transform(_texts(X)).toarray()
        return weights.astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the column's name before each term."""
        stem = "text" if input_features is None else str(input_features[0])
        terms = self.vectorizer_.get_feature_names_out()
        return np.array([f"{stem}: {term}" for term in terms], dtype=object)


def _texts(X: Any) -> list[str]:
    return [str(text) for text in np.asarray(X, dtype=object).ravel()]


class TimeParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Times, as epoch seconds in float64 of shape (n, 1), to float32 parts of shape (n, 5 or 8).

    ``hour`` is 0 to 24, ``weekday`` 0 to 7 from Monday; with ``seasonal`` there is also ``season``,
    0 to 1 over the mean Gregorian year. Sines and cosines close the circles. A null gives zeros
    and ``null`` = 1. The exporter builds the same arithmetic as an ONNX graph
    (training/onnx_export.py).
    """

    def __init__(self, seasonal: bool = True) -> None:
        self.seasonal = seasonal

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn nothing but the number of inputs."""
        self.n_features_in_ = 1
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the parts."""
        seconds = np.asarray(X, dtype=np.float64).reshape(-1, 1)
        null = np.isnan(seconds)
        known = np.where(null, 0.0, seconds)
        day = _phase(known, DAY_S)
        week = _phase(known + WEEK_OFFSET_S, WEEK_S)
        parts = [day * 24, week * 7, *_circle(day)]
        if self.seasonal:
            year = _phase(known, YEAR_S)
            parts += [year, *_circle(year)]
        # Computed in float64 and cast last: in float32, two libraries' sines differ in the last
        # bit, and a tree's threshold may lie between.
        zeroed = [np.where(null, 0.0, part).astype(np.float32) for part in parts]
        return np.hstack([*zeroed[:4], null.astype(np.float32), *zeroed[4:]])

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the parts."""
        stem = "time" if input_features is None else str(input_features[0])
        parts = DAILY + (SEASONAL if self.seasonal else ())
        return np.array([f"{stem}_{part}" for part in parts], dtype=object)


def _phase(seconds: npt.NDArray[np.float64], period_s: float) -> npt.NDArray[np.float64]:
    turns = seconds / period_s
    return turns - np.floor(turns)


def _circle(phase: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Return sine and cosine in steps of 1 / CIRCLE_STEPS. Two libraries' differ in the last bit,
    and where they should be 0 that is all there is: at six in the evening one says -1.8e-16 and
    another -1.9e-16, and a tree's threshold lay between."""
    turn = phase * (2 * np.pi)
    return [np.rint(wave(turn) * CIRCLE_STEPS) / CIRCLE_STEPS for wave in (np.sin, np.cos)]


class ToFloat32(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Cast to float32, as the ONNX graph computes, so that both see the same numbers."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn nothing but the number of inputs."""
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return X as float32."""
        return np.asarray(X, dtype=np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names unchanged."""
        return np.asarray(input_features, dtype=object)
