"""A home is backed up, and lives on elsewhere."""

import json
from pathlib import Path
from typing import Any

from conftest import EXAMPLES, Finished, treadle


def placeless(told: dict[str, Any], home: Path) -> dict[str, Any]:
    """What a command told, but for where the home is and when a version came there."""
    text = json.dumps(told).replace(str(home), "HOME")
    found: dict[str, Any] = json.loads(text)
    for version in found.get("versions", []):
        version.pop("registered_at")
    return found


def test_a_restored_home_has_the_same_champion_that_can_be_rebuilt_and_asked(
    wine: Finished, tmp_path: Path
) -> None:
    out, there = tmp_path / "all.tar", tmp_path / "there"
    taken = treadle("backup", out, home=wine.home)
    assert taken.code == 0, taken.err
    assert taken.out.startswith("wrote 1 model with 1 version and ")
    back = treadle("restore", out, home=there)
    assert back.code == 0, back.err
    assert "added 1 model with 1 version" in back.out
    for command in ("models", "history"):
        before = treadle(command, "wine", "--json", home=wine.home).json
        after = treadle(command, "wine", "--json", home=there).json
        assert placeless(after, there) == placeless(before, wine.home)
    rebuilt = treadle("reproduce", "wine", "1", "--json", home=there)
    assert rebuilt.json["equal"]


def test_bad_requests_end_in_words(wine: Finished, tmp_path: Path) -> None:
    wrong = treadle("backup", tmp_path / "all.zip", home=wine.home)
    assert (wrong.code, wrong.out) == (2, "")
    assert "must end in .tar" in wrong.err
    nothing = treadle("restore", tmp_path / "none.tar", home=tmp_path / "there")
    assert (nothing.code, nothing.out) == (1, "")
    assert "there is no file" in nothing.err
    table = treadle("restore", next(EXAMPLES.glob("*/*.yaml")), home=tmp_path / "there")
    assert table.code == 1
    assert "treadle backup writes one" in table.err
    assert not (tmp_path / "there" / "objects").exists()
