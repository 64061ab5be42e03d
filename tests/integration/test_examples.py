"""Every example runs as its reader would run it, and comes to what it promises."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from conftest import EXAMPLES, Finished, treadle
from treadle.records import Profile


@pytest.fixture(scope="module", params=["breast_cancer", "flights"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An example, run unchanged."""
    (spec,) = EXAMPLES.glob(f"{request.param}/*.yaml")
    home = tmp_path_factory.mktemp(request.param) / "home"
    done = treadle("run", spec, "--json", home=home)
    assert done.code == 0, done.err
    return Finished(home, spec, done.json)


def test_an_example_ends_with_a_champion_that_answered_over_http(example: Finished) -> None:
    summary = example.summary
    assert summary["promoted"]
    answer = json.loads(summary["prediction"]["answer"])
    assert answer["digest"] == summary["digest"]
    assert len(answer["predictions"]) == len(json.loads(summary["prediction"]["request"])["rows"])


def test_an_examples_report_is_one_file_that_needs_no_network(example: Finished) -> None:
    html = Path(example.summary["report"]).read_text(encoding="utf-8")
    for heading in ("How good it is", "How it was found", "The data", "Serving", "What it cost"):
        assert heading in html
    assert "<svg" in html
    assert 'src="http' not in html
    assert 'href="http' not in html


def test_an_example_is_as_good_as_it_says(example: Finished) -> None:
    metric = example.summary["metric"]
    worst = {"roc_auc": 0.97, "rmse": 17.0}[metric["name"]]
    assert metric["low"] <= metric["value"] <= metric["high"]
    assert metric["value"] >= worst if metric["higher_is_better"] else metric["value"] <= worst


def test_a_second_run_of_an_example_takes_training_from_the_first(example: Finished) -> None:
    again = treadle("run", example.spec, "--json", home=example.home)
    assert again.code == 0, again.err
    ran = {step["stage"] for step in again.json["steps"]}
    assert not ran & {"ingest", "preprocess", "train"}
    assert again.json["version"] == example.summary["version"]
    assert again.json["digest"] == example.summary["digest"]


def test_flights_learns_from_the_past_only(example: Finished) -> None:
    if example.summary["model"] != "flights":
        pytest.skip("about the flights example")
    (version,) = treadle("models", "flights", "--json", home=example.home).json["versions"]
    lineage = version["lineage"]
    assert lineage["snapshot"]["rows"] == 336_776
    cutoff = datetime.fromisoformat(lineage["split"]["cutoff"]).timestamp()
    digest = version["digest"]
    learned_from = Profile.read(example.home / "objects/bundles" / digest / "reference.json")
    latest = learned_from.column("scheduled")
    assert latest is not None
    assert latest.maximum is not None
    assert latest.maximum < cutoff
    assert learned_from.rows == lineage["split"]["train_rows"]
