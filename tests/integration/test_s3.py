"""The whole pipeline with a real S3 server as its object store."""

import json
from pathlib import Path

from conftest import changed_spec, serving, treadle
from seaweed import start_seaweedfs
from treadle.records import Snapshot


def test_a_run_keeps_everything_in_s3_and_the_server_reads_it_there(tmp_path: Path) -> None:
    spec = changed_spec("wine", tmp_path, {"training": {"trials": 2, "families": ["linear"]}})
    home = tmp_path / "home"
    with start_seaweedfs(tmp_path / "s3") as server:
        client = server.client()
        client.make_bucket("models")
        settings = {
            "TREADLE_OBJECT_STORE": "s3://models/team/a",
            "TREADLE_S3_ENDPOINT": server.endpoint,
            "TREADLE_S3_ACCESS_KEY": server.access_key,
            "TREADLE_S3_SECRET_KEY": server.secret_key,
        }
        done = treadle("run", spec, "--json", home=home, env=settings)
        assert done.code == 0, done.err
        assert not (home / "objects").exists()
        keys = {item.object_name for item in client.list_objects("models", recursive=True)}
        digest = done.json["digest"]
        assert f"team/a/bundles/{digest}/model.onnx" in keys
        manifests = [key for key in keys if key and key.endswith("manifest.json")]
        for key in manifests:
            with client.get_object("models", key) as answer:
                Snapshot.model_validate_json(answer.read())
        assert len(manifests) == 2  # what was ingested, and what was held out
        with serving(home, tmp_path, settings) as running:
            status, answer = running.predict("wine", [{}])
            assert (status, answer["digest"]) == (200, digest), json.dumps(answer)
