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
    analysis_page: dsl.Input[dsl.HTML],
    data_page: dsl.Input[dsl.HTML],
    spec: str,
    seed: int,
    run_id: str,
    card: dsl.Output[dsl.HTML],
) -> int:
    """Register the bundle with its signature and lineage; return the version's number.

    Args:
        model: The model's name.
        snapshot: Digest of the rows that were ingested.
        bundle: The bundle directory (treadle.bundle).
        prepared: The prepared directory (treadle.prepared).
        training: Every trial (records.Training).
        evaluation: What analysis found (evaluation.Evaluation).
        analysis_page: The analysis, for a reader.
        data_page: What validation found, for a reader.
        spec: The whole spec, as JSON.
        seed: The seed of the run.
        run_id: The run's name.
        card: The model card, for a reader.
    """
    from treadle.step import step

    with step("register") as run:
        from pathlib import Path

        from treadle import runtime, snapshots
        from treadle.bundle import Bundle
        from treadle.evaluation import Evaluation
        from treadle.prepared import SPLIT
        from treadle.records import Split, Training
        from treadle.registry import card as cards
        from treadle.registry import figures, register
        from treadle.spec import Spec

        store = runtime.object_store()
        trained = Training.read(training.path)
        evaluated = Evaluation.read(evaluation.path)
        taken = snapshots.load(snapshot, store)
        opened, parted = Bundle.at(Path(bundle.path)), Split.read(Path(prepared.path) / SPLIT)
        words = Spec.model_validate_json(spec)
        written = cards.render(words, opened, taken, parted, trained, evaluated)
        Path(card.path).write_text(written, encoding="utf-8")
        pages = {
            "analysis": Path(analysis_page.path),
            "card": Path(card.path),
            "validation": Path(data_page.path),
        }
        version = register.run(
            model,
            opened,
            taken,
            parted,
            trained,
            evaluated,
            spec,
            seed,
            run_id,
            {f"{name}.html": path for name, path in pages.items()},
            figures.write(pages.values(), Path(card.path).parent / "figures"),
            store,
            runtime.registry(),
            runtime.signing_key(),
            runtime.settings().step_image,
        )
        best = evaluated.metric(evaluated.primary)
        # All that the launcher's report needs: the steps before may come from a cache.
        run.result(
            version=version.version,
            semver=version.semver,
            digest=version.digest,
            snapshot=taken.digest,
            rows=taken.rows,
            family=trained.best.family,
            trials=len(trained.trials),
            metric=best.model_dump(),
            reasons=evaluated.decision.reasons,
            pages={name: str(path) for name, path in pages.items()},
        )
    return version.version
