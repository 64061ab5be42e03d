"""A version is rebuilt from what was kept of it, and the answer is honest."""

import shutil
from pathlib import Path

from conftest import Finished, another_version, copied, treadle
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry


def test_a_version_is_rebuilt_to_the_digest(wine: Finished) -> None:
    done = treadle("reproduce", "wine", "1", "--json", home=wine.home)
    assert done.code == 0, done.err
    found = done.json
    assert found["equal"]
    assert found["rebuilt"] == found["digest"] == wine.summary["digest"]
    assert found["distance"]["largest"] == 0
    assert found["because"] == found["files"] == []


def test_what_is_not_equal_is_said_with_how_far_and_what_is_otherwise(
    tmp_path: Path, wine: Finished
) -> None:
    """The second version has another file in its bundle."""
    home = copied(wine, tmp_path)
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    digest = another_version(home, registry)
    done = treadle("reproduce", "wine", "2", home=home)
    assert done.code == 1
    assert "is not equal" in done.out
    assert f"registered  {digest}" in done.out
    assert "differing   reference.json" in done.out
    assert "at most 0 apart on" in done.out
    assert "labels      100.00% equal" in done.out
    assert "nothing that was written down is otherwise" in done.out


def test_rows_that_are_gone_or_altered_are_said(tmp_path: Path, wine: Finished) -> None:
    home = copied(wine, tmp_path)
    (version,) = treadle("models", "wine", "--json", home=home).json["versions"]
    kept = home / "objects/snapshots" / version["lineage"]["snapshot"]["digest"]
    held_out = home / "objects/snapshots" / version["lineage"]["split"]["held_out"]
    shutil.copyfile(held_out / "data.parquet", kept / "data.parquet")
    altered = treadle("reproduce", "wine", "1", home=home)
    assert (altered.code, altered.out) == (1, "")
    assert "was altered" in altered.err
    shutil.rmtree(kept)
    gone = treadle("reproduce", "wine", "1", home=home)
    assert (gone.code, gone.out) == (1, "")
    assert kept.name in gone.err
    assert "Traceback" not in altered.err + gone.err
