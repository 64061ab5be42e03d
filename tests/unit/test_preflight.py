"""What `make deploy` says of a machine that can't run it: what is met there, in words."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kind_cluster import ROOT, engine, machine, preflight
from kind_cluster.__main__ import main
from kind_cluster.engine import Engine, Node
from kind_cluster.options import Options
from kind_cluster.preflight import GIB, Verdict
from kind_cluster.programs import run
from treadle.errors import EnvironmentFault, SpecError

# What a Docker client says, by its first word; a file named like that word holds it.
FAKE_DOCKER = """#!/bin/bash
cat >/dev/null &
if [[ -f $FAKE/$1.fails ]]; then cat "$FAKE/$1.fails" >&2; exit 1; fi
if [[ -f $FAKE/$1 ]]; then cat "$FAKE/$1"; fi
"""
INFO = {
    "ServerVersion": "28.2.2",
    "CgroupVersion": "2",
    "MemTotal": 16 * GIB,
    "NCPU": 4,
    "DefaultRuntime": "runc",
}
Program = Callable[[str, str], None]
ENGINE = Engine("docker", "28.2.2", 2, 16 * GIB, 4, "runc")
PORTS = (3000, 5000, 8333, 8265, 8080)
ALL_CAPABILITIES = (1 << 41) - 1
WITHOUT_RESOURCE = ALL_CAPABILITIES & ~(1 << 24)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on an otherwise bare PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bash", "cat", "timeout", "tail", "env", "dirname"):
        (directory / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.delenv("DOCKER", raising=False)

    def write(name: str, text: str) -> None:
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)

    return write


@pytest.fixture
def docker(program: Program, tmp_path: Path) -> Path:
    """A Docker that works; returns the directory whose files are its answers."""
    program("docker", FAKE_DOCKER)
    (tmp_path / "version").write_text("28.2.2\n")
    (tmp_path / "info").write_text(json.dumps(INFO))
    return tmp_path


def test_a_working_engine_is_described(docker: Path) -> None:
    found = engine.find_engine()
    assert (found.version, found.major, found.cgroup, found.cores) == ("28.2.2", 28, 2, 4)
    assert found.client == str(docker / "bin/docker")


def test_no_docker_is_said_with_how_to_get_it(program: Program) -> None:
    with pytest.raises(EnvironmentFault, match="there is no docker on PATH: install Docker"):
        engine.find_engine()


def test_an_engine_that_is_not_running_is_said_with_how_to_start_it(docker: Path) -> None:
    (docker / "version.fails").write_text("Cannot connect to the Docker daemon at unix:///x.\n")
    with pytest.raises(EnvironmentFault, match=r"Cannot connect to the Docker daemon.*: start"):
        engine.find_engine()


def test_dockerd_that_root_could_start_by_hand_is_named(
    docker: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docker / "version.fails").write_text("Cannot connect to the Docker daemon\n")
    program("dockerd", "#!/bin/bash\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(EnvironmentFault, match="start it with airgap/start-docker"):
        engine.find_engine()


def test_a_socket_one_may_not_use_is_said(docker: Path) -> None:
    (docker / "version.fails").write_text("permission denied while trying to connect\n")
    with pytest.raises(EnvironmentFault, match="join the group docker"):
        engine.find_engine()


def test_a_client_that_can_not_build_is_said(docker: Path) -> None:
    (docker / "build.fails").write_text("BuildKit is enabled but buildx is missing")
    with pytest.raises(EnvironmentFault, match="can't build with BuildKit: install its buildx"):
        engine.find_engine()


def test_of_two_clients_the_one_that_builds_is_taken(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = docker / "other"
    other.mkdir()
    (other / "docker").write_text("#!/bin/bash\n[[ $1 == version ]] && echo 20.10.24\n")
    (other / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:{os.environ['PATH']}")
    assert run([str(ROOT / "scripts/docker-client")], 30).strip() == str(docker / "bin/docker")


def test_a_client_named_by_hand_must_be_there(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER", "/nowhere/docker")
    with pytest.raises(EnvironmentFault, match="DOCKER=/nowhere/docker is not a program"):
        engine.find_engine()


def test_a_program_that_hangs_is_given_up_on(program: Program) -> None:
    program("slow", "#!/bin/bash\necho half-way\nread -t 20 <> <(:)\n")
    with pytest.raises(EnvironmentFault, match=r"slow didn't end within 1 s:\n  half-way"):
        run(["slow"], 1)


def test_the_last_words_of_a_program_that_fails_are_passed_on(program: Program) -> None:
    program("kind", "#!/bin/bash\nfor i in {1..99}; do echo line $i >&2; done; exit 1\n")
    with pytest.raises(EnvironmentFault) as caught:
        run(["kind", "create", "cluster", "--more"], 10)
    said = str(caught.value)
    assert said.startswith("kind create cluster failed:\n  line 88\n")
    assert said.endswith("line 99")


@pytest.mark.parametrize(
    ("gib", "cores", "verdict", "words"),
    [
        (23.5, 2, Verdict.GOOD, "23.5 GiB, 2 cores"),
        (7.0, 2, Verdict.NOTE, "some pods may have to wait"),
        (16.0, 1, Verdict.NOTE, "some pods may have to wait"),
        (3.8, 8, Verdict.FAULT, "3.8 GiB, 8 cores; 6 GiB are needed: give Docker more"),
    ],
)
def test_memory(gib: float, cores: int, verdict: Verdict, words: str) -> None:
    found = preflight.check_memory(Engine("docker", "28", 2, int(gib * GIB), cores, "runc"))
    assert (found.verdict, words in found.words) == (verdict, True)


def test_a_full_disk_matters_until_the_images_are_built() -> None:
    assert preflight.check_disk(2 * GIB, built=False).verdict is Verdict.FAULT
    assert preflight.check_disk(2 * GIB, built=True).verdict is Verdict.GOOD


def test_cgroup_version_1_is_for_the_air_gap_only() -> None:
    first = Engine("docker", "28", 1, 16 * GIB, 4, "runc")
    found = preflight.check_cgroup(first, airgap=False)
    assert found.verdict is Verdict.FAULT
    assert "AIRGAP=1" in found.words
    assert preflight.check_cgroup(first, airgap=True).verdict is Verdict.GOOD
    assert preflight.check_cgroup(ENGINE, airgap=False).verdict is Verdict.GOOD


def test_the_withheld_capability() -> None:
    former = Engine("docker", "20.10.24+dfsg1", 1, 16 * GIB, 4, "runc")
    fitted = Engine("docker", "20.10.24+dfsg1", 1, 16 * GIB, 4, "fit")
    check = preflight.check_capability
    assert check(former, ALL_CAPABILITIES, airgap=False).verdict is Verdict.GOOD
    assert "say AIRGAP=1" in check(ENGINE, WITHOUT_RESOURCE, airgap=False).words
    assert "airgap/start-docker" in check(former, WITHOUT_RESOURCE, airgap=True).words
    assert check(fitted, WITHOUT_RESOURCE, airgap=True).verdict is Verdict.NOTE
    assert check(ENGINE, WITHOUT_RESOURCE, airgap=True).verdict is Verdict.NOTE


def test_capabilities_are_read_from_the_kernels_words() -> None:
    text = "Name:\tbash\nCapEff:\t0\nCapBnd:\t000001fffeffffff\n"
    assert preflight.bounding_capabilities(text) == WITHOUT_RESOURCE
    assert preflight.bounding_capabilities("") >> 24 & 1


@pytest.mark.parametrize(
    ("said", "verdict", "words"),
    [
        ("kind v0.33.0 go1.26.0 linux/amd64", Verdict.GOOD, "v0.33.0"),
        ("kind v0.20.0 go1.20.4 linux/amd64", Verdict.FAULT, "v0.20.0 is too old; install 0.30"),
        ("a kind of magic", Verdict.FAULT, "tells no version but 'a kind of magic'"),
    ],
)
def test_kinds_version(program: Program, said: str, verdict: Verdict, words: str) -> None:
    program("kind", f"#!/bin/bash\necho '{said}'\n")
    found = preflight.check_program("kind", (0, 30), os.environ["PATH"])
    assert (found.verdict, found.words[: len(words)]) == (verdict, words)


def test_a_missing_program_is_said(program: Program) -> None:
    found = preflight.check_program("kubectl", (1, 28), os.environ["PATH"])
    assert found.verdict is Verdict.FAULT
    assert found.words.startswith("is not on PATH; install 1.28 or newer, or say AIRGAP=1")


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of loopback that this process listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_taken_port_is_named_with_who_holds_it(listener: int) -> None:
    (found,) = preflight.check_ports([listener], None, None)
    assert found.verdict is Verdict.FAULT
    assert f"{listener} is taken by " in found.words
    assert f"(process {os.getpid()})" in found.words


def test_a_port_that_a_container_holds_is_named_with_it(listener: int, docker: Path) -> None:
    (docker / "ps").write_text("notebook\n")
    (found,) = preflight.check_ports([listener], engine.find_engine(), None)
    assert "by the container notebook: stop it (docker stop notebook)" in found.words


def test_the_running_clusters_own_ports_are_no_hindrance(listener: int) -> None:
    node = Node("image", True, frozenset([listener]))
    assert [f.verdict for f in preflight.check_ports([listener], None, node)] == [Verdict.GOOD]


def test_a_cluster_of_that_name() -> None:
    def check(node: Node | None) -> preflight.Finding:
        return preflight.check_former(node, "node:2", PORTS)

    assert check(None).verdict is Verdict.GOOD
    assert check(Node("node:2", True, frozenset(PORTS))).verdict is Verdict.GOOD
    assert "stopped" in check(Node("node:2", False, frozenset(PORTS))).words
    before = check(Node("node:1", True, frozenset(PORTS)))
    assert (before.verdict, "node:1, now it would be node:2" in before.words) == (
        Verdict.NOTE,
        True,
    )
    other = check(Node("node:2", True, frozenset([3000])))
    assert other.verdict is Verdict.FAULT
    assert "another cluster 'treadle', which has no port 5000, 8080, 8265, 8333" in other.words


def test_the_node_is_read_from_dockers_words(docker: Path) -> None:
    found = {
        "Config": {"Image": "treadle-airgap/node:v1"},
        "State": {"Running": True},
        "HostConfig": {
            "PortBindings": {"30300/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3000"}]}
        },
    }
    (docker / "container").write_text(json.dumps([found]))
    node = engine.find_node(engine.find_engine())
    assert node == Node("treadle-airgap/node:v1", True, frozenset([3000]))
    (docker / "container.fails").write_text("Error: No such container: treadle-control-plane")
    assert engine.find_node(engine.find_engine()) is None


def test_kubeflow_pipelines_can_not_be_asked_for_where_its_images_are_not() -> None:
    asked = machine._of_kfp(Options(kfp=True), use_airgap=True)
    assert (asked.verdict, "say KFP=0" in asked.words) == (Verdict.FAULT, True)
    assert machine._of_kfp(Options(), use_airgap=True).verdict is Verdict.NOTE
    assert machine._of_kfp(Options(kfp=False), use_airgap=True).verdict is Verdict.GOOD


def test_whatever_is_wrong_is_told_in_one_run(
    program: Program,
    listener: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(preflight, "host_ports", lambda: [listener])
    assert main(["preflight"]) == 1
    said = capsys.readouterr().err
    assert "✗ docker" in said
    assert "✗ ports" in said
    assert said.endswith(
        "preflight: this machine isn't ready: 2 of 2 checks failed, marked ✗ above\n"
    )


def test_options_are_0_1_or_unsaid() -> None:
    assert Options.from_environment({"AIRGAP": "1", "KFP": "0"}) == Options(True, False)
    assert Options.from_environment({"AIRGAP": ""}) == Options(None, None)
    with pytest.raises(SpecError, match="AIRGAP=yes is neither 0 nor 1"):
        Options.from_environment({"AIRGAP": "yes"})


def test_an_unknown_verb_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade"]) == 2
    assert "say one of deploy, undeploy, status, preflight" in capsys.readouterr().err


def test_the_ports_and_the_image_are_those_of_the_config() -> None:
    assert sorted(preflight.host_ports()) == sorted(PORTS)
    assert "@sha256:" in preflight.configured_image()
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    mappings = config["nodes"][0]["extraPortMappings"]
    assert {each["listenAddress"] for each in mappings} == {"127.0.0.1"}
