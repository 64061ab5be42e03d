"""The compiled graphs, held against golden files.

``pytest tests/golden --update-golden`` writes them anew; read the difference before you commit it.
"""

import re
from pathlib import Path

import pytest
import yaml

from treadle_pipelines import compiling, graphs, spec_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The image's tag follows every change of the code; the source's text follows a component's body.
IMAGE = re.compile(r"treadle-step:[0-9a-f]{12}")


@pytest.fixture(params=["training", "feedback", "loop"])
def graph(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def compiled(graph: str, directory: Path) -> str:
    spec = spec_file.load(ROOT / "examples/wine/wine.yaml")
    out = directory / f"{graph}.yaml"
    compiling.write(spec, graph, out)
    return IMAGE.sub("treadle-step:TAG", out.read_text(encoding="utf-8"))


def test_the_ir_is_the_golden_one(
    graph: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    golden = HERE / f"{graph}.yaml"
    found = compiled(graph, tmp_path)
    if request.config.getoption("--update-golden"):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def test_the_training_graph_is_seven_steps_in_a_row_with_no_sub_graph(tmp_path: Path) -> None:
    ir = next(yaml.safe_load_all(compiled("training", tmp_path)))
    tasks = ir["root"]["dag"]["tasks"]
    assert len(tasks) == 7
    assert all(
        "executorLabel" in ir["components"][t["componentRef"]["name"]] for t in tasks.values()
    )
    assert not any("triggerPolicy" in t or "parameterIterator" in t for t in tasks.values())


def test_every_step_runs_the_one_image_and_installs_nothing(graph: str, tmp_path: Path) -> None:
    ir = next(yaml.safe_load_all(compiled(graph, tmp_path)))
    for executor in ir["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert container["image"] == "treadle-step:TAG"
        assert "pip install" not in " ".join(container["command"])


def test_what_looks_outside_the_graph_is_never_cached(tmp_path: Path) -> None:
    ir = next(yaml.safe_load_all(compiled("training", tmp_path)))
    cached = {
        name
        for name, task in ir["root"]["dag"]["tasks"].items()
        if task.get("cachingOptions", {}).get("enableCache")
    }
    assert cached == {"prepare-data", "train-model"}


def test_what_does_not_know_the_champion_beforehand_looks_when_it_runs(tmp_path: Path) -> None:
    ir = next(yaml.safe_load_all(compiled("training", tmp_path)))
    assert ir["root"]["inputDefinitions"]["parameters"]["champion"]["defaultValue"] == "current"


def test_the_training_graph_is_at_most_16_pods(tmp_path: Path) -> None:
    """On the back end each step is a driver and a worker, and the graph one driver more."""
    ir = next(yaml.safe_load_all(compiled("training", tmp_path)))
    assert 2 * len(ir["root"]["dag"]["tasks"]) + 1 <= 16


def test_every_step_gets_settings_and_secrets_by_reference_and_runs_as_nobody(
    graph: str, tmp_path: Path
) -> None:
    ir, platform = yaml.safe_load_all(compiled(graph, tmp_path))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(ir["deploymentSpec"]["executors"])
    for executor in executors.values():
        required, optional = executor["configMapAsEnv"]
        assert {each["envVar"] for each in required["keyToEnv"]} == {
            "TREADLE_OBJECT_STORE", "TREADLE_MLFLOW_URI"
        }  # fmt: skip
        assert not required["optional"]
        assert "TREADLE_SERVER_URL" in {each["envVar"] for each in optional["keyToEnv"]}
        assert executor["secretAsEnv"][0]["secretName"] == "treadle-s3"
        assert executor["imagePullPolicy"] == "IfNotPresent"
        assert executor["securityContext"]["runAsNonRoot"]
    assert "TREADLE_S3_SECRET_KEY=" not in str(ir)


def test_steps_ask_for_what_the_spec_says(tmp_path: Path) -> None:
    text = (ROOT / "examples/wine/wine.yaml").read_text(encoding="utf-8")
    text += "\nresources: {memory: 1Gi, steps: {train: {cpu_limit: 8, memory: 16Gi, retries: 5}}}\n"
    out = tmp_path / "training.yaml"
    compiling.write(spec_file.parse(text, tmp_path / "wine.yaml"), "training", out)
    ir = next(yaml.safe_load_all(out.read_text(encoding="utf-8")))
    asked = {name: executor["container"]["resources"]
             for name, executor in ir["deploymentSpec"]["executors"].items()}  # fmt: skip
    assert asked["exec-train-model"]["resourceCpuLimit"] == "8"
    assert asked["exec-train-model"]["resourceMemoryLimit"] == "16Gi"
    assert asked["exec-ingest-data"]["resourceMemoryRequest"] == "1Gi"
    retries = {name: task["retryPolicy"]["maxRetryCount"]
               for name, task in ir["root"]["dag"]["tasks"].items()}  # fmt: skip
    assert retries["train-model"] == 5
    assert retries["ingest-data"] == 2
    # Argo counts from the step's beginning, and ends what runs then.
    for task in ir["root"]["dag"]["tasks"].values():
        assert int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s")) >= 7 * 24 * 3600


def test_a_laptops_graph_has_none_of_it() -> None:
    """kfp.local would try again what is sure to fail again."""
    spec = graphs.training_pipeline.component_spec
    assert not spec.platform_spec.platforms
    assert not any(
        task.HasField("retry_policy") for task in spec.implementation.graph.root.dag.tasks.values()
    )
