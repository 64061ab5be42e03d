"""Feedback as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def monitor_model(
    model: str,
    snapshot: str,
    options: str,
    metric: str,
    monitoring: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> str:
    """Look at later rows through the champion's eyes; return healthy, watch or retrain.

    Args:
        model: The model's name.
        snapshot: Digest of the rows; empty for those its training held out.
        options: The spec's section, as JSON.
        metric: The metric to watch.
        monitoring: What was seen and decided (monitoring.Monitoring).
        page: The same, for a reader.
    """
    from treadle.step import step

    with step("feedback") as run:
        from pathlib import Path

        from treadle import runtime
        from treadle.feedback import held_out
        from treadle.feedback import page as pages
        from treadle.feedback_spec import Feedback

        store = runtime.object_store()
        version, bundle = runtime.serving_champion(model)
        digest = snapshot or version.lineage.split.held_out
        found = held_out.run(
            version,
            bundle,
            store.local(f"snapshots/{digest}/data.parquet"),
            Feedback.model_validate_json(options),
            metric,
        )
        found.write(monitoring.path)
        Path(page.path).write_text(pages.render(found, model), encoding="utf-8")
        run.result(
            page=page.path,
            verdict=found.verdict,
            reasons=found.reasons,
            rows=found.evidence.rows,
            window=found.evidence.window,
        )
    return str(found.verdict.value)
