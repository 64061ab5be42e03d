"""The search, on Ray."""

from pathlib import Path

from conftest import changed_spec, treadle


def test_the_best_so_far_is_kept_when_the_time_is_up(tmp_path: Path) -> None:
    spec = changed_spec("wine", tmp_path, {"training": {"trials": 500, "budget_s": 3}})
    done = treadle("run", spec, "--json", home=tmp_path / "home")
    assert done.code == 0, done.err
    assert done.json["promoted"]
    trials = done.err.count("trial ")
    assert 0 < trials < 500
