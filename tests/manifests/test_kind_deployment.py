"""What `make deploy` relies on in the manifests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from builds import Build, Document

from kind_cluster import ROOT, airgap, applying, preflight
from kind_cluster.deploying import NAMESPACES

OURS = {"treadle-step", "treadle-server"}


def test_the_air_gap_builds_every_image_that_a_registry_would_give(kind: Build) -> None:
    images = {each["image"] for pod in kind.pods for each in pod.all_containers}
    foreign = {image for image in images if image.partition(":")[0] not in OURS}
    assert set(airgap.service_images()) == foreign


def test_every_port_of_this_machine_leads_to_a_service(kind: Build) -> None:
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    mappings = config["nodes"][0]["extraPortMappings"]
    leads = {each["containerPort"]: each["hostPort"] for each in mappings}
    ports = [port for service in kind.of("Service") for port in service["spec"]["ports"]]
    node_ports = {port["nodePort"]: port["port"] for port in ports if "nodePort" in port}
    pipelines = {30880: 8080}  # not part of the overlay
    assert leads == node_ports | pipelines
    assert set(preflight.host_ports()) == set(leads.values())


def test_the_secrets_are_those_that_pods_read(kind: Build) -> None:
    made = applying.new_secrets()
    for pod in kind.pods:
        for container in pod.all_containers:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["key"] in made[reference["name"]]
            for source in container.get("envFrom", []):
                if "secretRef" in source and not source["secretRef"].get("optional"):
                    assert source["secretRef"]["name"] in made


def test_passwords_are_new_each_time() -> None:
    one, two = applying.new_secrets(), applying.new_secrets()
    assert one["treadle-s3"]["TREADLE_S3_SECRET_KEY"] != two["treadle-s3"]["TREADLE_S3_SECRET_KEY"]
    assert (
        one["treadle-database"]["POSTGRES_PASSWORD"]
        in (one["treadle-database"]["MLFLOW_BACKEND_STORE_URI"])
    )


def test_all_namespaces_are_waited_for(kind: Build) -> None:
    ours = {each["metadata"]["name"] for each in kind.of("Namespace")}
    assert ours | {applying.KFP_NAMESPACE} == set(NAMESPACES)


def test_the_overlay_gets_the_tags_of_our_images(
    kustomize: Callable[[Path], list[Document]],
) -> None:
    directory = ROOT / "build" / "test-tags"
    applying.write_tagged(["treadle-step:0123", "treadle-server:4567"], False, directory)
    tagged = Build("tagged", kustomize(directory))
    shutil.rmtree(directory)
    images = {each["image"] for pod in tagged.pods for each in pod.all_containers}
    assert {image for image in images if image.partition(":")[0] in OURS} == {
        "treadle-step:0123",
        "treadle-server:4567",
    }


def test_kubeflow_pipelines_come_with_the_port_that_the_config_leads_to() -> None:
    directory = ROOT / "build" / "test-kfp"
    applying.write_tagged([], True, directory)
    written = yaml.safe_load((directory / "kustomization.yaml").read_text())
    shutil.rmtree(directory)
    small = applying.KFP / "one-machine"
    found = [(directory / each).resolve() for each in written["components"]]
    assert found == [applying.KFP, small]
    assert (applying.KFP / "cluster-scoped" / "kustomization.yaml").is_file()
    (addresses,) = written["patches"]
    patch, *_ = yaml.safe_load((small / "kustomization.yaml").read_text())["patches"]
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    mappings = config["nodes"][0]["extraPortMappings"]
    assert yaml.safe_load(patch["patch"])[1]["value"] in {m["containerPort"] for m in mappings}
    (change,) = yaml.safe_load(addresses["patch"])
    linked = json.loads(change["value"])
    settings = linked["plugins"]["mlflow"]["settings"]
    assert settings.pop("kfpBaseURL") == "http://127.0.0.1:8080"
    assert settings.pop("mlflowBaseURL") == "http://127.0.0.1:5000"
    assert linked == json.loads((applying.KFP / "treadle" / "config.json").read_text())
