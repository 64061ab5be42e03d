"""Deployment as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def deploy_model(
    model: str,
    version: int,
    evaluation: dsl.Input[dsl.Artifact],
    run_id: str,
    rollout: dsl.Output[dsl.Artifact],
):
    """Promote a version whose gate said yes and prove that the model server answers with it.

    Args:
        model: The model's name.
        version: The version's number in the registry.
        evaluation: What analysis found just now, and what its gate said (evaluation.Evaluation).
        run_id: The run's name, under which the outcome is found in the object store.
        rollout: What was done, with a request and its answer (records.Rollout).
    """
    from treadle.step import step

    with step("deploy") as run:
        from pathlib import Path

        from treadle import runtime
        from treadle.deployment import announcement
        from treadle.deployment import rollout as rollouts
        from treadle.evaluation import Evaluation
        from treadle.records import Rollout

        found = Evaluation.read(evaluation.path)
        registry, store = runtime.registry(), runtime.object_store()
        try:
            done = rollouts.run(
                runtime.version(model, version),
                found.decision,
                found.champion_digest,
                runtime.bundle,
                registry,
                runtime.serving,
            )
        finally:
            # Also where the former champion was restored.
            announcement.announce(model, registry, store, runtime.bundle, runtime.signing_key())
        done.write(rollout.path)
        store.put_file(Rollout.key(run_id), Path(rollout.path))
        run.result(**done.model_dump())
