"""Run, code and environment behind a version."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from treadle import __version__
from treadle.code import code_digest

# What a prediction depends on; the whole environment is in the lock.
PACKAGES = ("scikit-learn", "numpy", "pandas", "pyarrow", "onnx", "skl2onnx", "onnxruntime",
            "duckdb", "ray", "optuna", "mlflow")  # fmt: skip


def code() -> str:
    """Return Treadle's version and the digest of its source."""
    return f"{__version__}+{code_digest()}"


def commit() -> str | None:
    """Return the working directory's git commit, with ``+dirty`` if files differ from it; None
    outside a repository."""
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


def python() -> str:
    """Return Python's version and the machine's kind."""
    return f"{platform.python_version()} {platform.machine()}"
