"""How much memory an opened graph takes, and that the server knows."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from treadle import graphs, segments
from treadle.errors import ModelError
from treadle.records import SegmentIndex
from treadle_serving.memory import allocated_bytes

DEPTH, TREES = 8, 20


def trees() -> bytes:
    """Whole trees of DEPTH, with leaves by their place, as skl2onnx writes boosting."""
    inner, every = 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    nodes = [n for _ in range(TREES) for n in range(every)]
    tree = [t for t in range(TREES) for _ in range(every)]
    leaves = [(t, n) for t, n in zip(tree, nodes, strict=True) if n >= inner]
    node = helper.make_node(
        "TreeEnsembleRegressor", ["X"], ["column"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=tree, nodes_nodeids=nodes,
        nodes_featureids=[0] * len(nodes), nodes_hitrates=[1.0] * len(nodes),
        nodes_modes=["BRANCH_LEQ" if n < inner else "LEAF" for n in nodes],
        nodes_values=[float(n) for n in nodes],
        nodes_truenodeids=[2 * n + 1 if n < inner else 0 for n in nodes],
        nodes_falsenodeids=[2 * n + 2 if n < inner else 0 for n in nodes],
        nodes_missing_value_tracks_true=[0] * len(nodes),
        target_treeids=[t for t, _ in leaves], target_nodeids=[n for _, n in leaves],
        target_ids=[0] * len(leaves), target_weights=[n / 7 for _, n in leaves],
    )  # fmt: skip
    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 1])
    found = helper.make_tensor_value_info("column", TensorProto.FLOAT, [None, 1])
    whole = helper.make_graph([node], "trees", [given], [found])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(whole, opset_imports=opsets, ir_version=9).SerializeToString())


def taken(graph: bytes, lean: bool, count: int = 10) -> float:
    """Bytes for each of some sessions, which answer alike."""
    asked = {"X": np.linspace(-5, 600, 200, dtype=np.float32).reshape(-1, 1)}
    expected = graphs.opened(graph, "trees").run(None, asked)[0]
    graphs.opened(graph, "trees", lean=True)
    before = allocated_bytes()
    sessions = [graphs.opened(graph, "trees", lean=lean) for _ in range(count)]
    found = (allocated_bytes() - before) / count
    for session in sessions:
        np.testing.assert_array_equal(session.run(None, asked)[0], expected)
    return found


def test_a_lean_session_takes_a_third_of_a_usual_ones_memory() -> None:
    assert taken(trees(), lean=True) < taken(trees(), lean=False) / 3


def test_what_segments_may_take_is_not_less_than_what_they_take(tmp_path: Path) -> None:
    graph = trees()
    index = SegmentIndex(columns=["shop"], segments=[])
    content = {f"{n}.onnx": graph for n in range(5)}
    content |= {segments.POOLED: graph, segments.MATRIX: graph}
    segments.write(tmp_path / "segments.zip", index, content)
    model = segments.SegmentedModel(tmp_path / "segments.zip", 0, lean=True)
    assert 1 <= model.most_bytes / (5 * taken(graph, lean=True)) < 3


def test_where_no_file_can_be_written_a_graph_is_opened_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    session = graphs.opened(trees(), "the model", lean=True)
    assert session.run(None, {"X": np.zeros((2, 1), dtype=np.float32)})[0].shape == (2, 1)
    assert "the model takes more memory than it has to" in caplog.text


@pytest.mark.parametrize("lean", [False, True])
def test_what_is_no_graph_is_said(lean: bool) -> None:
    with pytest.raises(ModelError, match="the model can't be loaded: "):
        graphs.opened(b"no graph", "the model", lean=lean)
