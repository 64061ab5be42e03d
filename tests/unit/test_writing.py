"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from treadle.writing import written_aside


def test_a_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("former")
    with written_aside(path) as aside:
        aside.write_text("whole")
        assert aside.suffix == ".yaml"
        assert path.read_text() == "former"
    assert path.read_text() == "whole"
    assert [*tmp_path.iterdir()] == [path]


def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("former")
    with pytest.raises(ValueError, match="in the middle"), written_aside(path) as aside:
        aside.write_text("half")
        raise ValueError("in the middle")
    assert path.read_text() == "former"
    assert [*tmp_path.iterdir()] == [path]


def test_a_block_that_writes_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "model.yaml"):
        pass
    assert not [*tmp_path.iterdir()]


def test_who_was_faster_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with (
        pytest.raises(FileExistsError),
        written_aside(path, replace=False) as mine,
    ):
        mine.write_text("mine")
        with written_aside(path, replace=False) as aside:
            aside.write_text("another's")
    assert path.read_text() == "another's"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_is_not_there_yet_is_made_without_replacing(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with written_aside(path, replace=False) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert [*tmp_path.iterdir()] == [path]
