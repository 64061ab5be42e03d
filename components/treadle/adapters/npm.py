"""Packages of an npm registry, by name, version and digest; kept in a cache."""

import base64
import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from treadle.errors import StoreError
from treadle.writing import written_aside

TIMEOUT_S = 60


def fetched(name: str, version: str, integrity: str, registry: str, cache: Path) -> Path:
    """Return the package's archive, downloaded unless it is in ``cache``. ``integrity`` is what npm
    calls so: ``sha512-`` and the digest in base64. Raises StoreError."""
    path = cache / f"{name.replace('/', '-')}-{version}.tgz"
    url = f"{registry.rstrip('/')}/{quote(name)}/-/{name.rpartition('/')[2]}-{version}.tgz"
    if not path.exists():
        content = _downloaded(url, path)
        if _integrity(content) != integrity:
            raise StoreError(f"{url} gave another package than the one that this Treadle was made "
                             f"with: its digest is {_integrity(content)}")  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(content)
    elif _integrity(path.read_bytes()) != integrity:
        raise StoreError(f"{path} isn't what {url} gives: remove it, and it is downloaded again")
    return path


def _downloaded(url: str, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - by settings
            return bytes(answer.read())
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise StoreError(
            f"{url} can't be downloaded: {reason}; set TREADLE_NPM_REGISTRY to a registry that "
            f"answers, or download it elsewhere and put it to {path}"
        ) from error


def _integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
