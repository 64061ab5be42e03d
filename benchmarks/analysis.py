"""The analysis of a model of flights: 50,000 held-out rows, 20 features, 200 bootstrap rounds,
importances, slices; and its parts beside scikit-learn doing the same.

    make bench-registry                 runs it after the registry's

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>`` (the peer's time over ours).
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import keep

from treadle import metrics, prepared
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.outside import Outside
from treadle.analysis import analyse, importances
from treadle.analysis.examined import examine
from treadle.bundle import Bundle
from treadle.config import Settings
from treadle.ingestion import snapshot
from treadle.preprocessing import prepare
from treadle.records import Parity, Signature, Split, Task, Training, Trial
from treadle.runtime import cores
from treadle.search import UNITS
from treadle.spec import Analysis, MetricName, Spec
from treadle.training import refit
from treadle.training import train as search
from treadle.validation import gate

ROWS, FEATURES, ROUNDS = 50_000, 20, 200
LIMITS = {"analysis of 50,000 rows, s": 20.0}
FLIGHTS = Path(__file__).parents[1] / "examples" / "flights" / "flights.yaml"


@dataclass(frozen=True)
class Trained:
    """What training leaves, and the fitted pipeline that the peer needs."""

    place: Path
    store: DirectoryStore
    pipeline: Any
    split: Split


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit is broken."""
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        trained = train(Path(scratch))
        whole = seconds(lambda: analysed(trained))
        ours, theirs = parts(trained)
    figures = {"analysis of 50,000 rows, s": whole, **ours}
    for name, value in figures.items():
        limit = f" (limit {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name}: {value:.2f}{limit}")
    ratios = {name: theirs[name] / ours[name] for name in theirs}
    for name, value in ratios.items():
        print(f"ratio {name.rpartition(',')[0]} vs scikit-learn: {value:.1f}")
    found = {"figures": figures, "peer": theirs, "limits": LIMITS, "ratios": ratios}
    print(f"kept as {keep('analysis', {'rows': ROWS, **found})}", file=sys.stderr)
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


def train(place: Path) -> Trained:
    """Go through the steps before analysis with one boosted model, as large as a search makes
    them; the last 50,000 flights are held out."""
    import yaml

    spec = Spec.model_validate(yaml.safe_load(FLIGHTS.read_text(encoding="utf-8")))
    store = DirectoryStore(place / "objects")
    taken = snapshot.take(spec.source, store, Outside(Settings(home=place)))
    accepted = gate.run(
        taken, spec.target, spec.validation, None, store, place / "quarantine.parquet"
    )
    names = [c.name for c in accepted.profile.columns if c.name != spec.target]
    left_out = [*spec.preprocessing.exclude]
    left_out += [n for n in names[::-1] if n not in left_out][
        : len(names) - len(left_out) - FEATURES
    ]
    options = spec.preprocessing.model_copy(
        update={"exclude": left_out, "test_share": ROWS / accepted.accepted.rows}
    )
    split = prepare.run(
        accepted.accepted, accepted.profile, spec.target, spec.task, options, 0.2, "", 0, store,
        place / "prepared",
    )  # fmt: skip
    best = Trial(number=0, family="hist_gradient_boosting", parameters={"learning_rate": 0.1},
                 curve=[(UNITS, -1.0)], seconds=1.0)  # fmt: skip
    signature = Signature.read(place / "prepared" / prepared.SIGNATURE)
    rows = prepared.load_training(place / "prepared")
    _, objective = search.pose("flights", place / "prepared", spec.training)
    pipeline = refit.fit(best, place / "prepared", rows, objective, cores())
    parity = refit.write_bundle(pipeline, rows, signature, place / "prepared", place / "bundle")
    parity.write(place / "parity.json")
    training = Training(
        metric="rmse", higher_is_better=False, trials=[best], best=best, search_seconds=1,
        refit_seconds=1, fit_rows=split.train_rows,
    )  # fmt: skip
    training.write(place / "training.json")
    print(f"{split.test_rows:,} held-out rows, {len(signature.features)} features", file=sys.stderr)
    return Trained(place, store, pipeline, split)


def analysed(trained: Trained) -> None:
    """Do all that the step does but its imports."""
    place = trained.place
    options = Analysis(slices=["origin", "carrier"], bootstrap=ROUNDS)
    analyse.run(
        place / "bundle", place / "prepared", place / "training.json", place / "parity.json",
        options.model_dump_json(), "auto", 0, None, trained.store, place / "page.html", cores(),
    )  # fmt: skip
    assert Parity.read(place / "parity.json").passed


def parts(trained: Trained) -> tuple[dict[str, float], dict[str, float]]:
    """Return the time of single parts, and of scikit-learn doing the same."""
    import pandas as pd
    from sklearn import metrics as theirs
    from sklearn.inspection import permutation_importance

    bundle = Bundle.at(trained.place / "bundle", cores())
    key = f"snapshots/{trained.split.held_out}/data.parquet"
    seen = examine(bundle, pd.read_parquet(trained.store.local(key)))
    late = (seen.answers > 15).astype(np.int64)
    chance = 1 / (1 + np.exp(-(seen.output - 15) / 10))
    output = np.column_stack([1 - chance, chance])
    rmse = metrics.measure(Task.REGRESSION, MetricName.RMSE)
    auc = metrics.measure(Task.BINARY, MetricName.ROC_AUC)
    ours = {
        "bootstrap of rmse, mae and r2, s": seconds(
            lambda: metrics.with_intervals(
                metrics.measures(Task.REGRESSION), seen.answers, seen.output, ROUNDS, 0
            )
        ),
        "bootstrap of roc_auc, s": seconds(
            lambda: metrics.with_interval(auc, late, output, ROUNDS, 0)
        ),
        "permutation importance, s": seconds(lambda: importances.permuted(bundle, seen, rmse, 0)),
    }
    errors = [theirs.root_mean_squared_error, theirs.mean_absolute_error, theirs.r2_score]
    picked = slice(0, importances.ROWS)
    columns = pd.DataFrame({name: values[picked] for name, values in seen.columns.items()})
    peer = {
        "bootstrap of rmse, mae and r2, s": seconds(
            lambda: looped(errors, seen.answers, seen.output)
        ),
        "bootstrap of roc_auc, s": seconds(lambda: looped([theirs.roc_auc_score], late, chance)),
        "permutation importance, s": seconds(
            lambda: permutation_importance(
                trained.pipeline, columns, seen.answers[picked], n_repeats=importances.SHUFFLES,
                scoring="neg_root_mean_squared_error", random_state=0,
            )
        ),
    }  # fmt: skip
    return ours, peer


def looped(scores: list[Callable[..., float]], answers: Any, output: Any) -> None:
    """Take resamples and score them one by one."""
    random = np.random.default_rng(0)
    rows = len(answers)
    for _ in range(ROUNDS):
        drawn = random.integers(0, rows, rows)
        for score in scores:
            score(answers[drawn], output[drawn])


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of ``work``."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
