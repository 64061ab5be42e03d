"""Where updates come from: an S3, a web server or a directory, laid out as Treadle's object
store."""

import hashlib
import hmac
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from treadle.errors import SpecError, StoreError
from treadle_edge.settings import Settings

# A connection that is silent for so long is given up; the next update tries again.
TIMEOUT_S = 30
CHUNK_BYTES = 1 << 16
_NO_BODY = hashlib.sha256(b"").hexdigest()


class Missing(StoreError):
    """There is nothing under that key."""


class Source:
    """An object store that is only read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.source)
        if not settings.source:
            raise SpecError("edge.json names no source of updates: set source to s3://bucket/prefix"
                            ", https://… or a directory")  # fmt: skip
        if self._url.scheme not in ("", "file", "http", "https", "s3"):
            raise SpecError(f"source {settings.source!r} begins with {self._url.scheme}://: write "
                            "s3://bucket/prefix, https://… or a directory")  # fmt: skip
        if self._url.scheme == "s3" and not settings.s3_endpoint.startswith(
            ("http://", "https://")
        ):
            raise SpecError(f"s3_endpoint {settings.s3_endpoint!r} must begin with http:// or "
                            "https://")  # fmt: skip

    def small(self, key: str, most_bytes: int) -> bytes:
        """Return a small blob. Raises Missing where there is none, StoreError where it can't be
        read."""
        with self._opened(key) as stream:
            found = stream.read(most_bytes + 1)
        if len(found) > most_bytes:
            raise StoreError(f"{key} in {self._settings.source} has more than {most_bytes:,} bytes")
        return found

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield a blob's content, piece by piece."""
        with self._opened(key) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        try:
            if self._url.scheme in ("", "file"):
                place = Path(self._url.path if self._url.scheme else self._settings.source)
                with (place.expanduser() / key).open("rb") as file:
                    yield file
            else:
                asked = urllib.request.urlopen(self._request(key), timeout=TIMEOUT_S)  # noqa: S310
                with asked as answer:
                    yield answer
        except FileNotFoundError as error:
            raise Missing(f"there is no {key} in {self._settings.source}") from error
        except urllib.error.HTTPError as error:
            error.close()
            # S3 says 403 of what isn't there to those who may not list.
            kind = Missing if error.code in (403, 404) else StoreError
            raise kind(
                f"{self._settings.source} answers {error.code} ({error.reason}) to {key}"
                + (_HINT_403 if error.code == 403 else "")
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise StoreError(
                f"{self._settings.source} can't be reached for {key}: {reason}"
            ) from error
        except (ConnectionError, TimeoutError) as error:
            raise StoreError(f"{self._settings.source} fell silent while {key} was read: "
                             f"{error}") from error  # fmt: skip

    def _request(self, key: str) -> urllib.request.Request:
        # The address is the device's owner's own; its scheme was looked at.
        if self._url.scheme != "s3":
            address = f"{self._settings.source.rstrip('/')}/{quote(key)}"
            return urllib.request.Request(address)  # noqa: S310
        endpoint = urlsplit(self._settings.s3_endpoint)
        prefix = self._url.path.strip("/")
        path = quote("/" + "/".join(part for part in (self._url.netloc, prefix, key) if part))
        headers = signed_headers(self._settings, endpoint.netloc, path)
        address = f"{endpoint.scheme}://{endpoint.netloc}{path}"
        return urllib.request.Request(address, headers=headers)  # noqa: S310


_HINT_403 = ": check TREADLE_S3_ACCESS_KEY, TREADLE_S3_SECRET_KEY and this device's clock"


def signed_headers(
    settings: Settings, host: str, path: str, now: datetime | None = None
) -> dict[str, str]:
    """Return what AWS's Signature Version 4 adds to a GET; nothing without keys."""
    if settings.s3_access_key is None or settings.s3_secret_key is None:
        return {}
    at = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _NO_BODY, "x-amz-date": at}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    asked = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{at[:8]}/{settings.s3_region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = b"AWS4" + settings.s3_secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    words = (f"AWS4-HMAC-SHA256 Credential={settings.s3_access_key}/{scope}, "
             f"SignedHeaders={names}, Signature={signature}")  # fmt: skip
    del headers["host"]
    return {**headers, "Authorization": words}
