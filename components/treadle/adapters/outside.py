"""Files beyond this machine: objects of any S3 bucket, and what a web server gives for a URL."""

import fnmatch
import hashlib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import certifi
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse

from treadle.adapters.s3 import S3Store
from treadle.config import Settings
from treadle.errors import DataError, StoreError, from_os_error
from treadle.records import SourceFile

if TYPE_CHECKING:
    from treadle.ports import Outside as Port

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20
_MAGIC = "*?["
_REASONS = {401: "it asks who you are", 403: "it denies access", 404: "there is no such file",
            410: "it is no longer there"}  # fmt: skip


@dataclass
class Outside:
    """Finds and fetches files by address. S3 is asked with the settings' endpoint and keys; a
    bucket's objects are kept in the S3 cache under the home, by their ETag."""

    settings: Settings
    _buckets: dict[str, S3Store] = field(default_factory=dict)

    @property
    def password(self) -> str | None:
        """The password of databases whose address names a user alone."""
        return self.settings.source_password

    def found(self, address: str) -> Sequence[SourceFile]:
        """Return the files that an address or, in S3, a pattern or a folder names, sorted.

        Raises DataError for none, StoreError where S3 can't be asked.
        """
        return self._objects(address) if address.startswith("s3://") else [_page(address)]

    def fetched(self, file: SourceFile, folder: Path) -> Path:
        """Return a local copy: of an object in the cache, of a page in ``folder``."""
        if file.path.startswith("s3://"):
            bucket, key = _parts(file.path)
            return self._bucket(bucket).local(key)
        return _downloaded(file.path, folder)

    def _bucket(self, name: str) -> S3Store:
        if name not in self._buckets:
            it = self.settings
            self._buckets[name] = S3Store(
                it.s3_endpoint, it.s3_access_key, it.s3_secret_key, name, "", it.s3_region,
                it.home / "cache" / "s3", named_in="source.path",
            )  # fmt: skip
        return self._buckets[name]

    def _objects(self, address: str) -> list[SourceFile]:
        bucket, pattern = _parts(address)
        store = self._bucket(bucket)
        places = [pattern.find(mark) for mark in _MAGIC if mark in pattern]
        keys = list(store.keys(pattern[: min(places)] if places else pattern))
        if pattern in keys:
            keys = [pattern]
        elif places:
            keys = [key for key in keys if fnmatch.fnmatchcase(key, pattern)]
        else:
            folder = f"{pattern.rstrip('/')}/" if pattern else ""
            keys = [key for key in keys if key.startswith(folder) and not key.endswith("/")]
        if not keys:
            near = f"s3://{bucket}/{pattern.rpartition('/')[0]}"
            raise DataError(f"{address} names no object: look at what is in {near}")
        stamps = ((key, *store.stamp(key)) for key in keys)
        return [
            SourceFile(path=f"s3://{bucket}/{key}", size_bytes=size, stamp=stamp)
            for key, size, stamp in stamps
        ]


def _parts(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise DataError(f"{address} names no bucket: write s3://bucket/path")
    return bucket, key


def _page(url: str) -> SourceFile:
    """Ask for a file's headers alone. A server that tells neither a tag nor a time gives another
    stamp each time: nobody knows whether the file is the same."""
    import time

    with _asked("HEAD", url) as answer:
        said = [answer.headers.get(name) for name in ("ETag", "Last-Modified")]
        size = int(answer.headers.get("Content-Length") or 0)
    stamp = " ".join(filter(None, said)) or str(time.time_ns())
    return SourceFile(path=url, size_bytes=size, stamp=stamp)


def _downloaded(url: str, folder: Path) -> Path:
    name = Path(unquote(urlsplit(url).path)).name or "table"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    with _asked("GET", url) as answer:
        try:
            with path.open("wb") as file:
                for chunk in answer.stream(CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
        except OSError as error:
            if not isinstance(error, HTTPError):
                error.filename = str(folder)
            raise from_os_error(error, "name another temporary directory with TMPDIR") or error \
                from error  # fmt: skip
    return path


@contextmanager
def _asked(method: str, url: str) -> Iterator[BaseHTTPResponse]:
    shown = url.partition("?")[0]
    trusted = ssl.create_default_context()
    trusted.load_verify_locations(certifi.where())
    waits = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    with PoolManager(ssl_context=trusted, timeout=waits, retries=Retry(2, redirect=5)) as pool:
        try:
            answer = pool.request(method, url, preload_content=False,
                                  headers={"Accept-Encoding": "identity"})  # fmt: skip
            if method == "HEAD" and answer.status in (403, 405, 501):
                answer.close()  # signed addresses and small servers know GET alone
                answer = pool.request("GET", url, preload_content=False)
            if answer.status >= 400:
                why = _REASONS.get(answer.status, f"it answers {answer.status} {answer.reason}")
                raise DataError(f"{shown} can't be fetched: {why}: check the address")
            try:
                yield answer
            finally:
                answer.close()
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            raise StoreError(
                f"{shown} can't be fetched: {cause}: check the address and that its server runs"
            ) from error


if TYPE_CHECKING:
    _: Port = Outside(Settings())
