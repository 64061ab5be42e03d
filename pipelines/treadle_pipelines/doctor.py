"""``treadle doctor``: what Treadle has here, whether it works, and what to do where it doesn't."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version as installed
from time import perf_counter
from uuid import uuid4

from treadle import runtime
from treadle.bundle import SIGNATURE, key
from treadle.errors import EnvironmentFault, RegistryError, TreadleError, from_os_error
from treadle.registry import lineage
from treadle_pipelines import job_runs, kfp_runs

LEAST_FREE_BYTES = 2 << 30
LEAST_MEMORY_BYTES = 4 << 30
OUTAGE_S = 5.0
# The packages that most faults come down to, beside those a prediction depends on.
PACKAGES = ("treadle", "kfp", "bentoml", "kubernetes", "minio")

NEEDS = {"bundles": ("object store", "registry")}


class Health(StrEnum):
    """How something is. ``absent``: nothing was set, and nothing is amiss."""

    OK = "ok"
    ABSENT = "not set"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what a person should know."""

    about: str
    health: Health
    words: str


def examine() -> list[Finding]:
    """Look at everything, one after another; what is broken doesn't keep from the rest."""
    looks: dict[str, Callable[[], tuple[Health, str]]] = {
        "machine": _machine,
        "packages": _packages,
        "home": _home,
        "object store": _object_store,
        "registry": _registry,
        "bundles": _bundles,
        "signing": _signing,
        "model server": _server,
        "ray": _ray,
        "pipelines": _pipelines,
        "kubernetes": _kubernetes,
    }
    findings: list[Finding] = []
    for about, look in looks.items():
        found = _needed_and_broken(about, findings) or _looked(about, look)
        above = next((f.about for f in findings if f.words == found.words), None)
        findings.append(replace(found, words=f"as for the {above}") if above else found)
    return findings


def _looked(about: str, look: Callable[[], tuple[Health, str]]) -> Finding:
    try:
        return Finding(about, *look())
    except TreadleError as error:
        return Finding(about, Health.FAULT, str(error))


def _needed_and_broken(about: str, findings: list[Finding]) -> Finding | None:
    """Return the fault of what a look needs: to ask that once more would only wait as long."""
    needed = NEEDS.get(about, ())
    broken = (f for f in findings if f.about in needed and f.health is Health.FAULT)
    return next((Finding(about, Health.FAULT, fault.words) for fault in broken), None)


def told(findings: list[Finding], as_json: bool) -> str:
    """Return a line a finding."""
    if as_json:
        listed = [finding.__dict__ for finding in findings]
        return json.dumps({"findings": listed, "well": is_well(findings)}, ensure_ascii=False)
    wide = max(len(finding.about) for finding in findings)
    return "\n".join(f"{f.health:8}{f.about:{wide + 2}}{f.words}" for f in findings)


def is_well(findings: list[Finding]) -> bool:
    """Say whether nothing is broken."""
    return all(finding.health is not Health.FAULT for finding in findings)


def _machine() -> tuple[Health, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = runtime.cores()
    words = f"Python {lineage.python()}, {cores} core{'s' * (cores != 1)}, {_gib(memory)} of memory"
    if memory < LEAST_MEMORY_BYTES:
        return Health.WARNING, (
            f"{words}: a table of some 100,000 rows needs {_gib(LEAST_MEMORY_BYTES)}"
        )
    return Health.OK, f"{words}, {platform.system()} {platform.release()}"


def _packages() -> tuple[Health, str]:
    versions = {name: installed(name) for name in PACKAGES} | lineage.packages()
    return Health.OK, ", ".join(f"{name} {version}" for name, version in versions.items())


def _home() -> tuple[Health, str]:
    home = runtime.settings().home
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"treadle")
        free = shutil.disk_usage(there).free
    except OSError as error:
        error.filename = str(there)
        known = from_os_error(error)
        raise known or EnvironmentFault(f"{there} can't be written: {error}") from error
    state = "" if home.exists() else ", made by the first run"
    words = f"{home}{state}, {_gib(free)} free"
    if free < LEAST_FREE_BYTES:
        return Health.WARNING, f"{words}: free some space, or name another place with --home"
    return Health.OK, words


