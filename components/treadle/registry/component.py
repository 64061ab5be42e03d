"""Registration as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def register_model(
    model: str,
    snapshot: str,
    bundle: dsl.Input[dsl.Model],
    prepared: dsl.Input[dsl.Dataset],
    training: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    page: dsl.Input[dsl.HTML],
    spec: str,
    seed: int,
    run_id: str,
) -> int:
    """Register the bundle with its signature and lineage; return the version's number.

    Args:
        model: The model's name.
        snapshot: Digest of the rows that were ingested.
        bundle: The bundle directory (treadle.bundle).
        prepared: The prepared directory (treadle.prepared).
        training: Every trial (records.Training).
        evaluation: What analysis found (records.Evaluation).
        page: The analysis page, shown beside the version.
        spec: The whole spec, as JSON.
        seed: The seed of the run.
        run_id: The run's name.
    """
    from treadle.step import step

    with step("register") as run:
        from pathlib import Path

        from treadle import runtime, snapshots
        from treadle.bundle import Bundle
        from treadle.prepared import SPLIT
        from treadle.records import Evaluation, Split, Training
        from treadle.registry import register

        store = runtime.object_store()
        version = register.run(
            model,
            Bundle(Path(bundle.path)),
            snapshots.load(snapshot, store),
            Split.read(Path(prepared.path) / SPLIT),
            Training.read(training.path),
            Evaluation.read(evaluation.path),
            spec,
            seed,
            run_id,
            {"analysis.html": Path(page.path)},
            store,
            runtime.registry(),
        )
        run.result(version=version.version, semver=version.semver, digest=version.digest)
    return version.version
