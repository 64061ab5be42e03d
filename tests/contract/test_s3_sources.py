"""Tables in a bucket of a real S3 server."""

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seaweed import S3Server
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.outside import Outside
from treadle.config import Settings
from treadle.errors import DataError, StoreError
from treadle.ingestion import snapshot, sources
from treadle.spec import Source

BUCKET = "tables"


@pytest.fixture(scope="module")
def bucket(seaweedfs: S3Server) -> S3Server:
    """A bucket with one table in two partitions, and a file that is none of it."""
    client = seaweedfs.client()
    client.make_bucket(BUCKET)
    blobs = {
        "sales/stadt=Köln/part.csv": "größe,n\n1,2\n",
        "sales/stadt=Ulm/part.csv": "größe,n\n2.5,4\n",
        "salesmen.csv": "name\nx\n",
    }
    for key, text in blobs.items():
        data = text.encode()
        client.put_object(BUCKET, key, BytesIO(data), len(data))
    return seaweedfs


def zipped(text: str) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("rows.csv", text)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("rows.csv.zip", zipped),
        ("rows.zip", zipped),
        ("rows.csv.gz", lambda t: gzip.compress(t.encode())),
    ],
)
def test_a_packed_file_is_unpacked(
    name: str, pack: Callable[[str], bytes], bucket: S3Server, settings: Settings,
    read: Callable[[str, Settings], pa.Table],
) -> None:  # fmt: skip
    data = pack("größe,n\n1,2\n")
    bucket.client().put_object(BUCKET, f"packed/{name}", BytesIO(data), len(data))
    assert read(f"s3://{BUCKET}/packed/{name}", settings).to_pylist() == [{"größe": 1, "n": 2}]


@pytest.fixture
def settings(bucket: S3Server, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        s3_endpoint=bucket.endpoint,
        s3_access_key=bucket.access_key,
        s3_secret_key=bucket.secret_key,
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, Settings], pa.Table]:
    def take(address: str, settings: Settings) -> pa.Table:
        store = DirectoryStore(tmp_path / "objects")
        found = snapshot.take(Source.model_validate(address), store, Outside(settings))
        return pq.read_table(store.local(found.data_key))

    return take


@pytest.mark.parametrize("address", ["sales", "sales/", "sales/*.csv", "sales/*/part.csv"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_folder_or_a_pattern_is_one_table(
    address: str, scheme: str, settings: Settings, read: Callable[[str, Settings], pa.Table]
) -> None:
    host = (settings.s3_endpoint or "").removeprefix("http://")
    found = read(f"s3://{BUCKET}/{address}", replace(settings, s3_endpoint=scheme + host))
    assert found.to_pylist() == [
        {"größe": 1.0, "n": 2, "stadt": "Köln"},
        {"größe": 2.5, "n": 4, "stadt": "Ulm"},
    ]


def test_a_changed_object_has_another_fingerprint(settings: Settings, bucket: S3Server) -> None:
    source = Source.model_validate(f"s3://{BUCKET}/changing.csv")
    seen = set()
    for text in (b"a\n1\n", b"a\n2\n"):
        bucket.client().put_object(BUCKET, "changing.csv", BytesIO(text), len(text))
        seen |= {sources.fingerprint(source, Outside(settings)) for _ in range(2)}
    assert len(seen) == 2


def test_what_isnt_there_or_is_denied_is_said(
    settings: Settings, read: Callable[[str, Settings], pa.Table]
) -> None:
    with pytest.raises(StoreError, match=r"no bucket 'nowhere' .* name another in source.path"):
        read("s3://nowhere/sales.csv", settings)
    with pytest.raises(DataError, match=rf"s3://{BUCKET}/sale.csv names no object"):
        read(f"s3://{BUCKET}/sale.csv", settings)
    with pytest.raises(StoreError, match=r"refused access key 'stranger' .*check TREADLE_S3_ACC"):
        read(f"s3://{BUCKET}/sales", replace(settings, s3_access_key="stranger"))
    anonymous = replace(settings, s3_access_key=None, s3_secret_key=None)
    with pytest.raises(StoreError, match="refused an anonymous request"):
        read(f"s3://{BUCKET}/sales", anonymous)
    with pytest.raises(StoreError, match=r"127.0.0.1:1 doesn't answer"):
        read(f"s3://{BUCKET}/sales", replace(settings, s3_endpoint="127.0.0.1:1"))
