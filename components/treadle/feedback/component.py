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
        monitoring: What was seen and decided (records.Monitoring).
        page: The same, for a reader.
    """
    from treadle.step import step

    with step("feedback") as run:
        from pathlib import Path

        from treadle import runtime
        from treadle.feedback import monitor
        from treadle.feedback import page as pages
        from treadle.spec import Feedback

        store = runtime.object_store()
        version, bundle = runtime.serving_champion(model)
        digest = snapshot or version.lineage.split.held_out
        found = monitor.run(
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
            rows=found.rows,
            window=found.window,
        )
    return found.verdict.value
