"""The graphs. ``kfp.local`` runs them here, ``treadle compile`` turns them into KFP IR.

They are shallow and have few tasks, because on the KFP back end each task is two pods: no task
exists only to decide. Snapshots go from task to task by digest, as parameters, so that a cache
knows the same rows again wherever they were written.
"""

from kfp import dsl

from treadle.analysis.component import analyse_model
from treadle.deployment.component import deploy_model
from treadle.feedback.component import monitor_model
from treadle.ingestion.component import ingest_data
from treadle.preprocessing.component import prepare_data
from treadle.registry.component import register_model
from treadle.training.component import train_model
from treadle.validation.component import validate_data
from treadle_pipelines.loop_component import keep_models


@dsl.pipeline(name="treadle-training", description="From a raw table to a served model.")
def training_pipeline(
    model: str,
    target: str,
    task: str,
    source: str,
    fingerprint: str,
    validation: str,
    excluded: str,
    named: str,
    preprocessing: str,
    training: str,
    analysis: str,
    metric: str,
    tuning_share: float,
    weight: str,
    start_from: str,
    seed: int,
    spec: str,
    champion: str,
    run_id: str,
) -> int:
    """Ingest, validate, preprocess, train, analyse, register, deploy; return the version."""
    ingested = ingest_data(source=source, fingerprint=fingerprint, model=model)
    validated = validate_data(
        model=model,
        snapshot=ingested.outputs["Output"],
        target=target,
        options=validation,
        excluded=excluded,
        named=named,
        champion=champion,
    )
    prepared = prepare_data(
        accepted=validated.outputs["accepted"],
        profile=validated.outputs["profile"],
        target=target,
        task=task,
        options=preprocessing,
        tuning_share=tuning_share,
        weight=weight,
        seed=seed,
    )
    trained = train_model(
        model=model,
        prepared=prepared.outputs["prepared"],
        options=training,
        start_from=start_from,
    )
    analysed = analyse_model(
        model=model,
        bundle=trained.outputs["bundle"],
        prepared=prepared.outputs["prepared"],
        training=trained.outputs["training"],
        parity=trained.outputs["parity"],
        options=analysis,
        metric=metric,
        seed=seed,
        champion=champion,
    )
    registered = register_model(
        model=model,
        snapshot=ingested.outputs["Output"],
        bundle=trained.outputs["bundle"],
        prepared=prepared.outputs["prepared"],
        training=trained.outputs["training"],
        evaluation=analysed.outputs["evaluation"],
        analysis_page=analysed.outputs["page"],
        data_page=validated.outputs["page"],
        spec=spec,
        seed=seed,
        run_id=run_id,
    )
    # The registry and the server are state outside the graph: these two look at it anew each time.
    registered.set_caching_options(False)
    deployed = deploy_model(
        model=model,
        version=registered.outputs["Output"],
        evaluation=analysed.outputs["evaluation"],
        run_id=run_id,
    )
    deployed.set_caching_options(False)
    version: int = registered.outputs["Output"]
    return version


@dsl.pipeline(name="treadle-feedback", description="Is the champion still good on later rows?")
def feedback_pipeline(model: str, snapshot: str, options: str, metric: str) -> str:
    """Monitor the champion; return the verdict."""
    monitored = monitor_model(model=model, snapshot=snapshot, options=options, metric=metric)
    monitored.set_caching_options(False)
    verdict: str = monitored.outputs["Output"]
    return verdict


@dsl.pipeline(name="treadle-loop", description="Keep models good: look, retrain, roll back.")
def loop_pipeline(model: str) -> int:
    """Run a pass of the monitor over a model, or over all of them; return what it exits with.

    One task: what has to be trained anew is trained in it, as in a Job, because the graph of a
    training that mostly isn't needed would cost its pods each time.
    """
    kept = keep_models(model=model)
    kept.set_caching_options(False)
    code: int = kept.outputs["Output"]
    return code
