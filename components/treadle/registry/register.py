"""Add a version to the registry."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from treadle import bundle as bundles
from treadle.bundle import Bundle
from treadle.evaluation import Evaluation
from treadle.ports import ObjectStore, Registry
from treadle.records import (
    Lineage,
    ModelVersion,
    NewVersion,
    Signature,
    Snapshot,
    Split,
    Training,
)
from treadle.registry import lineage
from treadle.spec import Spec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def run(
    model: str,
    bundle: Bundle,
    snapshot: Snapshot,
    split: Split,
    training: Training,
    evaluation: Evaluation,
    spec: str,
    seed: int,
    run_id: str,
    pages: Mapping[str, Path],
    figures: Mapping[str, Path],
    store: ObjectStore,
    registry: Registry,
    signing_key: "Ed25519PrivateKey | None",
    image: str | None,
) -> ModelVersion:
    """Store the bundle and register it; a version that is there already is returned as it is.

    ``spec`` is the whole spec as JSON; ``pages`` and ``figures`` (name to path) are the report's,
    shown beside the version. The pages are kept with it.
    """
    source = bundles.store_bundle(bundle, store, signing_key)
    former = registry.versions(model) if model in registry.names() else []
    for version in former:
        if _is_same(version, bundle, snapshot, spec):
            return version
    dataset = Spec.model_validate_json(spec).source.dataset or model
    new = NewVersion(
        name=model,
        semver=next_semver(former[0] if former else None, bundle.signature, snapshot, spec),
        digest=bundle.digest,
        source=source,
        signature=bundle.signature,
        metrics=evaluation.metrics,
        decision=evaluation.decision,
        lineage=Lineage(
            run_id=run_id,
            snapshot=snapshot,
            split=split,
            spec=spec,
            family=training.best.family,
            parameters=training.best.parameters,
            units=training.best.units,
            seed=seed,
            code=lineage.code(),
            commit=lineage.commit(),
            python=lineage.python(),
            packages=lineage.packages(),
            environment=lineage.lock(store),
            image=image,
            dataset=dataset,
            dataset_version=lineage.dataset_version(dataset, snapshot, store),
            champion=evaluation.champion_digest,
            who=lineage.who(),
            pages=lineage.pages(pages, store),
        ),
    )
    return registry.register(new, {**pages, **figures}, training=training)


def _is_same(version: ModelVersion, bundle: Bundle, snapshot: Snapshot, spec: str) -> bool:
    origin = version.lineage
    return (version.digest, origin.snapshot.digest, origin.spec) == (
        bundle.digest,
        snapshot.digest,
        spec,
    )


def next_semver(
    former: ModelVersion | None, signature: Signature, snapshot: Snapshot, spec: str
) -> str:
    """Return the next semantic version: a changed signature is major, changed data or parameters
    minor, anything else (a rebuild, another owner) a patch."""
    if former is None:
        return "1.0.0"
    major, minor, patch = (int(part) for part in former.semver.split("."))
    if _interface(former.signature) != _interface(signature):
        return f"{major + 1}.0.0"
    origin = former.lineage
    if (origin.snapshot.digest, _parameters(origin.spec)) != (snapshot.digest, _parameters(spec)):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def _interface(signature: Signature) -> tuple[object, ...]:
    """What who asks for predictions must know: the order of the features is not among it."""
    features = sorted((f.name, f.kind, f.nullable) for f in signature.features)
    return signature.task, signature.target, features, signature.classes


# The parts of a spec that change what is learned from the same rows.
_LEARNING = ("target", "task", "validation", "preprocessing", "training")


def _parameters(spec: str) -> dict[str, object]:
    """Return what of a spec decides what is learned. An earlier release's spec is read as this one
    would read it; where it can't be, it counts as another."""
    try:
        whole = Spec.model_validate_json(spec).model_dump(mode="json")
    except ValidationError:
        whole = json.loads(spec)
    return {name: whole.get(name) for name in _LEARNING}
