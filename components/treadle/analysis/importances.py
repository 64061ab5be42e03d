"""What the model looks at: permutation importance, and how its output goes with a feature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle.analysis.cells import MOST_VALUES
from treadle.analysis.examined import Examined
from treadle.bundle import Bundle
from treadle.encoding import Column
from treadle.evaluation import Dependence, Importance
from treadle.metrics import Measure
from treadle.records import Feature, Kind
from treadle.resampling import Vector

ROWS = 5_000
SHUFFLES = 4
# Student's t at 97.5 % for the mean of so many shuffles.
_STUDENT = 3.182446
DEPENDENCE_ROWS = 500
MOST_SHOWN = 6
_PLACES = 16


def permuted(bundle: Bundle, seen: Examined, m: Measure, seed: int) -> list[Importance]:
    """Return permutation importances (Breiman 2001), highest first: what the metric loses when a
    feature is shuffled among at most ROWS rows."""
    random = np.random.default_rng(seed)
    picked = random.permutation(len(seen))[:ROWS]
    columns, answers = seen.at(picked), seen.answers[picked]
    whole = m.score(answers, seen.output[picked])
    found = []
    for name, values in columns.items():
        lost = np.array(
            [
                whole
                - m.score(answers, bundle.model.output(columns | {name: _shuffled(values, random)}))
                for _ in range(SHUFFLES)
            ]
        )
        half = float(_STUDENT * lost.std(ddof=1) / np.sqrt(SHUFFLES))
        mean = float(lost.mean())
        found.append(Importance(feature=name, lost=mean, low=mean - half, high=mean + half))
    return sorted(found, key=lambda importance: -importance.lost)


def _shuffled(values: Column, random: np.random.Generator) -> Column:
    return values[random.permutation(len(values))]


def dependence(
    bundle: Bundle, seen: Examined, ranked: Sequence[str], seed: int
) -> list[Dependence]:
    """Return partial dependence (Friedman 2001) on the features that matter most; of two classes
    the second's probability, of several that of the commonest."""
    random = np.random.default_rng(seed)
    picked = random.permutation(len(seen))[:DEPENDENCE_ROWS]
    columns = seen.at(picked)
    place = _class_shown(seen)
    features = {feature.name: feature for feature in seen.signature.features}
    shown = [features[name] for name in ranked if features[name].tokens is None][:MOST_SHOWN]
    return [_dependence(bundle, columns, feature, seen, place) for feature in shown]


def _class_shown(seen: Examined) -> int | None:
    classes = len(seen.signature.classes)
    if classes <= 2:
        return 1 if classes else None
    return int(np.bincount(seen.answers.astype(np.int64)).argmax())


def _dependence(
    bundle: Bundle,
    columns: dict[str, Column],
    feature: Feature,
    seen: Examined,
    place: int | None,
) -> Dependence:
    places = _places(seen.columns[feature.name], feature.kind)
    rows = len(next(iter(columns.values())))
    asked: dict[str, Any] = {name: np.tile(values, len(places)) for name, values in columns.items()}
    asked[feature.name] = places.repeat(rows).astype(asked[feature.name].dtype)
    output = np.asarray(bundle.model.output(asked), dtype=np.float64)
    given: Vector = output if place is None else output[:, place]
    by_place = given.reshape(len(places), rows)
    mean = by_place.mean(axis=1)
    # Each row's own level is taken out: what is left is how much rows differ in where it goes
    # (centred individual expectations, Goldstein et al. 2015).
    apart = by_place - by_place.mean(axis=0) + mean.mean()
    low, high = np.quantile(apart, [0.25, 0.75], axis=1)
    return Dependence(
        feature=feature.name,
        kind=feature.kind.value,
        places=[str(p) if feature.kind is Kind.CATEGORY else float(p) for p in places],
        mean=mean.tolist(),
        low=low.tolist(),
        high=high.tolist(),
    )


def _places(values: Column, kind: Kind) -> npt.NDArray[np.generic]:
    """Return where to look: the commonest values of a category, quantiles of a number."""
    if kind is Kind.CATEGORY:
        found, counts = np.unique(values.astype(str), return_counts=True)
        commonest: npt.NDArray[np.generic] = found[np.argsort(-counts, kind="stable")][:MOST_VALUES]
        return commonest.astype(object)
    known = values[~np.isnan(values)].astype(np.float64)
    if not known.size:
        return np.array([np.nan])
    few = np.unique(known)
    return (
        few
        if len(few) <= _PLACES
        else np.unique(np.quantile(known, np.linspace(0.01, 0.99, _PLACES)))
    )
