"""The model server over real HTTP."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from chromium import CHROMIUM, browser
from conftest import (
    Finished,
    Server,
    another_version,
    copied,
    free_port,
    serving,
    started,
    wait_for,
)
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry


@pytest.fixture(scope="module")
def server(wine: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(wine.home, tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture(scope="module")
def rows(wine: Finished) -> list[dict[str, Any]]:
    """The bundle's golden rows."""
    golden = wine.home / "objects/bundles" / wine.summary["digest"] / "golden.json"
    return list(json.loads(golden.read_text(encoding="utf-8"))["rows"])


def test_it_answers_the_golden_rows_as_the_bundle_did(
    server: Server, wine: Finished, rows: list[dict[str, Any]]
) -> None:
    status, answer = server.predict("wine", rows)
    assert status == 200
    assert (answer["version"], answer["digest"]) == (1, wine.summary["digest"])
    golden = wine.home / "objects/bundles" / wine.summary["digest"] / "golden.json"
    expected = json.loads(golden.read_text(encoding="utf-8"))["answers"]
    for got, wanted in zip(answer["predictions"], expected, strict=True):
        assert got["prediction"] == wanted["prediction"]
        assert got["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)


def test_it_lists_and_describes_its_models(server: Server) -> None:
    status, listed = server.request("/v1/models")
    assert status == 200
    assert listed["models"] == [
        {"name": "wine", "champion": 1, "aliases": {"champion": 1}, "state": "loaded"}
    ]
    status, described = server.request("/v1/models/wine")
    assert status == 200
    assert described["signature"]["classes"] == ["0", "1", "2"]
    assert {f["kind"] for f in described["signature"]["features"]} == {"number"}


def test_columns_in_another_order_extra_ones_and_missing_ones_are_taken(
    server: Server, rows: list[dict[str, Any]]
) -> None:
    row = rows[-1]
    _, plain = server.predict("wine", [row])
    backwards = dict(reversed(row.items())) | {"price": 12}
    _, turned = server.predict("wine", [backwards])
    assert turned["predictions"][0]["probabilities"] == plain["predictions"][0]["probabilities"]
    status, _ = server.predict("wine", [{k: v for k, v in row.items() if k != "hue"}])
    assert status == 200


def test_bad_values_are_named_by_row_and_column(server: Server, rows: list[dict[str, Any]]) -> None:
    status, answer = server.predict("wine", [rows[0], rows[0] | {"hue": "pale", "ash": [1]}])
    assert status == 422
    assert [(e["row"], e["column"]) for e in answer["rows"]] == [(1, "ash"), (1, "hue")]
    assert "'pale' is not a number" in answer["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "JSON object"),
        (b'{"rows": []}', "at least one row"),
        (b'{"rows": 3}', '"rows"'),
        (b'{"rows": [3]}', "row 0 is a number"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_a_body_that_is_no_request_gets_400_and_words(
    server: Server, body: bytes, words: str
) -> None:
    status, answer = server.request("/v1/models/wine/predict", body)
    assert status == 400
    assert words in answer["error"]
    assert "Traceback" not in json.dumps(answer)


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    status, answer = server.request("/v1/models/wine/predict", b" " * (33 * 1024**2))
    assert status == 413
    assert "32 MiB" in answer["error"]


def test_an_unknown_model_is_answered_with_the_nearest(server: Server) -> None:
    status, answer = server.predict("wind", [{}])
    assert status == 404
    assert "did you mean 'wine'" in answer["error"]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
def test_a_person_tries_a_model_on_the_page(
    server: Server, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    wanted = server.predict("wine", rows[-1:])[1]["predictions"][0]
    with browser(tmp_path) as page:
        page.open(f"{server.url}/")
        page.wait_for("document.querySelector('#models button')?.textContent === 'try it'")
        page.run("document.querySelector('#models button').click()")
        page.wait_for("document.querySelectorAll('#try form input').length")
        assert page.run("document.querySelectorAll('#try form input').length") == 13
        page.run("document.querySelector('#try form button').click()")
        shown = page.wait_for("document.querySelector('#answer').innerText")
        assert shown.splitlines()[0] == wanted["prediction"]
        assert "what it is owed to" in shown
        page.open(f"{server.url}/docs")
        page.wait_for("document.body?.innerText.includes('/v1/models/{name}/predict')")


def test_health_and_metrics_are_there(server: Server) -> None:
    assert server.request("/livez")[0] == 200
    assert server.request("/readyz")[0] == 200
    status, text = server.request("/metrics")
    assert status == 200
    assert 'treadle_requests_total{model="wine",status="200"}' in text
    assert "process_resident_memory_bytes" in text


def test_a_promotion_is_served_without_a_restart(tmp_path: Path, wine: Finished) -> None:
    home = copied(wine, tmp_path)
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    second = another_version(home, registry)
    with serving(home, tmp_path) as server:

        def served() -> tuple[int, str]:
            status, answer = server.predict("wine", [{}])
            assert status == 200, answer
            return answer["version"], answer["digest"]

        assert served() == (1, wine.summary["digest"])
        registry.set_alias("wine", "champion", 2)
        wait_for(lambda: served() == (2, second), 5, "version 2 is served")
        registry.set_alias("wine", "champion", 1)
        wait_for(lambda: served() == (1, wine.summary["digest"]), 5, "version 1 is served again")


def test_what_was_answered_is_logged_when_the_server_ends(wine: Finished, tmp_path: Path) -> None:
    home = copied(wine, tmp_path)
    with serving(home, tmp_path) as server:
        status, answer = server.predict("wine", [{}, {"hue": 1.0}])
        assert status == 200
    (file,) = (home / "objects/predictions/wine").rglob("*.parquet")
    found = pq.read_table(file).to_pylist()
    assert [row["prediction_id"] for row in found] == [p["id"] for p in answer["predictions"]]
    assert [row["prediction"] for row in found] == [p["prediction"] for p in answer["predictions"]]
    assert {row["digest"] for row in found} == {answer["digest"]}


def test_an_altered_bundle_is_not_served(tmp_path: Path, wine: Finished) -> None:
    home = copied(wine, tmp_path)
    model = home / "objects/bundles" / wine.summary["digest"] / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with serving(home, tmp_path) as server:
        status, answer = server.predict("wine", [{}])
        assert status == 503
        assert "altered" in answer["error"]


def test_sigterm_ends_the_server_and_its_workers(wine: Finished, tmp_path: Path) -> None:
    port = free_port()
    process = started("serve", "--port", port, home=wine.home, log=tmp_path / "log")
    server = Server(f"http://127.0.0.1:{port}", process, tmp_path / "log")
    wait_for(server.is_ready, 60, "the server is ready")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    with pytest.raises(OSError, match="refused"):
        server.request("/readyz")
