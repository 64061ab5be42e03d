"""Put together all that analysis looks at: the very graph that will be served, on rows that
training never saw."""

import numpy as np

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
from treadle.analysis.comparison import Against, compare
from treadle.analysis.examined import Examined, examine
from treadle.answers import Output
from treadle.bundle import Bundle
from treadle.errors import SpecError
from treadle.evaluation import Evaluation
from treadle.records import Signature, Task
from treadle.resampling import Vector
from treadle.spec import Analysis


def evaluate(
    bundle: Bundle,
    seen: Examined,
    training_answers: Vector,
    options: Analysis,
    metric: str,
    seed: int,
    champion: tuple[int, Bundle] | None,
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
        outputs["champion"] = examine(champion[1], seen.frame).output
    found = compare(seen, wanted, outputs, options.bootstrap, seed)
    rival = None
    if champion is not None:
        same = champion[1].digest == bundle.digest
        rival = Against(champion[0], outputs["champion"], found.comparisons["champion"], same)
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
        champion_digest=champion[1].digest if champion else None,
        against_nothing=found.comparisons["baseline"],
        against_champion=found.comparisons.get("champion"),
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
