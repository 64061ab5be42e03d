"""A device follows the champion from a bucket of a real S3 server."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from devices import MODEL, device, published, sloped
from seaweed import S3Server
from treadle.adapters.s3 import S3Store
from treadle.errors import StoreError
from treadle_edge import updating
from treadle_edge.settings import Settings
from treadle_edge.sources import Missing, Source

BUCKET = "devices"


@pytest.fixture(scope="module")
def bucket(seaweedfs: S3Server) -> S3Server:
    seaweedfs.client().make_bucket(BUCKET)
    return seaweedfs


@pytest.mark.parametrize("prefix", ["", "a prefix/größer"])
def test_a_device_follows_the_champion_in_a_bucket(
    prefix: str, bucket: S3Server, tmp_path: Path
) -> None:
    keys = (bucket.access_key, bucket.secret_key)
    store = S3Store(bucket.endpoint, *keys, BUCKET, prefix, "us-east-1", tmp_path / "cache")
    published(store, sloped(store, tmp_path, 2.0), 1)
    at = device(tmp_path / "device", f"s3://{BUCKET}/{prefix}")
    told = json.loads((at.root / "edge.json").read_text("utf-8"))
    (at.root / "edge.json").write_text(json.dumps({**told, "s3_endpoint": bucket.endpoint}))
    names = ("TREADLE_S3_ACCESS_KEY", "TREADLE_S3_SECRET_KEY")
    settings = Settings.read(at.root, dict(zip(names, keys, strict=True)))
    assert updating.update(at, settings)["installed"]
    assert at.opened(None).predict([{"x": 1}]) == [{"prediction": 2.0}]
    with pytest.raises(Missing, match=r"nothing\.json"):
        Source(settings).small(f"champions/{MODEL}/nothing.json", 100)
    for wrong in (replace(settings, s3_secret_key="wrong"), Settings.read(at.root, {})):
        with pytest.raises(StoreError, match=r"answers 403.*S3_ACCESS_KEY.*clock"):
            Source(wrong).small(f"champions/{MODEL}.json", 10_000)
