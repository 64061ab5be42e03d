"""Training as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def train_model(
    model: str,
    prepared: dsl.Input[dsl.Dataset],
    options: str,
    bundle: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
    parity: dsl.Output[dsl.Artifact],
):
    """Search over families and parameters, refit the winner, export it.

    Args:
        model: The model's name.
        prepared: The prepared directory (treadle.prepared).
        options: The spec's section, as JSON.
        bundle: The bundle directory (treadle.bundle).
        training: Every trial and the winner (records.Training).
        parity: How far ONNX is from scikit-learn (records.Parity).
    """
    from treadle.step import step

    with step("train") as run:
        from pathlib import Path

        from treadle import runtime
        from treadle.spec import TrainingOptions
        from treadle.training import train

        limits = TrainingOptions.model_validate_json(options)
        trained, equal = train.run(
            model,
            Path(prepared.path),
            limits,
            runtime.proposer,
            runtime.crew(),
            runtime.search_cluster(),
            runtime.object_store(),
            Path(bundle.path),
            runtime.cores(),
        )
        trained.write(training.path)
        equal.write(parity.path)
        run.result(
            family=trained.best.family,
            metric=trained.metric,
            value=trained.value(trained.best.curve[-1][1]),
            trials=len(trained.trials),
        )
