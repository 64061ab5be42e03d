"""The compiled graphs, held against golden files.

``pytest tests/golden --update-golden`` writes them anew; read the difference before you commit it.
"""

import re
from pathlib import Path

import pytest
import yaml

from treadle_pipelines import compiling, spec_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The image's tag follows every change of the code; the source's text follows a component's body.
IMAGE = re.compile(r"treadle-step:[0-9a-f]{12}")


@pytest.fixture(params=["training", "feedback"])
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
    assert cached == {
        "ingest-data", "validate-data", "prepare-data", "train-model", "analyse-model"
    }  # fmt: skip
