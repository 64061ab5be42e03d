"""Where Ray Tune keeps checkpoints: in the object store, by its own endpoint and keys."""

import pickle
from pathlib import Path

import pyarrow.fs
from ray.tune import Checkpoint

from seaweed import S3Server
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.ray_storage import storage_at
from treadle.adapters.s3 import S3Store
from treadle.config import Settings

NAME = "searches/a model-123/tune"


def test_a_checkpoint_in_s3_goes_to_the_settings_endpoint_and_any_machine_reads_it(
    seaweedfs: S3Server, tmp_path: Path
) -> None:
    settings = Settings.from_environment(
        {
            "TREADLE_HOME": str(tmp_path),
            "TREADLE_OBJECT_STORE": "s3://contract/a prefix",
            "TREADLE_S3_ENDPOINT": seaweedfs.endpoint,
            "TREADLE_S3_ACCESS_KEY": seaweedfs.access_key,
            "TREADLE_S3_SECRET_KEY": seaweedfs.secret_key,
        }
    )
    store = S3Store.from_settings(settings)
    storage = storage_at(store.uri(NAME), settings)
    written = tmp_path / "written"
    written.mkdir()
    (written / "grown").write_bytes(b"three units")
    pyarrow.fs.copy_files(
        str(written), f"{storage.path}/checkpoint_0", destination_filesystem=storage.filesystem
    )
    # As it reaches another machine: through Ray's pickles, keys and endpoint with it.
    elsewhere = pickle.loads(pickle.dumps(storage.filesystem))
    with Checkpoint(f"{storage.path}/checkpoint_0", elsewhere).as_directory() as read:
        assert (Path(read) / "grown").read_bytes() == b"three units"
    # And the search's own housekeeping finds it, to take it away with the rest.
    (key,) = [key for key in store.keys("searches/") if key.endswith("grown")]
    assert key == f"{NAME}/checkpoint_0/grown"
    store.delete(key)


def test_a_checkpoint_in_a_directory_lies_beside_the_reports(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "a home")
    storage = storage_at(store.uri(NAME), Settings.from_environment({}))
    assert storage.filesystem is None
    assert Path(storage.path) == tmp_path / "a home" / NAME
