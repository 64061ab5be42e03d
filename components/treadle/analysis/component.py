"""Analysis as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def analyse_model(
    model: str,
    bundle: dsl.Input[dsl.Model],
    prepared: dsl.Input[dsl.Dataset],
    training: dsl.Input[dsl.Artifact],
    parity: dsl.Input[dsl.Artifact],
    options: str,
    metric: str,
    seed: int,
    champion: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classes: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
):
    """Measure the model on held-out rows and ask the gate.

    Args:
        model: The model's name.
        bundle: The bundle directory (treadle.bundle).
        prepared: The prepared directory (treadle.prepared).
        training: Every trial (records.Training).
        parity: ONNX against scikit-learn (records.Parity).
        options: The spec's section, as JSON.
        metric: The metric the gate compares.
        seed: For the bootstrap.
        champion: Digest of the serving model; empty for none, "current" for whichever serves now.
        evaluation: What was found (evaluation.Evaluation).
        metrics: The metrics with their intervals, for the Kubeflow UI.
        classes: ROC curve and confusion matrix, for the Kubeflow UI; nothing for a regression.
        page: The same, for a reader.
    """
    from treadle.step import step

    with step("analyse") as run:
        from pathlib import Path

        from treadle import runtime
        from treadle.analysis import analyse

        found = analyse.run(
            Path(bundle.path),
            Path(prepared.path),
            Path(training.path),
            Path(parity.path),
            options,
            metric,
            seed,
            runtime.champion(model, champion),
            runtime.object_store(),
            Path(page.path),
            runtime.cores(),
        )
        found.write(evaluation.path)
        for measured in found.metrics:
            metrics.log_metric(measured.name, measured.value)
            metrics.log_metric(f"{measured.name}_low", measured.low)
            metrics.log_metric(f"{measured.name}_high", measured.high)
        if found.roc:
            alarms, hits, thresholds = zip(*found.roc, strict=True)
            classes.log_roc_curve(list(alarms), list(hits), list(thresholds))
        if found.confusion:
            classes.log_confusion_matrix(found.classes, found.confusion)
        best = found.metric(found.primary)
        run.result(
            page=page.path,
            metric=best.name,
            value=best.value,
            low=best.low,
            high=best.high,
            passed=found.decision.passed,
            reasons=found.decision.reasons,
        )
