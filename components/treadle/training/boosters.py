"""LightGBM and XGBoost, the extra ``boosting``: how their candidates are built and grown.

Both go on growing from where they were, to the same trees as in one go, and grow the same on any
number of threads (tests hold that). They are imported where a spec names them.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from treadle.errors import EnvironmentFault
from treadle.records import Parameter
from treadle.spec import Family

if TYPE_CHECKING:
    from treadle.training.families import Objective

PACKAGES = {Family.LIGHTGBM: "lightgbm", Family.XGBOOST: "xgboost"}
_CONVERTERS = "onnxmltools"
_WAY_OUT = (
    "pip install 'treadle[boosting]' (on a cluster: docs/how-to.md says how it gets into the image)"
)


def check_installed(families: Iterable[Family]) -> None:
    """Raise EnvironmentFault for families whose packages are not installed; imports none."""
    for family in families:
        needed = (PACKAGES[family], _CONVERTERS) if family in PACKAGES else ()
        gone = [package for package in needed if find_spec(package) is None]
        if gone:
            raise EnvironmentFault(
                f"training.families: {family} needs {' and '.join(gone)}, which "
                f"{'are' if len(gone) > 1 else 'is'} not installed here: {_WAY_OUT}"
            )


def load(families: Iterable[Family]) -> None:
    """Import what the families need. Raises EnvironmentFault where that can't be."""
    wanted = list(families)
    check_installed(wanted)
    for package in (PACKAGES[family] for family in wanted if family in PACKAGES):
        try:
            import_module(package)
        except (ImportError, OSError) as error:
            raise EnvironmentFault(
                f"training.families: {package} is installed, but can't be loaded: {error}; "
                "where that is libgomp.so.1: apt-get install libgomp1"
            ) from error


def lightgbm(objective: "Objective", parameters: dict[str, Parameter], rounds: int) -> Any:
    """Return an unfitted LightGBM estimator."""
    import lightgbm as library

    given: dict[str, Any] = {
        "n_estimators": rounds,
        "random_state": objective.seed,
        "n_jobs": 1,
        "verbosity": -1,
        # The same histograms on any number of threads.
        "deterministic": True,
        "force_col_wise": True,
        **parameters,
    }
    if objective.monotonic:
        given["monotone_constraints"] = list(objective.monotonic)
    if objective.task.is_classification:
        return library.LGBMClassifier(**given)
    if objective.quantile is not None:
        given |= {"objective": "quantile", "alpha": objective.quantile}
    return library.LGBMRegressor(**given)


def xgboost(objective: "Objective", parameters: dict[str, Parameter], rounds: int) -> Any:
    """Return an unfitted XGBoost estimator."""
    import xgboost as library

    given: dict[str, Any] = {
        "n_estimators": rounds,
        "random_state": objective.seed,
        "n_jobs": 1,
        "tree_method": "hist",
        **parameters,
    }
    if objective.monotonic:
        given["monotone_constraints"] = objective.monotonic
    if objective.task.is_classification:
        return library.XGBClassifier(**given)
    if objective.quantile is not None:
        given |= {"objective": "reg:quantileerror", "quantile_alpha": objective.quantile}
    return library.XGBRegressor(**given)


def grow(estimator: Any, rounds: int, rows: Any, answers: Any, weights: Any, threads: int) -> None:
    """Fit an estimator, or go on with it, until it has so many rounds."""
    grown = estimator.__sklearn_is_fitted__()
    light = _is_lightgbm(estimator)
    booster = (estimator.booster_ if light else estimator.get_booster()) if grown else None
    if booster is None:
        there = 0
    else:
        there = booster.current_iteration() if light else booster.num_boosted_rounds()
    if not light and type(estimator).__name__ == "XGBClassifier":
        # XGBoost wants classes without gaps; some rows may have none of a class.
        estimator.codes_, answers = np.unique(answers, return_inverse=True)
    estimator.set_params(n_estimators=rounds - there, n_jobs=threads)
    goes_on = {"init_model" if light else "xgb_model": booster}
    estimator.fit(rows, answers, sample_weight=weights, **goes_on)
    # What is kept of it must not tell how many cores there were.
    estimator.set_params(n_estimators=rounds, n_jobs=1)


def _is_lightgbm(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("lightgbm")


def is_one(estimator: Any) -> bool:
    """Say whether an estimator is LightGBM's or XGBoost's."""
    return type(estimator).__module__.partition(".")[0] in PACKAGES.values()


class Unshrunk:
    """Answers as ``families.unshrunk`` says: what trees add is divided by what they could have
    learned so far."""

    def __init__(self, estimator: Any, learned: float) -> None:
        margins: Callable[[Any, Any], tuple[Any, Any]]
        margins = _lightgbm_margins if _is_lightgbm(estimator) else _xgboost_margins
        self._estimator, self._learned, self._margins = estimator, learned, margins

    @property
    def classes_(self) -> Any:
        """The estimator's."""
        return classes_of(self._estimator)

    def predict(self, rows: Any) -> npt.NDArray[Any]:
        """Return (n,) values, or margins of classes."""
        base, trees = self._margins(self._estimator, rows)
        return np.asarray(base + trees / self._learned)

    def predict_proba(self, rows: Any) -> npt.NDArray[Any]:
        """Return (n, classes) probabilities."""
        from scipy.special import expit, softmax

        margin = self.predict(rows)
        if margin.ndim == 2:
            return np.asarray(softmax(margin, axis=1))
        return np.column_stack([expit(-margin), expit(margin)])


def _lightgbm_margins(estimator: Any, rows: Any) -> tuple[Any, Any]:
    """Return where the trees begin, and what they add. The first tree has the beginning in it: at
    its root stands what it would say without a split, which is just that."""
    roots = [
        tree["tree_structure"]
        for tree in estimator.booster_.dump_model(num_iteration=1)["tree_info"]
    ]
    begins = [root.get("internal_value", root.get("leaf_value")) for root in roots]
    base = np.array(begins) if len(begins) > 1 else begins[0]
    return base, estimator.predict(rows, raw_score=True) - base


def _xgboost_margins(estimator: Any, rows: Any) -> tuple[Any, Any]:
    """Return where the trees begin, and what they add."""
    from xgboost import DMatrix

    booster = estimator.get_booster()
    whole = booster.predict(DMatrix(rows), output_margin=True)
    zero = np.zeros(whole.shape, dtype=np.float32)
    trees = booster.predict(DMatrix(rows, base_margin=zero), output_margin=True)
    return whole - trees, trees


def classes_of(estimator: Any) -> Any:
    """Return the codes of an estimator's classes, in the order of its probabilities."""
    return getattr(estimator, "codes_", estimator.classes_)
