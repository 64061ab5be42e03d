"""Promotion, rollback and history, as a person types them."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from conftest import Finished, another_version, changed_spec, copied, treadle
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


def test_a_version_waits_for_a_person_where_the_spec_says_so(
    tmp_path: Path, wine: Finished
) -> None:
    """The same rows and parameters as before: what was trained comes from the cache."""
    home = copied(wine, tmp_path)
    changes = {"training": {"trials": 3}, "approval": "required", "owner": "ann"}
    done = treadle("run", changed_spec("wine", tmp_path, changes), "--json", home=home)
    assert done.code == 3, done.err
    told = done.json
    assert (told["version"], told["semver"]) == (2, "1.0.1")
    assert (told["promoted"], told["awaits_approval"]) == (False, True)
    assert "treadle approve wine 2" in told["reasons"][-1]
    refused = treadle("promote", "wine", "2", home=home)
    assert (refused.code, refused.out) == (3, "")
    assert 'treadle approve wine 2 --why "…"' in refused.err
    lacking = treadle("approve", "wine", "2", home=home)
    assert lacking.code == 2
    assert "--why" in lacking.err
    approved = treadle("approve", "wine", "2", "--who", "eve", "--why", "seen", home=home)
    assert approved.code == 0, approved.err
    assert "version 2 is the champion, before it was version 1" in approved.out
    last = treadle("history", "wine", "--json", home=home).json["changes"][-1]
    assert (last["kind"], last["who"], last["why"]) == ("approved", "eve", "seen")
    retired = treadle("retire", "wine", "1", "--why", "too old", home=home)
    assert (retired.code, retired.out.strip()) == (0, "wine version 1 (1.0.0) is retired")
    assert "no former champion" in treadle("rollback", "wine", home=home).err
    lineage = treadle("models", "wine", "--json", home=home).json["versions"][0]["lineage"]
    assert lineage["who"]
    assert set(lineage["pages"]) == {"analysis.html", "card.html", "validation.html"}
    for key in (lineage["environment"], *lineage["pages"].values()):
        assert (home / "objects" / key).stat().st_size > 100


def test_a_version_is_carried_to_another_home_in_one_file(home: Path, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "wine.tar", tmp_path / "elsewhere"
    packed = treadle("pack", "wine", "2", "-o", archive, "--json", home=home)
    assert packed.code == 0, packed.err
    arrived = treadle("unpack", archive, home=elsewhere)
    assert arrived.code == 0, arrived.err
    assert f"bundle {packed.json['digest']}" in arrived.out
    assert treadle("promote", "wine", "1", home=elsewhere).code == 0
    (model,) = treadle("models", "--json", home=elsewhere).json["models"]
    assert model["champion"]["digest"] == packed.json["digest"]


def test_what_is_no_archive_of_now_is_refused_and_changes_nothing(
    home: Path, tmp_path: Path
) -> None:
    archive, newer = tmp_path / "wine.tar", tmp_path / "newer.tar"
    assert treadle("pack", "wine", "1", "-o", archive, home=home).code == 0
    with tarfile.open(archive) as ours, tarfile.open(newer, "w") as theirs:
        for member in ours.getmembers():
            content = ours.extractfile(member)
            assert content is not None
            raw = content.read()
            if member.name == "treadle.json":
                raw = json.dumps(json.loads(raw) | {"format": 99}).encode()
                member.size = len(raw)
            theirs.addfile(member, io.BytesIO(raw))
    (tmp_path / "cut.tar").write_bytes(archive.read_bytes()[:2000])
    elsewhere = tmp_path / "elsewhere"
    for arguments, code, words in (
        (("unpack", newer), 1, "has format 99, and this Treadle reads up to"),
        (("unpack", tmp_path / "cut.tar"), 1, "cut.tar"),
        (("unpack", tmp_path / "nowhere.tar"), 1, "nowhere.tar"),
        (("pack", "wine", "1", "-o", tmp_path / "wine.zip"), 2, ".tar"),
    ):
        done = treadle(*arguments, home=home if arguments[0] == "pack" else elsewhere)
        assert (done.code, done.out) == (code, ""), done.err
        assert words in done.err, done.err
        assert "Traceback" not in done.err
    assert treadle("models", "--json", home=elsewhere).json["models"] == []
