"""The object store of a cluster: a bucket of any S3, by the ``minio`` client."""

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from uuid import uuid4
from xml.etree.ElementTree import ParseError

import certifi
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from minio.helpers import check_bucket_name
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError, SSLError
from urllib3.response import BaseHTTPResponse

from treadle.adapters.keys import can_begin_key, check_key, is_key, shown
from treadle.config import Settings
from treadle.errors import SpecError, StoreError, TreadleError, from_os_error

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20
AWS = "s3.amazonaws.com"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidToken"}
_MISSING_BLOB = {"NoSuchKey", "ResourceNotFound"}
# The second: two tried at the very same moment.
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
_CHECK_KEYS = "check TREADLE_S3_ACCESS_KEY, TREADLE_S3_SECRET_KEY and the bucket's policy"


class S3Store:
    """Blobs are objects ``prefix/key`` of an existing ``bucket``.

    ``endpoint`` is ``http://host:port``, ``https://host`` or bare ``host:port``, see
    ``parse_endpoint``; None is AWS. Without keys requests are anonymous. ``local`` downloads into
    the directory ``cache``, where superseded copies stay: it may be emptied between runs.
    Uploads over 5 MiB go in parts. Constructing one opens no connection.

    ``named_in`` is where a person named the bucket. Every method raises StoreError for a missing
    bucket, refused keys or an endpoint that doesn't answer: within about 10 s where nothing accepts
    the connection (one retry of 5 s), 2 min where it accepts and stays silent. An instance may be
    shared by threads, not by processes.
    """

    def __init__(
        self,
        endpoint: str | None,
        access_key: str | None,
        secret_key: str | None,
        bucket: str,
        prefix: str,
        region: str | None,
        cache: Path,
        named_in: str = "TREADLE_OBJECT_STORE",
    ) -> None:
        """Raises SpecError for an endpoint, region, bucket, prefix or pair of keys that can't be
        right."""
        host, secure = parse_endpoint(endpoint)
        if (access_key is None) != (secret_key is None):
            raise SpecError(
                "the S3 access key and secret key come as a pair: "
                "set both TREADLE_S3_ACCESS_KEY and TREADLE_S3_SECRET_KEY, or neither"
            )
        self._endpoint = f"{'https' if secure else 'http'}://{host}"
        self._access_key = access_key
        self._bucket = bucket
        self._prefix = _parse_prefix(prefix)
        self._cache = cache.absolute()
        self._bucket_seen = False
        self._named_in = named_in
        try:
            check_bucket_name(bucket)
            self._client = Minio(
                host, access_key, secret_key, secure=secure, region=region, http_client=_pool()
            )
        except ValueError as error:
            raise SpecError(
                f"can't use s3://{bucket} at {self._endpoint}: {error}; "
                f"check {named_in}, TREADLE_S3_ENDPOINT and TREADLE_S3_REGION"
            ) from error

    @classmethod
    def from_settings(cls, settings: Settings) -> "S3Store":
        """Make the store that ``object_store`` (``s3://bucket/prefix``) and ``s3_*`` describe,
        with its cache under the home. Raises SpecError for settings that can't be right."""
        url = urlsplit(settings.object_store or "")
        if url.scheme != "s3" or not url.netloc or url.query or url.fragment:
            raise SpecError(
                f"TREADLE_OBJECT_STORE={settings.object_store!r} is not an S3 address: "
                "write s3://bucket or s3://bucket/prefix"
            )
        return cls(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key,
            url.netloc,
            url.path,
            settings.s3_region,
            settings.home / "cache" / "s3",
        )

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``, replacing what was there."""
        name = self._name(key)
        with self._faults_in_words(key):
            self._client.put_object(self._bucket, name, BytesIO(data), len(data))

    def create(self, key: str, data: bytes) -> bool:
        """Store ``data`` under ``key`` where there is nothing yet; say whether it was (a
        conditional write, which the server decides)."""
        name = self._name(key)
        with self._faults_in_words(key):
            try:
                # The client's public way takes no such header.
                self._client._execute(
                    "PUT", self._bucket, name, body=data, headers={"If-None-Match": "*"}
                )
            except S3Error as error:
                if error.code in _TAKEN:
                    return False
                raise
        return True

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path`` under ``key``, replacing what was there. Raises StoreError
        where it can't be read to its end."""
        name = self._name(key)
        try:
            with self._faults_in_words(key):
                self._client.fput_object(self._bucket, name, str(path))
        except OSError as error:  # urllib3 has its own errors: this one is the file's
            raise StoreError(
                f"can't read {path} to store it as {shown(key)}: {error.strerror or error}; "
                "check the path and its permissions"
            ) from error

    def get_bytes(self, key: str) -> bytes:
        """Return the blob. Raises StoreError where there is none."""
        with self._faults_in_words(key), self._opened(key) as response:
            return response.read()

    def local(self, key: str) -> Path:
        """Return a copy in the cache, downloaded unless the one of this ETag is there; never
        write to it. Raises StoreError where there is no blob, EnvironmentFault where the cache
        can't be written."""
        with self._faults_in_words(key):
            found = self._stat(key)
            if found is None:
                raise self._missing(key)
            cached = self._cached(key, found.etag)
            # A copy of another size is what a power cut left of an unsynced one.
            if cached.is_file() and cached.stat().st_size == found.size:
                return cached
            return self._download(key)

    def exists(self, key: str) -> bool:
        """Say whether there is a blob under ``key``."""
        with self._faults_in_words(key):
            return self._stat(key) is not None

    def stamp(self, key: str) -> tuple[int, str]:
        """Return the blob's size in bytes and what changes when it does. Raises StoreError where
        there is none."""
        with self._faults_in_words(key):
            found = self._stat(key)
            if found is None:
                raise self._missing(key)
            return found.size or 0, found.etag or str(found.last_modified)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with ``prefix``, in the order of their code points."""
        if not can_begin_key(prefix):
            return iter(())
        with self._faults_in_words(prefix):
            listed: Iterator[Object] = self._client.list_objects(
                self._bucket, prefix=self._prefix + prefix, recursive=True
            )
            names = [found.object_name or "" for found in listed]
        # Sorted here because some servers list folder by folder; names that other tools chose and
        # that are no keys (folder markers, 'a//b') are left out.
        keys = (name.removeprefix(self._prefix) for name in names)
        return iter(sorted(key for key in keys if is_key(key)))

    def delete(self, key: str) -> None:
        """Remove the blob; no error where there is none."""
        name = self._name(key)
        with self._faults_in_words(key):
            try:
                self._client.remove_object(self._bucket, name)
            except S3Error as error:
                if error.code not in _MISSING_BLOB:
                    raise

    def uri(self, key: str) -> str:
        """Return ``s3://bucket/prefix/key``."""
        return f"s3://{self._bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        check_key(key)
        return check_key(self._prefix + key)  # S3's limit counts the prefix too

    def _stat(self, key: str) -> Object | None:
        try:
            found = self._client.stat_object(self._bucket, self._name(key))
        except S3Error as error:
            if error.code not in _MISSING_BLOB:
                raise
            self._check_bucket()
            return None
        self._bucket_seen = True
        return found

    def _check_bucket(self) -> None:
        # The answer to HEAD has no body, so it doesn't say whether key or bucket is missing.
        if self._bucket_seen:
            return
        try:
            found = self._client.bucket_exists(self._bucket)
        except S3Error as error:
            # A policy for our prefix alone: there is a bucket that it is about.
            if error.code != "AccessDenied":
                raise
            found = True
        if not found:
            raise self._missing_bucket()
        self._bucket_seen = True

    @contextmanager
    def _opened(self, key: str) -> Iterator[BaseHTTPResponse]:
        response = self._client.get_object(self._bucket, self._name(key))
        with closing(response):
            yield response
            # Only a body that was read to its end leaves a connection fit to be used again.
            response.release_conn()

    def _cached(self, key: str, etag: str | None) -> Path:
        # The file keeps the key's last part, by whose suffix readers choose their format.
        identity = f"{self._endpoint}\n{self.uri(key)}\n{etag}"
        return self._cache / hashlib.sha256(identity.encode()).hexdigest()[:32] / Path(key).name

    def _download(self, key: str) -> Path:
        part = self._cache / f".part-{uuid4().hex}"
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with self._opened(key) as response, part.open("xb") as file:
                # The ETag that came with this body: the blob may have changed since the HEAD.
                cached = self._cached(key, response.headers.get("ETag", "").strip('"'))
                for chunk in response.stream(CHUNK_BYTES):
                    file.write(chunk)
            cached.parent.mkdir(exist_ok=True)
            part.replace(cached)
        except OSError as error:
            if error.filename is None:  # a full disk fails in write(), which knows no name
                error.filename = str(self._cache)
            raise from_os_error(error) or StoreError(
                f"can't keep a copy of {shown(key)} in {self._cache}: "
                f"{error.strerror or error}; check that directory"
            ) from error
        finally:
            # Gone already after the rename; nothing to add to the fault that is on its way.
            with suppress(OSError):
                part.unlink()
        return cached

    @contextmanager
    def _faults_in_words(self, key: str) -> Iterator[None]:
        try:
            yield
        except TreadleError:
            raise
        except S3Error as error:
            raise self._refusal(error, key) from error
        except HTTPError as error:
            raise self._unreachable(error) from error
        except (MinioException, ParseError, ValueError) as error:
            # The client quotes the whole body, which may be a web page.
            answer = str(error).partition(", Body:")[0]
            raise StoreError(
                f"{self._endpoint} didn't answer as an S3 server does ({answer}): "
                "check that TREADLE_S3_ENDPOINT is its address and http:// or https:// is right"
            ) from error

    def _refusal(self, error: S3Error, key: str) -> StoreError:
        if error.code in _MISSING_BLOB:
            return self._missing(key)
        if error.code == "NoSuchBucket":
            return self._missing_bucket()
        if error.code in _WRONG_KEYS:
            who = f"access key {self._access_key!r}" if self._access_key else "an anonymous request"
            return StoreError(
                f"{self._endpoint} refused {who} for {shown(key)} in bucket '{self._bucket}' "
                f"({error.code}): {_CHECK_KEYS}"
            )
        return StoreError(
            f"{self._endpoint} refused {shown(key)} in bucket '{self._bucket}' "
            f"({error.code}): {error.message}"
        )

    def _missing(self, key: str) -> StoreError:
        place = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return StoreError(
            f"there is no blob {shown(key)} in {place} at {self._endpoint}: put it there first"
        )

    def _missing_bucket(self) -> StoreError:
        return StoreError(
            f"there is no bucket '{self._bucket}' at {self._endpoint}: "
            f"create it, or name another in {self._named_in}"
        )

    def _unreachable(self, error: HTTPError) -> StoreError:
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(cause, SSLError):
            return StoreError(
                f"no secure connection to {self._endpoint} ({cause}): write http://host:port in "
                "TREADLE_S3_ENDPOINT if it speaks plain HTTP, or have its certificate trusted "
                "with SSL_CERT_FILE"
            )
        if isinstance(cause, ResponseError):
            return StoreError(
                f"the object store at {self._endpoint} answers with errors alone ({cause}): its "
                "disk may be full, or it is just starting; its log says which"
            )
        return StoreError(
            f"the object store at {self._endpoint} doesn't answer ({cause}): "
            "check that it runs and that TREADLE_S3_ENDPOINT is its address"
        )


