"""The loop as a Kubeflow component: it goes beyond a stage, because it may run the others."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def keep_models(model: str, fleet: dsl.Output[dsl.Artifact], page: dsl.Output[dsl.HTML]) -> int:
    """Look at what models answered since the last look, decide, retrain or roll back: one pass of
    treadle monitor. Return what it would exit with: 0, or 3 where something needs a person.

    Args:
        model: The model's name; empty for all of them.
        fleet: How each model stands (monitoring.Fleet).
        page: The same, for a reader.
    """
    from treadle.step import step

    with step("feedback") as run:
        from pathlib import Path

        from treadle.errors import TreadleError
        from treadle.feedback import page as pages
        from treadle_pipelines import monitoring

        found = monitoring.run(model or None, None, False, print)
        found.write(fleet.path)
        Path(page.path).write_text(pages.of_fleet(found, None), encoding="utf-8")
        code = monitoring.exit_code(found)
        run.result(models=len(found.rows), exit_code=code)
        if code == 1:
            faults = [f"{row.model}: {row.fault}" for row in found.rows if row.fault]
            raise TreadleError("; ".join(faults))
    return int(code)
