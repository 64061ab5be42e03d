"""Training as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def train_model(
    model: str,
    prepared: dsl.Input[dsl.Dataset],
    options: str,
    start_from: str,
    bundle: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
    parity: dsl.Output[dsl.Artifact],
):
    """Search over families and parameters, refit the winner, export it.

    Args:
        model: The model's name.
        prepared: The prepared directory (treadle.prepared).
        options: The spec's section, as JSON.
        start_from: Digest of the model whose parameters are tried first; empty for none, "current"
            for whichever serves now.
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

        means = train.Means(
            propose=runtime.proposer,
            crew=runtime.crew(),
            cluster=runtime.search_cluster(),
            spread=runtime.spread,
            store=runtime.object_store(),
            cores=runtime.cores(),
            free_bytes=runtime.free_memory_bytes(),
        )
        trained, equal = train.run(
            model,
            Path(prepared.path),
            TrainingOptions.model_validate_json(options),
            means,
            Path(bundle.path),
            runtime.made_of(model, start_from),
        )
        trained.write(training.path)
        equal.write(parity.path)
        run.result(
            family=trained.best.family,
            metric=trained.metric,
            value=trained.value(trained.best.score or 0.0),
            trials=len(trained.trials),
            segments=len(trained.segments.segments) if trained.segments else 0,
            own=trained.segments.own if trained.segments else 0,
        )