def _object_store() -> tuple[Health, str]:
    """Put a blob, read it and take it away again."""
    store, place, content = runtime.object_store(), f"doctor/{uuid4().hex}", uuid4().bytes
    begin = perf_counter()
    if not runtime.settings().object_store and not runtime.settings().home.exists():
        return Health.OK, "objects under the home, made by the first run"
    try:
        store.put_bytes(place, content)
        is_equal = store.get_bytes(place) == content
    finally:
        store.delete(place)
    address = store.uri(place).removesuffix(f"/{place}")
    if not is_equal:
        raise EnvironmentFault(f"{address} gives back other bytes than were put there")
    return Health.OK, f"{address} written, read and deleted in {_since(begin)}"


def _registry() -> tuple[Health, str]:
    if not _has_registry():
        return Health.OK, "SQLite under the home, made by the first run"
    begin = perf_counter()
    aliases = runtime.registry().aliases()
    champions = sum("champion" in each for each in aliases.values())
    models = f"{len(aliases):,} model{'s' * (len(aliases) != 1)}"
    return Health.OK, f"{models}, {champions:,} with a champion, read in {_since(begin)}"


def _bundles() -> tuple[Health, str]:
    """See that each champion's bundle lies in the store."""
    if not _has_registry():
        return Health.OK, "none yet"
    missing = [name for name, digest in _champions() if not _is_stored(digest)]
    if missing:
        named = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise RegistryError(
            f"the bundle of {named} isn't in the object store: name the store that belongs to this "
            "registry in TREADLE_OBJECT_STORE, or treadle restore a backup"
        )
    return Health.OK, "every champion's is in the object store"


def _has_registry() -> bool:
    chosen = runtime.settings()
    return bool(chosen.mlflow_uri) or (chosen.home / "mlflow.db").exists()


def _champions() -> Iterator[tuple[str, str]]:
    registry = runtime.registry()
    for name, aliases in registry.aliases().items():
        found = registry.aliased(name, "champion") if "champion" in aliases else None
        if found is not None:
            yield name, found.digest


def _is_stored(digest: str) -> bool:
    return runtime.object_store().exists(key(digest, SIGNATURE))


def _signing() -> tuple[Health, str]:
    if runtime.signing_key() is not None:
        return Health.OK, "bundles are signed, and must be"
    if runtime.verify_key() is not None:
        return Health.OK, "bundles must be signed; none can be here"
    return Health.ABSENT, "bundles aren't signed (TREADLE_SIGNING_KEY)"


def _server() -> tuple[Health, str]:
    url = runtime.settings().server_url
    if url is None:
        return Health.ABSENT, "one is started to prove a new model (TREADLE_SERVER_URL)"
    with runtime.serving() as server:
        if server.is_ready():
            return Health.OK, f"{url} is ready"
    raise EnvironmentFault(
        f"the model server at {url} isn't ready: start it with treadle serve, or mend "
        "TREADLE_SERVER_URL"
    )


def _ray() -> tuple[Health, str]:
    address = runtime.settings().ray_address
    cluster = runtime.search_cluster()
    if cluster is None:
        always = ", always" if address else " where it pays"
        return Health.ABSENT, f"training uses this machine, with Ray{always} (TREADLE_RAY_ADDRESS)"
    begin = perf_counter()
    version = cluster.versions()["Ray"]
    return Health.OK, f"Ray {version}, as here, takes jobs at {address}, asked in {_since(begin)}"


def _pipelines() -> tuple[Health, str]:
    url = runtime.settings().kfp_url
    if url is None:
        return Health.ABSENT, "treadle submit makes a Kubernetes Job (TREADLE_KFP_URL)"
    if kfp_runs.answers(url):
        return Health.OK, f"Kubeflow Pipelines answers at {url}"
    raise EnvironmentFault(f"Kubeflow Pipelines doesn't answer at {url}: mend TREADLE_KFP_URL")


def _kubernetes() -> tuple[Health, str]:
    """Look at the cluster; that there is none is a fault only where one was named."""
    try:
        cluster = runtime.cluster(lambda words: None, outage_s=OUTAGE_S)
        version = job_runs.check(cluster)
    except TreadleError as error:
        if runtime.settings().kube_context:
            raise
        return Health.ABSENT, f"treadle submit isn't possible: {error}"
    return Health.OK, f"{version} at {cluster.address}, namespace {cluster.namespace}"


def _since(begin: float) -> str:
    return f"{(perf_counter() - begin) * 1000:.0f} ms"


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
