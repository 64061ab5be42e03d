"""Put together all that analysis looks at: the very graph that will be served, on rows that
training never saw."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treadle import metrics
from treadle.analysis import (
    calibration,
    explain,
    fairness,
    footprint,
    gate,
    importances,
    residuals,
    slices,
)
from treadle.analysis.comparison import Against, Compared, compare, compare_rows
from treadle.analysis.examined import Examined, examine
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.errors import SpecError
from treadle.evaluation import Evaluation
from treadle.metrics import Measure
from treadle.records import Signature, Task
from treadle.resampling import Vector
from treadle.spec import Analysis


@dataclass(frozen=True)
class Rival:
    """The champion: its version, its bundle, and the held-out rows that it learned from (a mask;
    None where that can't be told)."""

    version: int
    bundle: Bundle
    learned: npt.NDArray[np.bool_] | None


def evaluate(
    bundle: Bundle,
    seen: Examined,
    training_answers: Vector,
    options: Analysis,
    metric: str,
    seed: int,
    champion: Rival | None,
) -> Evaluation:
    """Return all that was found, and what the gate says to it."""
    task = seen.signature.task
    if options.costs is not None and task is not Task.BINARY:
        raise SpecError(f"analysis.costs are those of two classes; this is a {task.value} task")
    primary = metrics.measure(task, metric)
    wanted = [primary, *(m for m in metrics.measures(task) if m.name != primary.name)]
    outputs = {
        "baseline": trivial_output(training_answers, len(seen), seen.signature, primary.name)
    }
    if champion is not None:
        outputs["champion"] = examine(champion.bundle, seen.frame).output
    found = compare(seen, wanted, outputs, options.bootstrap, seed)
    rival = None
    if champion is not None:
        rival = _against(champion, seen, bundle, primary, outputs["champion"], found, options, seed)
    ranked = importances.permuted(bundle, seen, primary, seed)
    given = slices.of_spec(seen, primary, options, seed, rival)
    binary = task is Task.BINARY
    evaluation = Evaluation(
        rows=len(seen),
        primary=primary.name,
        metrics=found.metrics["model"],
        baseline=found.metrics["baseline"],
        champion=found.metrics.get("champion", []),
        champion_version=rival.version if rival else None,
        champion_digest=champion.bundle.digest if champion else None,
        champion_learned=rival.learned if rival else 0,
        compared_rows=int(rival.fair.sum()) if rival else 0,
        against_nothing=found.comparisons["baseline"],
        against_champion=rival.whole if rival else None,
        slices=given,
        search=slices.searched(seen, primary, options, seed, [i.feature for i in ranked]),
        importances=ranked,
        dependence=importances.dependence(bundle, seen, [i.feature for i in ranked], seed),
        explained=explain.rows(bundle, seen, primary, options.explain_s),
        residuals=residuals.of(seen, options.bootstrap, seed)
        if not seen.signature.classes
        else None,
        calibration=calibration.of(seen, options.bootstrap, seed)
        if seen.signature.classes
        else None,
        threshold=calibration.threshold(seen, options.costs) if options.costs else None,
        fairness=[fairness.of(seen, column) for column in options.sensitive],
        roc=calibration.roc(seen) if binary else [],
        classes=seen.signature.classes,
        confusion=calibration.confusion(seen) if seen.signature.classes else [],
        footprint=footprint.measured(bundle),
        decision=gate.UNDECIDED,
    )
    return evaluation.model_copy(update={"decision": gate.decide(evaluation, options, rival)})


def _against(
    champion: Rival,
    seen: Examined,
    bundle: Bundle,
    primary: Measure,
    output: Output,
    found: Compared,
    options: Analysis,
    seed: int,
) -> Against:
    """Compare on the rows that the champion didn't learn from, where enough are left."""
    everywhere = np.ones(len(seen), dtype=bool)
    same = champion.bundle.digest == bundle.digest
    whole = found.comparisons["champion"]
    if champion.learned is None:
        return Against(champion.version, output, whole, same, everywhere, None)
    fair = ~champion.learned[seen.numbers]
    learned = len(seen) - int(fair.sum())
    if same or not learned or len(seen) - learned < slices.MIN_SLICE_ROWS:
        return Against(champion.version, output, whole, same, everywhere, learned)
    whole = compare_rows(
        primary, seen.answers[fair], seen.output[fair], output[fair], options.bootstrap, seed
    )
    return Against(champion.version, output, whole, same, fair, learned)


def trivial_output(training: Vector, rows: int, signature: Signature, metric: str) -> Output:
    """What knowing nothing but the training answers would say: their mean, the quantile that is
    asked for, or their shares."""
    if metric.startswith(metrics.PINBALL):
        wanted = float(metric.removeprefix(metrics.PINBALL))
        return np.full(rows, float(np.quantile(training, wanted)))
    if not signature.task.is_classification:
        return np.full(rows, float(np.mean(training)))
    shares = np.bincount(training.astype(np.int64), minlength=len(signature.classes))
    return np.tile(shares / shares.sum(), (rows, 1))
