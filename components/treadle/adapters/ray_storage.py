"""Where Ray Tune keeps the checkpoints of trials that are paused: beside the search's reports."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from treadle.adapters.s3 import parse_endpoint
from treadle.config import Settings


@dataclass(frozen=True)
class Storage:
    """A path, of every node's own file system or in a bucket of pyarrow's S3 ``filesystem``."""

    path: str
    filesystem: Any = None


def storage_at(uri: str, settings: Settings) -> Storage:
    """Return the storage at a ``file://`` or ``s3://`` address of the object store. Its endpoint is
    the settings', which Tune by itself would not ask for."""
    place = urlsplit(uri)
    if place.scheme != "s3":
        return Storage(unquote(place.path))
    from pyarrow.fs import S3FileSystem

    host, secure = parse_endpoint(settings.s3_endpoint)
    filesystem = S3FileSystem(
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        anonymous=settings.s3_access_key is None,
        region=settings.s3_region,
        endpoint_override=host if settings.s3_endpoint else None,
        scheme="https" if secure else "http",
    )
    return Storage(f"{place.netloc}{unquote(place.path)}", filesystem)
