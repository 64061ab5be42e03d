"""Add a version to the registry."""

from collections.abc import Mapping
from pathlib import Path

from treadle import bundle as bundles
from treadle.bundle import Bundle
from treadle.ports import ObjectStore, Registry
from treadle.records import (
    Evaluation,
    Lineage,
    ModelVersion,
    NewVersion,
    Signature,
    Snapshot,
    Split,
    Training,
)
from treadle.registry import lineage


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
    files: Mapping[str, Path],
    store: ObjectStore,
    registry: Registry,
) -> ModelVersion:
    """Store the bundle and register it; a version that is there already is returned as it is.

    ``spec`` is the whole spec as JSON; ``files`` (name to path) are shown beside the version.
    """
    former = registry.versions(model) if model in registry.names() else []
    for version in former:
        if _is_same(version, bundle, snapshot, spec):
            return version
    new = NewVersion(
        name=model,
        semver=next_semver(former[0] if former else None, bundle.signature, snapshot, spec),
        digest=bundle.digest,
        source=bundles.store_bundle(bundle, store),
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
            seed=seed,
            code=lineage.code(),
            commit=lineage.commit(),
            python=lineage.python(),
            packages=lineage.packages(),
        ),
    )
    return registry.register(new, files)


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
    """Return the next semantic version: a changed signature is major, changed data or spec minor,
    anything else (a rebuild) a patch."""
    if former is None:
        return "1.0.0"
    major, minor, patch = (int(part) for part in former.semver.split("."))
    if (former.signature.features, former.signature.classes) != (
        signature.features,
        signature.classes,
    ):
        return f"{major + 1}.0.0"
    if (former.lineage.snapshot.digest, former.lineage.spec) != (snapshot.digest, spec):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"
