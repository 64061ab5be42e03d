"""Run, code and environment behind a version."""

import getpass
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from treadle import __version__, datasets
from treadle.code import code_digest
from treadle.ports import ObjectStore
from treadle.records import Snapshot

# What a prediction depends on; the whole environment is in the lock.
PACKAGES = ("scikit-learn", "numpy", "pandas", "pyarrow", "onnx", "skl2onnx", "onnxruntime",
            "duckdb", "ray", "optuna", "mlflow")  # fmt: skip
# Where the steps' image says which commit it was built from.
COMMIT = "TREADLE_COMMIT"


def code() -> str:
    """Return Treadle's version and the digest of its source."""
    return f"{__version__}+{code_digest()}"


def commit(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the commit that the image was built from, or the working directory's, with ``+dirty``
    if files differ from it; None outside both."""
    if environment.get(COMMIT):
        return environment[COMMIT]
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None
    return f"{head}+dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def packages() -> dict[str, str]:
    """Return the versions of the packages that a prediction depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def dataset_version(name: str, snapshot: Snapshot, store: ObjectStore) -> int | None:
    """Return the number of the dataset's version that has the snapshot's rows, from 1; None where
    there is none, as in a registry whose rows are kept elsewhere."""
    digests = [version.digest for version in datasets.versions(name, store)]
    return digests.index(snapshot.digest) + 1 if snapshot.digest in digests else None


def lock(store: ObjectStore) -> str:
    """Keep the versions of all that is installed, a line each as pip reads it; return the key."""
    lines = sorted({f"{found.name}=={found.version}" for found in distributions()}, key=str.lower)
    return _keep("".join(f"{line}\n" for line in lines).encode(), "environments", ".txt", store)


def pages(files: Mapping[str, Path], store: ObjectStore) -> dict[str, str]:
    """Keep the report's pages; return their keys."""
    return {
        name: _keep(path.read_bytes(), "pages", path.suffix or ".html", store)
        for name, path in files.items()
    }


def _keep(content: bytes, folder: str, ending: str, store: ObjectStore) -> str:
    key = f"{folder}/{hashlib.sha256(content).hexdigest()[:32]}{ending}"
    if not store.exists(key):
        store.put_bytes(key, content)
    return key


def python() -> str:
    """Return Python's version and the machine's kind."""
    return f"{platform.python_version()} {platform.machine()}"


def who() -> str:
    """Return the name of the user that runs this; empty where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
