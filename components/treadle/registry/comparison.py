"""What tells two versions of a model apart."""

from collections.abc import Iterator, Mapping

from treadle.records import Metric, ModelVersion, Record, Signature


class Difference(Record):
    """One thing as it is in two versions; ``same`` where it is equal."""

    what: str
    one: str
    other: str

    @property
    def same(self) -> bool:
        """Say whether it is equal in both."""
        return self.one == self.other


def compare(one: ModelVersion, other: ModelVersion) -> list[Difference]:
    """Return every metric of both, and of all else what differs."""
    first = {m.name: _metric(m) for m in one.metrics}
    second = {m.name: _metric(m) for m in other.metrics}
    metrics = list(_paired(first, second))
    rest = [d for d in _paired(_facts(one), _facts(other)) if not d.same]
    return metrics + rest


def _paired(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Difference]:
    for what in {**one, **other}:
        yield Difference(what=what, one=one.get(what, "none"), other=other.get(what, "none"))


def _metric(m: Metric) -> str:
    return f"{m.value:.4g} ({m.low:.4g} … {m.high:.4g})"


def _facts(version: ModelVersion) -> dict[str, str]:
    origin, split = version.lineage, version.lineage.split
    return {
        "bundle": version.digest[:12],
        "gate": "yes" if version.decision.passed else "no",
        "family": origin.family,
        **{name: f"{value:.6g}" if isinstance(value, float) else str(value)
           for name, value in origin.parameters.items()},
        "seed": str(origin.seed),
        "snapshot": f"{origin.snapshot.digest[:12]} ({origin.snapshot.rows:,} rows)",
        **({"dataset": f"{origin.dataset} version {origin.dataset_version}"}
           if origin.dataset_version else {}),
        "split": f"{split.by}, {split.train_rows:,} + {split.test_rows:,} rows",
        **_features(version.signature),
        "code": origin.code,
        "commit": origin.commit or "unknown",
        "python": origin.python,
        **origin.packages,
        "image": origin.image or "none",
        "made by": origin.who or "unknown",
    }  # fmt: skip


def _features(signature: Signature) -> dict[str, str]:
    named = {
        f"feature {f.name}": f.kind.value + ("" if f.nullable else ", never null")
        for f in signature.features
    }
    return {"target": signature.target, "classes": ", ".join(signature.classes), **named}
