"""Make the bucket of TREADLE_OBJECT_STORE where there is none: MLflow is the first to need it, and
has a client. Waits two minutes for the store, then says why it can't be had."""

import os
import sys
import time
from urllib.parse import urlsplit

from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

WAIT_S, PAUSE_S = 120, 2
# What waiting doesn't change.
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


def main() -> None:
    """Make the bucket."""
    url = urlsplit(os.environ["TREADLE_S3_ENDPOINT"])
    bucket = urlsplit(os.environ["TREADLE_OBJECT_STORE"]).netloc
    client = Minio(
        url.netloc,
        os.environ["TREADLE_S3_ACCESS_KEY"],
        os.environ["TREADLE_S3_SECRET_KEY"],
        secure=url.scheme == "https",
        region=os.environ.get("TREADLE_S3_REGION", "us-east-1"),
    )
    deadline = time.monotonic() + WAIT_S
    while reason := why_not(client, bucket):
        if reason in REFUSED or time.monotonic() > deadline:
            sys.exit(f"bucket {bucket} at {url.geturl()} can't be had: {reason}")
        time.sleep(PAUSE_S)


def why_not(client: Minio, bucket: str) -> str | None:
    """Make the bucket where there is none; return why that wasn't possible."""
    try:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    except S3Error as error:
        return error.code
    except HTTPError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
