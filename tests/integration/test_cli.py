"""The commands, as a person with a table of their own uses them."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import Finished, changed_spec, copied, treadle
from treadle.spec import Spec


def customers(rows: int = 600) -> pd.DataFrame:
    """A table as people have it: an identifier, a date, words, gaps, a non-ASCII name."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "customer id": [f"C{i:05d}" for i in range(rows)],
            "joined": pd.Timestamp("2022-01-03")
            + pd.to_timedelta(random.integers(0, 700, rows), unit="D"),
            "Größe": random.normal(170, 10, rows).round(1),
            "plan": random.choice(["basic", "pro", "team"], rows),
            "visits": random.integers(0, 50, rows).astype(float),
        }
    )
    frame.loc[::9, "visits"] = np.nan
    leaning = (frame["visits"].fillna(10) - 20) / 8 + (frame["plan"] == "pro")
    frame["churned"] = np.where(random.random(rows) < 1 / (1 + np.exp(-leaning)), "yes", "no")
    return frame


@pytest.fixture(scope="module")
def own_table(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A person's own CSV: init, run, with a few trials for the test's sake."""
    directory = tmp_path_factory.mktemp("own")
    customers().to_csv(directory / "my customers.csv", index=False)
    wrote = treadle("init", "my customers.csv", "--target", "churned", home=directory / "home",
                    cwd=directory)  # fmt: skip
    assert wrote.code == 0, wrote.err
    spec = directory / "my-customers.yaml"
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace("trials: 16", "trials: 3"), encoding="utf-8")
    done = treadle("run", spec, "--json", home=directory / "home")
    assert done.code == 0, done.err
    return Finished(directory / "home", spec, done.json)


def test_init_writes_every_default_with_a_comment(own_table: Finished) -> None:
    text = own_table.spec.read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    for name, field in Spec.model_fields.items():
        assert name in written
        inner = getattr(field.annotation, "model_fields", {})
        if name != "source":
            assert set(inner) <= set(written[name] or {})
    keys = [line for line in text.splitlines() if ":" in line and not line.strip().startswith("#")]
    comments = [line for line in text.splitlines() if line.strip().startswith("#")]
    assert len(comments) >= len(keys)


def test_init_sees_the_task_the_time_and_the_identifier(own_table: Finished) -> None:
    written = yaml.safe_load(own_table.spec.read_text(encoding="utf-8"))
    assert written["task"] == "binary"
    assert written["preprocessing"]["split"] == "time"
    assert written["preprocessing"]["split_column"] == "joined"
    assert "customer id" in own_table.spec.read_text(encoding="utf-8")


def test_words_of_the_target_come_back_as_they_were_written(own_table: Finished) -> None:
    (version,) = treadle("models", "my-customers", "--json", home=own_table.home).json["versions"]
    assert version["signature"]["classes"] == ["no", "yes"]
    assert version["signature"]["ignored"] == ["customer id"]


def test_batch_predictions_are_those_of_the_server(own_table: Finished, tmp_path: Path) -> None:
    table, out = tmp_path / "more.csv", tmp_path / "scored.parquet"
    customers(300).drop(columns="churned").to_csv(table, index=False)
    done = treadle("predict", "my-customers", table, "-o", out, home=own_table.home)
    assert done.code == 0, done.err
    scored = pq.read_table(out).to_pandas()
    assert len(scored) == 300
    both = scored["probability_yes"] + scored["probability_no"]
    assert np.allclose(both, 1, atol=1e-5)
    likelier = np.where(scored["probability_yes"] > scored["probability_no"], "yes", "no")
    assert (scored["prediction"] == likelier).all()


def test_predict_writes_csv_to_stdout(own_table: Finished, tmp_path: Path) -> None:
    table = tmp_path / "more.csv"
    customers(5).to_csv(table, index=False)
    done = treadle("predict", "my-customers", table, home=own_table.home)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(done.out.splitlines()))
    assert len(rows) == 5
    assert {row["prediction"] for row in rows} <= {"yes", "no"}


def test_models_names_each_champion_and_where_it_comes_from(wine: Finished) -> None:
    every = treadle("models", home=wine.home)
    assert every.code == 0
    assert "wine" in every.out
    assert "log_loss" in every.out
    one = treadle("models", "wine", home=wine.home)
    assert "champion" in one.out
    assert wine.summary["digest"][:12] in one.out
    assert "wine_data.csv" in one.out


def test_a_challenger_that_is_worse_is_kept_out_with_reasons(
    wine: Finished, tmp_path: Path
) -> None:
    """The same wines without the columns that tell them apart: the gate must say no."""
    home = copied(wine, tmp_path)
    useful = ["proline", "flavanoids", "color_intensity", "alcohol", "od280_od315", "hue",
              "total_phenols", "malic_acid"]  # fmt: skip
    worse = changed_spec(
        "wine", tmp_path, {"training": {"trials": 3}, "preprocessing": {"exclude": useful}}
    )
    done = treadle("run", worse, "--json", home=home)
    assert done.code == 3, done.err
    assert not done.json["promoted"]
    assert any("the champion (version 1) on the same rows" in r for r in done.json["reasons"])
    versions = treadle("models", "wine", "--json", home=home).json["versions"]
    aliases = {version["version"]: version["aliases"] for version in versions}
    assert aliases == {1: ["champion"], 2: ["challenger"]}
    assert versions[0]["semver"] == "2.0.0"  # fewer features: another signature
    html = Path(done.json["report"]).read_text(encoding="utf-8")
    assert "the champion stays" in html


def test_compile_writes_ir_with_the_spec_inside(wine: Finished, tmp_path: Path) -> None:
    out = tmp_path / "ir.yaml"
    done = treadle("compile", wine.spec, "-o", out, "--json", home=wine.home)
    assert done.code == 0, done.err
    assert done.json == {"ir": str(out)}
    ir = next(yaml.safe_load_all(out.read_text(encoding="utf-8")))
    parameters = ir["root"]["inputDefinitions"]["parameters"]
    assert parameters["model"]["defaultValue"] == "wine"
    assert json.loads(parameters["spec"]["defaultValue"])["name"] == "wine"


def test_the_pages_of_a_version_are_shown_in_mlflow(wine: Finished) -> None:
    found = list((wine.home / "mlflow-artifacts").rglob("*.html"))
    assert {path.name for path in found} == {"analysis.html", "card.html", "validation.html"}
    shown = {path.name for path in (wine.home / "mlflow-artifacts").rglob("figures/*.svg")}
    assert {"calibration.svg", "importances.svg", "explanation-1.svg", "trials.svg"} <= shown


def test_kubeflow_is_given_metrics_with_intervals_and_the_confusion_matrix(wine: Finished) -> None:
    (written,) = (wine.home / "steps").rglob("analyse-model/executor_output.json")
    artifacts = json.loads(written.read_text(encoding="utf-8"))["artifacts"]
    given = {name: found["artifacts"][0].get("metadata", {}) for name, found in artifacts.items()}
    metrics = given["metrics"]
    assert metrics["log_loss_low"] <= metrics["log_loss"] <= metrics["log_loss_high"]
    assert metrics["log_loss"] == wine.summary["metric"]["value"]
    rows = [row["row"] for row in given["classes"]["confusionMatrix"]["rows"]]
    assert [len(row) for row in rows] == [3, 3, 3]
