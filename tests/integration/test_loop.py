"""The loop over real HTTP: predictions, labels, the monitor."""

import json
from pathlib import Path
from typing import Any

from conftest import Finished, copied, serving, treadle


def test_a_model_at_work_is_asked_told_and_looked_at(tmp_path: Path, wine: Finished) -> None:
    home = copied(wine, tmp_path)
    golden = home / "objects/bundles" / wine.summary["digest"] / "golden.json"
    known = json.loads(golden.read_text(encoding="utf-8"))
    rows = [row for row in known["rows"] if None not in row.values()] * 30
    with serving(home, tmp_path) as server:
        status, answer = server.predict("wine", rows)
        assert status == 200
        found = answer["predictions"]
        sent = [{"id": each["id"], "label": each["prediction"]} for each in found[:150]]
        path = "/v1/models/wine/labels"
        status, kept = server.request(path, json.dumps({"labels": sent}).encode())
        assert (status, kept["labels"], kept["is_new"]) == (200, 150, True)
        status, refused = server.request(path, b'{"labels": [{"id": "a", "label": {}}]}')
        assert (status, "no single value" in refused["error"]) == (422, True)
    table = tmp_path / "labels.csv"
    late = "".join(f"{each['id']},{each['prediction']}\n" for each in found[150:])
    table.write_text(f"id,label\n{late}never-asked,1\n", encoding="utf-8")
    told = treadle("label", "wine", table, "--json", home=home).json
    assert (told["predictions"], told["not_joined"]) == (len(rows) + 1, 1)
    again = treadle("label", "wine", table, home=home)
    assert "had come before: nothing was changed" in again.out
    looked(home, tmp_path)


def looked(home: Path, directory: Path) -> None:
    """Few rows, of which many are the same: far from training, which is what is seen."""
    spec = directory / "sharp.yaml"
    spec.write_text(
        "name: wine\ntarget: grower\nsource: wine.csv\nfeedback: {min_rows: 100, jump_at: 0.1}\n"
    )
    done = treadle("monitor", "wine", "--spec", spec, "--json", home=home)
    (row,) = done.json["models"]
    assert row["verdict"] == "incident", done.out
    assert done.code == 3
    assert row["metric"]["value"] < 0.1
    page = Path(done.json["page"])
    assert "Models at work" in page.read_text(encoding="utf-8")
    assert (page.parent / "monitor/wine.html").is_file()
    assert treadle("monitor", home=home).code == 3  # nothing new, and it still waits for somebody
    accepted = treadle("monitor", "wine", "--accept", "--why", "a test", home=home)
    assert accepted.code == 0, accepted.err
    history: Any = treadle("history", "wine", "--json", home=home).json
    assert [entry["kind"] for entry in history["decisions"]] == ["decided", "accepted"]
    shown = treadle("history", "wine", home=home).out
    assert "incident" in shown
    assert "accepted" in shown


def test_what_can_not_be_meant_is_said(tmp_path: Path, wine: Finished) -> None:
    unknown = treadle("monitor", "wind", home=wine.home)
    assert (unknown.code, "did you mean 'wine'" in unknown.err) == (1, True)
    alone = treadle("monitor", "--accept", home=wine.home)
    assert (alone.code, "needs a model and a reason" in alone.err) == (2, True)
    table = tmp_path / "labels.csv"
    table.write_text("id,answer\na,1\n", encoding="utf-8")
    lacking = treadle("label", "wine", table, home=wine.home)
    assert (lacking.code, "has no column 'label' or 'grower'" in lacking.err) == (1, True)
    empty = treadle("monitor", home=tmp_path / "nothing")
    assert (empty.code, "no model is at work yet" in empty.out) == (0, True)
