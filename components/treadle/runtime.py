"""The composition root: settings to adapters. The only place that chooses."""

import math
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from treadle import signing
from treadle.bundle import Bundle
from treadle.config import LOCAL, Settings
from treadle.errors import RegistryError, nearest
from treadle.halving import Crew, Halving
from treadle.ports import ObjectStore, Outside, Registry
from treadle.records import Candidate, ModelVersion
from treadle.search import Proposer, SearchCluster, SearchProblem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from treadle.adapters.kubernetes import Cluster
    from treadle.adapters.model_server import HttpServer


# As many digits of a digest name a version.
DIGEST_DIGITS = 8
# What it takes an autoscaling cluster to have its first worker (a pod, its image there already).
NODE_START_S = 20.0


@cache
def settings() -> Settings:
    """Return this process's settings."""
    return Settings.from_environment()


@cache
def object_store() -> ObjectStore:
    """Return the object store: S3 where the settings name one, else a directory."""
    chosen = settings().object_store
    if chosen and chosen.startswith("s3://"):
        from treadle.adapters.s3 import S3Store

        return S3Store.from_settings(settings())
    from treadle.adapters.filesystem import DirectoryStore

    return DirectoryStore(Path(chosen) if chosen else settings().home / "objects")


@cache
def outside() -> Outside:
    """Return the way to files that are not on this machine."""
    from treadle.adapters import outside as adapter

    return adapter.Outside(settings())


@cache
def registry() -> Registry:
    """Return the registry: an MLflow server where the settings name one, else SQLite."""
    if settings().mlflow_uri:
        from treadle.adapters.mlflow import MlflowRegistry

        return MlflowRegistry(settings().mlflow_uri or "")
    from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry

    home = settings().home
    home.mkdir(parents=True, exist_ok=True)
    return SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")


@contextmanager
def registry_beside() -> Iterator[Callable[[], None]]:
    """Yield a function that starts making the embedded registry's database, where there is none
    yet: it takes seconds, which training has to spare. It has ended when the block is left."""
    begun: list[tuple[subprocess.Popen[bytes], Thread]] = []

    def begin() -> None:
        home = settings().home
        if begun or settings().mlflow_uri or (home / "mlflow.db").exists():
            return
        from treadle.adapters import mlflow_database

        command = mlflow_database.command(home / "mlflow.db", home / "mlflow-artifacts")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Waited for from the start: a process that nobody waits for stays behind as a zombie.
        waiting = Thread(target=process.wait, daemon=True)
        waiting.start()
        begun.append((process, waiting))

    try:
        yield begin
    finally:
        for process, waiting in begun:
            if waiting.is_alive():
                process.send_signal(signal.SIGINT)
                waiting.join(timeout=10)
                process.kill()
            waiting.join()


def version(model: str, words: str | int) -> ModelVersion:
    """Return a version by its number, semantic version or (the beginning of) its digest. Raises
    RegistryError where there is none."""
    wanted = str(words).removeprefix("v")
    versions = registry().versions(model)
    found = [v for v in versions if wanted in (str(v.version), v.semver)]
    if not found and len(wanted) >= DIGEST_DIGITS:
        found = [v for v in versions if v.digest.startswith(wanted)]
    if not found:
        names = [name for v in versions for name in (str(v.version), v.semver)]
        known = ", ".join(f"{v.version} ({v.semver})" for v in versions[:20])
        raise RegistryError(
            f"{model} has no version {words}{nearest(wanted, names) or f' (it has {known})'}"
        )
    return found[0]


# Stands for the digest of whichever model serves when a step looks: a cluster's launcher doesn't
# know it beforehand.
CURRENT = "current"


def champion_digest(model: str, digest: str) -> str:
    """Return ``digest``, or the serving model's for CURRENT; empty where there is none."""
    if digest != CURRENT:
        return digest
    found = registry().aliased(model, "champion")
    return found.digest if found else ""


def champion(model: str, digest: str) -> tuple[ModelVersion, Bundle] | None:
    """Return the champion that has ``digest`` (or CURRENT), with its bundle; None for an empty
    digest."""
    digest = champion_digest(model, digest)
    if not digest:
        return None
    found = next(v for v in registry().versions(model) if v.digest == digest)
    return found, bundle(digest)


def made_of(model: str, digest: str) -> Candidate | None:
    """Return what the champion that has ``digest`` (or CURRENT) is made of; None for an empty
    digest."""
    digest = champion_digest(model, digest)
    if not digest:
        return None
    origin = next(v for v in registry().versions(model) if v.digest == digest).lineage
    return Candidate(number=0, family=origin.family, parameters=origin.parameters)


def serving_champion(model: str) -> tuple[ModelVersion, Bundle]:
    """Return the champion and its bundle. Raises RegistryError where there is none."""
    found = serving_champion_version(model)
    return found, bundle(found.digest)


def serving_champion_version(model: str) -> ModelVersion:
    """Return the champion. Raises RegistryError where there is none."""
    found = registry().aliased(model, "champion")
    if found is None:
        registry().versions(model)  # raises, naming the nearest, for an unknown model
        raise RegistryError(f"{model} has no champion: the gate has let no version through yet")
    return found


