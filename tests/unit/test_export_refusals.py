"""What ``treadle export`` refuses before it looks for a model, and what it says of one without a
graph."""

from pathlib import Path

import pytest

from treadle.bundle import MLMODEL, Bundle
from treadle.errors import SpecError
from treadle.records import Feature, Kind, Parity, Profile, Signature, Task
from treadle.training import mlmodel, refit
from treadle.writing import folder_written_aside
from treadle_pipelines import export


@pytest.mark.parametrize(
    ("to", "words"),
    [("browsr", r"did you mean 'browser'\?"), ("moon", "must be one of bento, browser, edge")],
)
def test_a_place_that_is_none_is_said(to: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        export.run("any", to, None, tmp_path / "out")


def test_a_folder_that_cannot_be_meant_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out, words in (
        (tmp_path, "isn't empty: name a new folder"),
        (tmp_path / "file", "is a file: name a folder"),
        (tmp_path / "a/b", "there is no directory"),
    ):
        with pytest.raises(SpecError, match=words):
            export.run("any", "edge", None, out)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), folder_written_aside(out) as aside:
        (aside / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    out.mkdir()  # an empty one is as good as none
    with folder_written_aside(out) as aside:
        (aside / "whole").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "whole").read_text() == "x"


def test_a_bundle_without_a_graph_says_why(tmp_path: Path) -> None:
    signature = Signature(
        task=Task.BINARY, target="y", features=[Feature(name="x", kind=Kind.NUMBER)],
        classes=["a", "b"],
    )  # fmt: skip
    signature.write(tmp_path / "signature.json")
    Profile(rows=1, columns=[]).write(tmp_path / "reference.json")
    parity = Parity(
        rows=2000, largest_difference=0.25, equal_labels=0.9, tolerance=1e-3, passed=False
    )
    described = mlmodel.render(signature, refit._why_native(parity, None))
    (tmp_path / MLMODEL).write_text(described, encoding="utf-8")
    why = Bundle.at(tmp_path).why_native
    assert "on 2,000 rows its ONNX graph differs from scikit-learn by up to 0.25" in why
    assert "10.00% of the labels" in why
