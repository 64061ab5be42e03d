"""What a graph's steps need on the Kubeflow Pipelines back end and nowhere else: their settings and
secrets by reference, what they ask for, retries, and which of them may be cached. ``kfp.local``
gets the graphs without it.
"""

from dataclasses import fields
from functools import wraps
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context

from treadle.config import PREFIX, Settings
from treadle.spec import Resources, Stage
from treadle_pipelines.job import SECRET, SETTINGS, SIGNING, USER

HOME = "/tmp/treadle"  # noqa: S108 - the pod's own
# How long after its beginning a step may be tried again. Argo counts the step's own work too, and
# ends what is still running then: so it is more than any step takes.
RETRY_WITHIN = "604800s"
_STAGES = {
    "ingest-data": Stage.INGEST,
    "validate-data": Stage.VALIDATE,
    "prepare-data": Stage.PREPROCESS,
    "train-model": Stage.TRAIN,
    "analyse-model": Stage.ANALYSE,
    "register-model": Stage.REGISTER,
    "deploy-model": Stage.DEPLOY,
    "monitor-model": Stage.FEEDBACK,
    "keep-models": Stage.FEEDBACK,
}
# Preprocessing and training depend on their inputs alone, which name snapshots by digest. The
# others look at the source, the serving model, the registry or the server.
_CACHED = {Stage.PREPROCESS, Stage.TRAIN}
# Without these two a step would write into its own pod, and all would be lost.
_REQUIRED = ("object_store", "mlflow_uri")
_SECRET = ("s3_access_key", "s3_secret_key")
# Deployment sends the key to the server, and ingestion the password to a database, where one is
# asked for.
_OPTIONAL_SECRET = ("server_api_key", "source_password")
# The one step that signs, and no other, gets the key.
_SIGNING = ("signing_key",)
_NOT_FOR_STEPS = {
    "home", "step_image", "kfp_url", "kube_context", "namespace", "npm_registry",
    "server_memory_mib", "server_body_mib", "prediction_log_share", "prediction_log_every_s",
    "shadow_share",
}  # fmt: skip


def on_cluster(graph: Any, resources: Resources) -> Any:
    """Return the graph as the back end is to run it."""

    @wraps(graph.pipeline_func)
    def placed(*arguments: Any, **named: Any) -> Any:
        outputs = graph.pipeline_func(*arguments, **named)
        for task in pipeline_context.Pipeline.get_default_pipeline().tasks.values():
            _place(task, _STAGES[task.name], resources)
        return outputs

    return dsl.pipeline(name=graph.name, description=graph.description)(placed)


def _place(task: Any, stage: Stage, resources: Resources) -> None:
    asked = resources.of(stage)
    task.set_cpu_request(f"{asked.cpu:g}").set_cpu_limit(f"{asked.cpu_limit:g}")
    task.set_memory_request(asked.memory).set_memory_limit(asked.memory)
    task.set_retry(
        num_retries=asked.retries,
        backoff_duration="10s",
        backoff_factor=2,
        backoff_max_duration=RETRY_WITHIN,
    )
    task.set_caching_options(stage in _CACHED)
    task.set_env_variable(f"{PREFIX}HOME", HOME)
    known = {f.name for f in fields(Settings)}
    secret = {*_SECRET, *_OPTIONAL_SECRET, *_SIGNING}
    optional = known - {*_REQUIRED, *secret, *_NOT_FOR_STEPS}
    kubernetes.use_config_map_as_env(task, SETTINGS, _variables(_REQUIRED))
    kubernetes.use_config_map_as_env(task, SETTINGS, _variables(sorted(optional)), optional=True)
    kubernetes.use_secret_as_env(task, SECRET, _variables(_SECRET))
    kubernetes.use_secret_as_env(task, SECRET, _variables(_OPTIONAL_SECRET), optional=True)
    if stage is Stage.REGISTER:
        kubernetes.use_secret_as_env(task, SIGNING, _variables(_SIGNING), optional=True)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "treadle")
    # Ray keeps its objects in shared memory.
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit="1Gi")  # noqa: S108


def _variables(names: Any) -> dict[str, str]:
    return {PREFIX + name.upper(): PREFIX + name.upper() for name in names}