def bundle(digest: str) -> Bundle:
    """Open a stored bundle. Raises ModelError where it is missing or altered, or where a key is
    set and it isn't signed with it."""
    return Bundle.fetch(digest, object_store(), cores(), verify_key=verify_key())


@cache
def signing_key() -> "Ed25519PrivateKey | None":
    """Return the key that bundles are signed with, if one is set."""
    words = settings().signing_key
    return signing.private_key(words) if words else None


@cache
def verify_key() -> "Ed25519PublicKey | None":
    """Return the key that bundles must be signed with, if one is set."""
    words = settings().verify_key
    if words:
        return signing.public_key(words)
    private = signing_key()
    return private.public_key() if private else None


def proposer(problem: SearchProblem) -> Proposer:
    """Return what proposes a search's candidates."""
    from treadle.adapters.optuna import TpeProposer

    return TpeProposer(problem)


def crew() -> Crew:
    """Return Ray Tune on this machine, to be started where it pays, or where the settings say
    so."""

    def run(halving: Halving) -> None:
        from treadle.adapters import ray

        ray.lead_here(halving, cores())

    return Crew(run, start_s=6.0, cores=cores(), always=settings().ray_address == LOCAL)


def spread(
    call: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any], size_bytes: int
) -> Generator[tuple[Any, Any]]:
    """Call a function for each item, by Ray on this machine."""
    from treadle.adapters import ray_tasks

    yield from ray_tasks.spread(call, shared, items, size_bytes, cores())


def cluster_crew(name: str) -> Crew:
    """Join the Ray cluster that this process is a job of; return Ray Tune there. Its checkpoints
    lie beside the reports of the search ``name``, where every node reaches them."""
    from treadle.adapters import ray
    from treadle.adapters.ray_storage import storage_at

    storage = storage_at(object_store().uri(f"searches/{name}/tune"), settings())
    ray.join_cluster()
    cores = _cluster_cores()
    return Crew(
        lambda halving: ray.lead(halving, storage, cores),
        start_s=2.0 if ray.cluster_cores() else NODE_START_S,
        cores=cores,
        always=settings().ray_address == LOCAL,
        relieves=not ray.works_here(),
    )


def cluster_spread() -> tuple[int, Callable[..., Generator[tuple[Any, Any]]], bool]:
    """Join the Ray cluster that this process is a job of; return its cores, what calls a function
    for each item there, and whether it always does."""
    from treadle.adapters import ray, ray_tasks

    ray.join_cluster()
    cores = _cluster_cores()

    def there(
        call: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any], size_bytes: int
    ) -> Generator[tuple[Any, Any]]:
        yield from ray_tasks.spread_there(call, shared, items, cores)

    return cores, there, settings().ray_address == LOCAL


def _cluster_cores() -> int:
    """Return the cores of the cluster that was joined. Ray doesn't say what its autoscaler may
    start; work that waits is what makes it start nodes."""
    from treadle.adapters import ray

    return max(ray.cluster_cores(), settings().ray_cores or 1)


def search_cluster() -> SearchCluster | None:
    """Return the Ray cluster that the settings name, to submit searches to; None for none."""
    address = settings().ray_address
    if not address or address == LOCAL:
        return None
    from treadle.adapters.ray_jobs import RayJobs

    chosen = settings()
    if not chosen.object_store:
        chosen = replace(chosen, object_store=str(chosen.home / "objects"))
    return RayJobs(address, chosen.for_cluster())


def free_memory_bytes() -> int:
    """Return the memory that this machine, or this container, has left."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def npm_package(name: str, version: str, integrity: str) -> Path:
    """Return the archive of an npm package, from the cache under the home if it is there."""
    from treadle.adapters import npm

    registry = settings().npm_registry or ""
    return npm.fetched(name, version, integrity, registry, settings().home / "cache" / "npm")


def cores() -> int:
    """Return how many processors this process may use: a container's limit counts."""
    every = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return max(1, math.ceil(min(len(every), _cpu_quota(Path("/sys/fs/cgroup")))))


def _cpu_quota(root: Path) -> float:
    """Return the processors that the cgroup at ``root`` grants (version 2, then 1); infinity
    without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue  # another version, or no Linux
        return float(quota) / float(period) if quota not in ("max", "-1") else math.inf
    return math.inf


def cluster(say: Callable[[str], None], outage_s: float = 60.0) -> "Cluster":
    """Return the Kubernetes cluster that the settings name; ``say`` is told of progress. An API
    server that doesn't answer is waited for ``outage_s``."""
    from treadle.adapters.kubernetes import Cluster

    chosen = settings()
    return Cluster.connect(chosen.kube_context, chosen.namespace or "treadle", say, outage_s)


@contextmanager
def serving() -> Iterator["HttpServer"]:
    """Yield the model server: the one the settings name, or one started for the occasion."""
    from treadle.adapters import model_server

    url = settings().server_url
    if url:
        yield model_server.HttpServer(url, api_key=settings().server_api_key)
        return
    with model_server.started(settings()) as server:
        yield server
