"""Promotion, rollback and history, as a person types them."""

from pathlib import Path

import pytest

from conftest import Finished, another_version, copied, treadle
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry


@pytest.fixture
def home(tmp_path: Path, wine: Finished) -> Path:
    """A home whose model has a second version, which nobody has promoted yet."""
    home = copied(wine, tmp_path)
    another_version(home, SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts"))
    return home


def test_promote_rollback_and_history_go_together(home: Path, wine: Finished) -> None:
    promoted = treadle("promote", "wine", "1.0.1", "--who", "ann", "--why", "größer", home=home)
    assert promoted.code == 0, promoted.err
    assert "version 2 is the champion" in promoted.out
    assert "treadle rollback wine" in promoted.out
    again = treadle("promote", "wine", "2", home=home)
    assert (again.code, "already" in again.out) == (0, True)
    restored = treadle("rollback", "wine", "--who", "bob", "--json", home=home)
    assert restored.code == 0, restored.err
    assert restored.json["change"]["digest"] == wine.summary["digest"]
    told = treadle("history", "wine", "--json", home=home).json["changes"]
    assert [(c["kind"], c["from_version"], c["to_version"]) for c in told] == [
        ("promoted", None, 1),
        ("promoted", 1, 2),
        ("rolled back", 2, 1),
    ]
    assert told[0]["who"].startswith("run wine-")
    assert [c["who"] for c in told[1:]] == ["ann", "bob"]
    table = treadle("history", "wine", home=home).out.splitlines()
    assert table[0].split() == ["WHEN", "WHAT", "FROM", "TO", "WHO", "WHY"]
    assert "rolled back" in table[1]
    assert "größer" in table[2]


def test_what_cannot_be_done_is_said_and_changes_nothing(home: Path) -> None:
    for arguments, code, words in (
        (("promote", "wnie", "2"), 1, "did you mean 'wine'?"),
        (("promote", "wine", "9"), 1, "wine has no version 9 (it has 2 (1.0.1), 1 (1.0.0))"),
        (("promote", "wine", "1.0.2"), 1, "did you mean '1.0.1'?"),
        (("promote", "wine", "2", "--who", " "), 2, "--who is empty"),
        (("promote", "wine", "2", "--why", "x" * 2000), 2, "1,000 are the most"),
        (("rollback", "wine"), 1, "no former champion"),
        (("history", "nobody"), 1, "there is no model 'nobody'"),
    ):
        done = treadle(*arguments, home=home)
        assert (done.code, done.out) == (code, ""), done.err
        assert words in done.err, arguments
        assert "Traceback" not in done.err
    (model,) = treadle("models", "--json", home=home).json["models"]
    assert model["champion"]["version"] == 1
    assert len(treadle("history", "wine", "--json", home=home).json["changes"]) == 1
