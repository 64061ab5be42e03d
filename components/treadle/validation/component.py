"""Validation as a Kubeflow component."""

from typing import NamedTuple

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def validate_data(
    model: str,
    snapshot: str,
    target: str,
    options: str,
    excluded: str,
    named: str,
    champion: str,
    quarantine: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
) -> NamedTuple("Validated", [("accepted", str), ("profile", str)]):  # type: ignore[valid-type]
    """Profile a snapshot, set bad rows aside; return the digests of the good rows and of their
    profile.

    Args:
        model: The model's name.
        snapshot: Digest of the rows.
        target: The column to predict.
        options: The spec's section, as JSON.
        excluded: The columns that the model must not see, as JSON.
        named: The columns that later sections of the spec name, by their keys, as JSON.
        champion: Digest of the serving model, whose schema is enforced; empty for none, "current"
            for whichever serves now.
        quarantine: The rows set aside, as Parquet, with their reasons.
        page: What was found, for a reader.
    """
    from treadle.step import step

    with step("validate") as run:
        import json
        from pathlib import Path

        from treadle import bundle, profiles, runtime, snapshots
        from treadle.spec import Validation
        from treadle.validation import gate
        from treadle.validation import page as pages
        from treadle.validation.schema import Known

        store = runtime.object_store()
        taken = snapshots.load(snapshot, store)
        serving = runtime.champion_digest(model, champion)
        known = None
        if serving:
            before, signature = bundle.schema_of(serving, store)
            known = Known(before, frozenset(signature.names))
        limits = Validation.model_validate_json(options)
        gate.check_named(taken, json.loads(named))
        unused, aside = json.loads(excluded), Path(quarantine.path)
        result = gate.run(taken, target, limits, known, store, aside, unused)
        Path(page.path).write_text(pages.render(result, taken.rows, target), encoding="utf-8")
        digests = (result.accepted.digest, profiles.keep(result.profile, store))
        run.result(
            page=page.path,
            accepted=result.accepted.rows,
            quarantined=taken.rows - result.accepted.rows,
            quarantine=result.set_aside,
            findings=[finding.words for finding in result.findings],
        )
    return digests
