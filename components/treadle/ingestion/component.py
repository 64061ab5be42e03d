"""Ingestion as a Kubeflow component."""

from kfp import dsl

from treadle.config import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def ingest_data(
    source: str, fingerprint: str, model: str, manifest: dsl.Output[dsl.Dataset]
) -> str:
    """Take a snapshot of the source; return the digest that names it.

    Args:
        source: The spec's section, as JSON.
        fingerprint: Changes when the files behind the source do, so that no cache hides it.
        model: The model's name, which is the dataset's where the source names none.
        manifest: The snapshot's manifest.
    """
    from treadle.step import step

    with step("ingest") as run:
        from treadle import runtime
        from treadle.ingestion import snapshot
        from treadle.spec import Source

        read = Source.model_validate_json(source)
        name = read.dataset or model
        taken = snapshot.ingest(read, name, runtime.object_store(), runtime.outside())
        taken.write(manifest.path)
        manifest.metadata.update(digest=taken.digest, rows=taken.rows)
        columns = len(taken.columns)
        run.result(digest=taken.digest, rows=taken.rows, columns=columns, notes=taken.notes)
    return taken.digest
