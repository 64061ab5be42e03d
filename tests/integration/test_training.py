"""The search, on Ray, with little time."""

from pathlib import Path

from conftest import changed_spec, treadle


def test_the_best_so_far_is_kept_when_the_time_is_up(tmp_path: Path) -> None:
    spec = changed_spec("wine", tmp_path, {"training": {"trials": 500, "budget_s": 6}})
    done = treadle("run", spec, "--json", home=tmp_path / "home")
    assert done.code == 0, done.err
    assert done.json["promoted"]
    trials = done.err.count("trial ")
    assert 0 < trials < 500


def test_a_budget_too_small_for_any_candidate_is_put_into_words(tmp_path: Path) -> None:
    spec = changed_spec("wine", tmp_path, {"training": {"trials": 2, "budget_s": 0.01}})
    done = treadle("run", spec, home=tmp_path / "home")
    assert done.code == 1
    assert "training.budget_s: raise it" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
