"""Preprocessing as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def prepare_data(
    accepted: str,
    profile: str,
    target: str,
    task: str,
    options: str,
    tuning_share: float,
    weight: str,
    seed: int,
    prepared: dsl.Output[dsl.Dataset],
):
    """Choose features, part the rows, fit the transformer on the training part.

    Args:
        accepted: Digest of the rows to learn from.
        profile: Digest of their profile.
        target: The column to predict.
        task: regression, binary, multiclass, or empty to find out.
        options: The spec's section, as JSON.
        tuning_share: Share of the training rows that scores candidates.
        weight: Column of the rows' weights; empty for none.
        seed: For everything that is drawn.
        prepared: The prepared directory (treadle.prepared).
    """
    from treadle.step import step

    with step("preprocess") as run:
        from pathlib import Path

        from treadle import profiles, runtime, snapshots
        from treadle.preprocessing import prepare
        from treadle.records import Task
        from treadle.spec import Preprocessing

        store = runtime.object_store()
        split = prepare.run(
            snapshots.load(accepted, store),
            profiles.load(profile, store),
            target,
            Task(task) if task else None,
            Preprocessing.model_validate_json(options),
            tuning_share,
            weight,
            seed,
            store,
            Path(prepared.path),
        )
        run.result(
            train=split.train_rows,
            test=split.test_rows,
            cutoff=split.cutoff,
            shared=split.shared_rows,
        )