def parse_endpoint(endpoint: str | None) -> tuple[str, bool]:
    """Return ``(host:port, whether TLS)`` of an endpoint; None is AWS.

    With ``http://`` or ``https://`` it's taken at its word. A bare ``host`` or ``host:port`` is
    plain HTTP on the loopback (``localhost``, ``127.0.0.1``, ``[::1]``) and TLS anywhere else,
    never tried both ways: a secret must not leave the machine in the clear because somebody left
    out a scheme. Raises SpecError for anything else, a path among it.
    """
    if endpoint is None:
        return AWS, True
    url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        bad = not url.hostname or url.scheme not in {"", "http", "https"} or url.port == 0
    except ValueError:  # the port is no number
        bad = True
    if bad or url.path.strip("/") or url.query or url.fragment or "@" in url.netloc:
        raise SpecError(
            f"TREADLE_S3_ENDPOINT={_without_login(endpoint)!r} is not an S3 endpoint: write "
            "http://host:port, https://host or host:port, without a path; the bucket belongs in "
            "TREADLE_OBJECT_STORE"
        )
    return url.netloc, url.scheme == "https" or (not url.scheme and url.hostname not in _LOOPBACK)


def _without_login(endpoint: str) -> str:
    scheme, mark, rest = endpoint.rpartition("://")
    return scheme + mark + ("***@" + rest.rpartition("@")[2] if "@" in rest else rest)


def _parse_prefix(prefix: str) -> str:
    inner = prefix.strip("/")
    if inner and not is_key(inner):
        raise SpecError(
            f"{shown(prefix)} can't be a prefix in TREADLE_OBJECT_STORE: "
            f"write s3://bucket/some/prefix, for example s3://bucket/{quote('treadle')}"
        )
    return f"{inner}/" if inner else ""


def _pool() -> PoolManager:
    # The client's own waits 5 minutes for a connection, five times over.
    trusted = ssl.create_default_context()  # the system's, or SSL_CERT_FILE
    trusted.load_verify_locations(certifi.where())  # slim images come without any
    return PoolManager(
        maxsize=10,
        timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        retries=Retry(
            total=3,  # of a server that answers but is overloaded
            connect=1,  # each costs a connect timeout
            read=1,  # each costs a read timeout
            other=1,  # a TLS handshake that fails mostly fails again
            backoff_factor=0.5,
            status_forcelist=[500, 502, 503, 504],
        ),
        ssl_context=trusted,
    )


if TYPE_CHECKING:
    from treadle.ports import ObjectStore

    _: ObjectStore = S3Store(None, None, None, "bucket", "", None, Path())
