"""Settings: where this machine or cluster keeps things. They come from the environment, never
from the spec, so that one spec runs anywhere. Parsed once; domain code never reads the
environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from treadle.code import code_digest
from treadle.errors import SpecError, nearest

PREFIX = "TREADLE_"
# The steps' image. Its tag is the digest of the code, so that no cache hides a changed step.
STEP_IMAGE = os.environ.get("TREADLE_STEP_IMAGE") or f"treadle-step:{code_digest()}"
# Kubernetes tells every pod of every Service: one called treadle-server gives
# TREADLE_SERVER_SERVICE_HOST, TREADLE_SERVER_PORT_3000_TCP_ADDR and the like.
_KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT|_PORT$|_PORT_\d+_")
# Set by the launcher for its steps and by the image's build, not by people.
_INTERNAL = {"TREADLE_COMMIT", "TREADLE_EVENTS", "TREADLE_RUN_ID", "TREADLE_LAUNCHER_PID"}


LOCAL = "local"
_SCHEMES = {
    "mlflow_uri": ("http", "https", "sqlite", "postgresql", "mysql"),
    "server_url": ("http", "https"),
    "kfp_url": ("http", "https"),
    "npm_registry": ("http", "https"),
    "webhook_url": ("http", "https"),
    "ray_address": ("http", "https"),
}


# Settings that are numbers: their kind, the least and the most that can be meant.
_NUMBERS: dict[str, tuple[type[int] | type[float], float, float]] = {
    "server_memory_mib": (int, 16, 2**30),
    "server_body_mib": (int, 1, 1024),
    "prediction_log_share": (float, 0, 1),
    "prediction_log_every_s": (float, 0.5, 3600),
    "shadow_share": (float, 0, 1),
    "ray_cores": (int, 1, 100_000),
}


def _setting(words: str, default: str | None = None, secret: bool = False) -> str | None:
    metadata = {"words": words, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable ``TREADLE_<FIELD>``."""

    home: Path = field(
        default=Path(".treadle"),
        metadata={"words": "directory of the embedded default: objects, registry, runs"},
    )
    object_store: str | None = _setting(
        "s3://bucket/prefix or a directory; default: objects/ under the home"
    )
    s3_endpoint: str | None = _setting("S3 endpoint, as http(s)://host:port or host:port")
    s3_region: str | None = _setting("S3 region", default="us-east-1")
    s3_access_key: str | None = _setting("S3 access key")
    s3_secret_key: str | None = _setting("S3 secret key", secret=True)
    source_password: str | None = _setting(
        "password of a database in source.path whose address names a user alone", secret=True
    )
    # Addresses may hold a password, so they are not shown either.
    mlflow_uri: str | None = _setting("MLflow server; default: SQLite under the home", secret=True)
    signing_key: str | None = _setting(
        "private ed25519 key (PEM, or a file of it) that bundles are signed with", secret=True
    )
    verify_key: str | None = _setting(
        "public ed25519 key (PEM, or a file of it): bundles without its signature are refused"
    )
    server_url: str | None = _setting(
        "a running model server that deployment waits for; default: one is started to prove it",
        secret=True,
    )
    server_api_key: str | None = _setting(
        "key that clients of the model server must send; default: none is asked for", secret=True
    )
    server_memory_mib: int = field(
        default=1024, metadata={"words": "memory for loaded models, in MiB"}
    )
    server_body_mib: int = field(default=32, metadata={"words": "largest request, in MiB"})
    prediction_log_share: float = field(
        default=1.0, metadata={"words": "share of requests in the prediction log, 0 to 1"}
    )
    prediction_log_every_s: float = field(
        default=60.0, metadata={"words": "seconds after which predictions are in the log"}
    )
    webhook_url: str | None = _setting(
        "where the loop's decisions are sent to, as CloudEvents", secret=True
    )
    shadow_share: float = field(
        default=0.0,
        metadata={"words": "share of requests that the challenger sees a copy of, 0 to 1"},
    )
    ray_address: str | None = _setting(
        "a Ray cluster's job API, as in http://head:8265, that training is submitted to; `local`: "
        "Ray on this machine; default: this machine, with Ray where it pays"
    )
    ray_cores: int | None = field(
        default=None,
        metadata={"words": "cores that the Ray cluster can grow to; default: those it has"},
    )
    step_image: str | None = _setting("container image of the steps; default: by content")
    npm_registry: str | None = _setting(
        "npm registry that the browser's runtime comes from", default="https://registry.npmjs.org"
    )
    kfp_url: str | None = _setting("Kubeflow Pipelines, as http(s)://host:port", secret=True)
    kube_context: str | None = _setting("context of the kubeconfig; default: its current one")
    namespace: str | None = _setting("namespace of jobs and runs", default="treadle")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Parse ``TREADLE_*``. Raises SpecError for an unknown name or a bad value."""
        known = {PREFIX + f.name.upper(): f.name for f in fields(cls)}
        given: dict[str, str] = {}
        for name, value in environment.items():
            if not name.startswith(PREFIX) or name in _INTERNAL or _KUBERNETES.search(name):
                continue
            if name not in known:
                raise SpecError(f"unknown setting {name}{nearest(name, known)}")
            if value:
                given[known[name]] = value
        home = Path(given.pop("home", ".treadle")).expanduser().absolute()
        numbers = {name: _number(name, given.pop(name)) for name in _NUMBERS if name in given}
        return cls(home=home, **numbers, **given)._checked()  # type: ignore[arg-type]

    def _checked(self) -> "Settings":
        for name, schemes in _SCHEMES.items():
            value = getattr(self, name)
            if name == "ray_address" and value == LOCAL:
                continue
            scheme = urlsplit(value).scheme if value else None
            if scheme is not None and scheme not in schemes:
                known = ", ".join(f"{known}://" for known in schemes)
                shown = f"begins with {scheme}://" if scheme else "has no scheme"
                raise SpecError(f"TREADLE_{name.upper()} {shown}; it must begin with {known}")
        return self

    def shown(self) -> dict[str, str]:
        """Return the variables that were set to something else than their default, but for the
        home and for what is secret."""
        own = [f for f in fields(self) if f.name != "home" and not f.metadata.get("secret")]
        values = ((f.name, getattr(self, f.name), f.default) for f in own)
        return {
            PREFIX + name.upper(): str(value) for name, value, default in values if value != default
        }

    def for_cluster(self) -> dict[str, str]:
        """Return what a job on a cluster must be told to find the object store. Secrets it has
        from its own environment: what a job is told, everybody sees on Ray's dashboard."""
        told = ("object_store", "s3_endpoint", "s3_region", "ray_cores")
        values = ((name, getattr(self, name)) for name in told)
        return {PREFIX + name.upper(): str(value) for name, value in values if value}

    def as_environment(self) -> dict[str, str]:
        """Return the variables that give a child process these same settings."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {PREFIX + name.upper(): str(value) for name, value in values if value is not None}


def _number(name: str, text: str) -> float:
    """Read a setting that is a number. Raises SpecError for one that can't be meant."""
    kind, least, most = _NUMBERS[name]
    try:
        value = kind(text)
    except ValueError:
        value = kind(least) - 1
    if not least <= value <= most:
        wanted = "a whole number" if kind is int else "a number"
        raise SpecError(
            f"{PREFIX}{name.upper()}={text!r:.60} must be {wanted} from {least} to {most}"
        )
    return value
