"""A spec as the arguments of the graphs."""

import json

from treadle.records import Task
from treadle.spec import Spec


def training_arguments(
    spec: Spec, fingerprint: str, champion: str, run_id: str
) -> dict[str, object]:
    """Return the training graph's arguments: each stage gets its own section, so that a changed
    section leaves the other stages' caches alone.

    ``fingerprint`` stands for the source's content, ``champion`` is the digest of the serving
    model (empty for none).
    """
    return {
        "model": spec.name,
        "target": spec.target,
        "task": _task(spec),
        "source": spec.source.model_dump_json(),
        "fingerprint": fingerprint,
        "validation": spec.validation.model_dump_json(),
        "excluded": json.dumps(spec.preprocessing.exclude, ensure_ascii=False),
        "named": json.dumps(
            {
                "analysis.slices": spec.analysis.slices,
                "analysis.sensitive": spec.analysis.sensitive,
                "analysis.must_not_lose_on": spec.analysis.must_not_lose_on,
            },
            ensure_ascii=False,
        ),
        "preprocessing": spec.preprocessing.model_dump_json(),
        "training": spec.training.model_dump_json(),
        "analysis": spec.analysis.model_dump_json(),
        "metric": spec.training.objective_metric,
        "tuning_share": spec.training.tuning_share,
        "weight": spec.training.sample_weight or "",
        "start_from": champion if spec.training.warm_start else "",
        "seed": spec.training.seed,
        # What steps ask for on a cluster is no part of what makes a version.
        "spec": spec.model_dump_json(exclude={"resources"}),
        "champion": champion,
        "run_id": run_id,
    }


def _task(spec: Spec) -> str:
    """Return the task, empty where it is to be found out. Costs are of two classes: said here, what
    doesn't fit them ends before training and not after."""
    if spec.task is None and spec.analysis.costs:
        return Task.BINARY.value
    return spec.task.value if spec.task else ""


def feedback_arguments(spec: Spec) -> dict[str, object]:
    """Return the feedback graph's arguments: the rows are those that training held out."""
    return {
        "model": spec.name,
        "snapshot": "",
        "options": spec.feedback.model_dump_json(),
        "metric": spec.training.objective_metric,
    }
