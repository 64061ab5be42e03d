"""`.kind.env`: what a shell needs to work with the cluster, and nobody else may read."""

import base64
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from fake_cluster import start_fake_cluster
from kind_cluster import applying, settings_file
from treadle.adapters.kubernetes import Cluster
from treadle.config import Settings
from treadle.errors import EnvironmentFault

SECRET = "it's $ecret"


class _Objects:
    """Has two objects, as the cluster has them after a deployment."""

    namespace = "treadle"

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        secret = {
            "TREADLE_S3_ACCESS_KEY": base64.b64encode(b"treadle").decode(),
            "TREADLE_S3_SECRET_KEY": base64.b64encode(SECRET.encode()).decode(),
        }
        settings = {"TREADLE_OBJECT_STORE": "s3://treadle/objects"}
        objects = {("Secret", "treadle-s3"): secret, ("ConfigMap", "treadle-settings"): settings}
        return {"data": objects[kind, name]}


def test_a_shell_that_sources_it_has_settings_that_treadle_knows(tmp_path: Path) -> None:
    path = tmp_path / ".kind.env"
    settings_file.write_settings(cast(Cluster, _Objects()), "treadle-step:1", kfp=True, path=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    script = f"source {shlex.quote(str(path))}; env -0"
    said = subprocess.run(["env", "-i", "bash", "-c", script], capture_output=True, text=True)
    found = dict(each.split("=", 1) for each in said.stdout.split("\0") if each)
    known = Settings.from_environment(found)
    assert known.s3_secret_key == SECRET
    assert known.kube_context == "kind-treadle"
    assert (known.server_url, known.mlflow_uri) == (
        "http://127.0.0.1:3000",
        "http://127.0.0.1:5000",
    )
    assert (known.step_image, known.kfp_url) == ("treadle-step:1", "http://127.0.0.1:8080")


def test_a_cluster_without_settings_is_said(tmp_path: Path) -> None:
    class Bare(_Objects):
        def get(self, kind: str, name: str) -> None:
            return None

    with pytest.raises(EnvironmentFault, match="namespace treadle has no settings"):
        settings_file.write_settings(cast(Cluster, Bare()), "x", False, tmp_path / "env")


def test_rays_pods_of_another_image_are_replaced_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pod(name: str, image: str, ray: str = "ray") -> None:
        containers = [{"name": "ray", "image": image}]
        labels = {"ray.io/cluster": ray}
        fake.add("Pod", name, metadata={"labels": labels}, spec={"containers": containers})

    with start_fake_cluster() as fake:
        template = {"spec": {"containers": [{"name": "ray-head", "image": "treadle-step:new"}]}}
        head = {"headGroupSpec": {"template": template}}
        fake.add("RayCluster", "ray", "apis/ray.io/v1", spec=head)
        pod("ray-head-1", "treadle-step:old")
        pod("ray-worker-1", "treadle-step:new")
        pod("another", "treadle-step:old", ray="another")
        place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(place, str(fake.kubeconfig(tmp_path / "config")))
        cluster = Cluster.connect("kind-treadle")
        assert cluster.address == fake.url
        applying.renew_ray(cluster)
        left = {path.rpartition("/")[2] for path in fake.objects if "/pods/" in path}
    assert left == {"ray-worker-1", "another"}
    assert "replacing ray-head-1" in capsys.readouterr().err
