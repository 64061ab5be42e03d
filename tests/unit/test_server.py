"""The model server's application, asked in process."""

import gc
import io
import json
import struct
import time
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_fakes import Running

from treadle import predictions
from treadle.config import Settings
from treadle.errors import SpecError, StoreError
from treadle_serving import canary as canaries

PREDICT = "/v1/models/sum/predict"
ROW = {"x": 1.0, "y": 2.0, "colour": "red"}


@pytest.fixture
def server(tmp_path: Path) -> Running:
    return Running(tmp_path)


# Rows


def test_an_answer_names_model_version_digest_and_an_id_a_row(server: Running) -> None:
    answer = server.post(PREDICT, json={"rows": [ROW, ROW | {"colour": "blue"}]})
    content = answer.json()
    assert [found["prediction"] for found in content["predictions"]] == [13.0, 23.0]
    assert (content["model"], content["version"], content["semver"]) == ("sum", 1, "1.0.0")
    assert content["digest"] == server.registry.versions("sum")[0].digest
    ids = [found["id"] for found in content["predictions"]]
    assert ids == [f"{answer.headers['x-request-id']}-{n}" for n in (0, 1)]


def test_a_client_may_name_its_request_and_its_rows(server: Running) -> None:
    answer = server.post(PREDICT, json={"rows": [ROW], "ids": ["order 7"]},
                         headers={"x-request-id": "mine"})  # fmt: skip
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["predictions"][0]["id"] == "order 7"


def test_requests_that_come_together_get_their_own_answers_and_faults(server: Running) -> None:
    asked = [{"x": n, "y": 0, "colour": "none"} for n in range(40)]
    asked[7] = {"x": "seven", "y": 0}
    answers = server.ask(*(("POST", PREDICT, {"json": {"rows": [row]}}) for row in asked))
    for n, answer in enumerate(answers):
        if n == 7:
            assert answer.status_code == 422
            assert answer.json()["rows"] == [
                {"row": 0, "column": "x", "error": "'seven' is not a number"}
            ]
        else:
            assert answer.json()["predictions"][0]["prediction"] == n


def test_a_large_request_is_answered_as_a_small_one_is(server: Running) -> None:
    rows = [{"x": n, "y": 1, "colour": "red"} for n in range(1000)]
    assert server.predict(*rows) == [n + 11.0 for n in range(1000)]


def test_extra_columns_are_counted_and_order_does_not_matter(server: Running) -> None:
    assert server.predict({"colour": "red", "more": 1, "y": 2, "x": 1}) == [13.0]
    assert 'treadle_extra_columns_total{model="sum"} 1.0' in server.get("/metrics").text


def test_values_in_columns_that_the_model_ignores_are_counted_and_told(tmp_path: Path) -> None:
    server = Running(tmp_path, ignored=["too late", "absent"])
    rows = [ROW | {"too late": 1}, ROW | {"too late": None}, ROW]
    answer = server.post(PREDICT, json={"rows": rows})
    assert answer.headers["x-ignored-values"] == "too%20late=1"
    body = b"x,y,colour,too late\n1,2,red,5\n1,2,red,\n1,2,red,6\n"
    answer = server.post(PREDICT, content=body, headers={"content-type": "text/csv"})
    assert answer.headers["x-ignored-values"] == "too%20late=2"
    inputs = [{"name": n, "datatype": "FP32", "shape": [1], "data": [1]} for n in ("x", "too late")]
    answer = server.post("/v2/models/sum/infer", json={"inputs": inputs})
    assert answer.headers["x-ignored-values"] == "too%20late=1"
    assert 'ignored_values_total{column="too late",model="sum"} 4.0' in server.get("/metrics").text
    assert "x-ignored-values" not in server.post(PREDICT, json={"rows": [ROW]}).headers


def test_an_answer_is_explained_by_the_difference_to_the_usual(server: Running) -> None:
    answer = server.post(PREDICT, json={"rows": [ROW | {"colour": "blue"}], "explain": True})
    parts = answer.json()["predictions"][0]["explanation"]
    assert parts == {"colour": 10.0, "x": -3.0, "y": -2.0}


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"not json", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b"[1]", 400, "JSON object"),
        (b'{"rows": []}', 400, "at least one row"),
        (b'{"rows": [3]}', 400, "row 0 is a number"),
        (b'{"rows": [{}], "ids": [1]}', 400, "ids"),
        (b'{"rows": [{}], "ids": []}', 400, "0 entries for 1 row:"),
        (b'{"rows": [{"x": NaN}]}', 400, "not JSON"),
        (b'{"rows": [{"x": [1]}]}', 422, "[1] is not a number"),
        (b'{"rows": ' + b"[" * 100_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_request_gets_words(
    server: Running, body: bytes, status: int, words: str
) -> None:
    answer = server.post(PREDICT, content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_paths_methods_types_and_sizes_that_are_not_taken(tmp_path: Path) -> None:
    server = Running(tmp_path, server_body_mib=1)
    assert server.get("/nothing").status_code == 404
    wrong = server.get(PREDICT)
    assert (wrong.status_code, "use POST" in wrong.text) == (405, True)
    assert wrong.json()["request_id"] == wrong.headers["x-request-id"]
    far = server.post("/v1/models/sum/versions/12345678901/predict", json={"rows": [ROW]})
    assert (far.status_code, far.json()["error"]) == (404, "sum has no version 12345678901")
    assert server.post("/v1/models").status_code == 405
    assert server.post("/v1/models/sun/predict", json={"rows": [ROW]}).status_code == 404
    assert "'sum'" in server.post("/v1/models/sun/predict", json={"rows": [ROW]}).text
    assert server.post(PREDICT, content=b"x" * (2**20 + 1)).status_code == 413
    assert server.post(PREDICT, content=b"{}", headers={"content-type": "image/png"}
                       ).status_code == 415  # fmt: skip
    assert server.post(PREDICT, content=b"{}", headers={"content-encoding": "gzip"}
                       ).status_code == 415  # fmt: skip
    pinned = server.post("/v1/models/sum/versions/9/predict", json={"rows": [ROW]})
    assert (pinned.status_code, pinned.json()["error"]) == (404, "sum has no version 9")


def test_a_key_is_asked_for_where_one_is_set_but_not_by_probes(tmp_path: Path) -> None:
    server = Running(tmp_path, server_api_key="secret")
    assert server.post(PREDICT, json={"rows": [ROW]}).status_code == 401
    assert server.get("/v1/models").status_code == 401
    for headers in ({"authorization": "Bearer secret"}, {"x-api-key": "secret"}):
        assert server.post(PREDICT, json={"rows": [ROW]}, headers=headers).status_code == 200
    for path in ("/", "/livez", "/readyz", "/metrics", "/docs.json"):
        assert server.get(path).status_code == 200


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from([PREDICT, "/v2/models/sum/infer"]),
    kind=st.sampled_from(["application/json", "text/csv", "application/vnd.apache.parquet",
                          "application/vnd.apache.arrow.stream"]),
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rows", "ids", "inputs", "x", "data", "name",
                                           "parameters", "outputs", "explain"]), inner),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
def test_no_body_makes_it_fail(shared: Running, path: str, kind: str, body: bytes) -> None:
    answer = shared.post(path, content=body, headers={"content-type": kind})
    assert answer.status_code in (200, 400, 415, 422), answer.text
    assert "Traceback" not in answer.text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Running:
    return Running(tmp_path_factory.mktemp("shared"))


# Tables


def table() -> pa.Table:
    return pa.table({"x": [1, 2], "y": [0.5, None], "colour": ["red", "blue"]})


def as_csv(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pacsv.write_csv(rows, sink)
    return sink.getvalue()


def as_parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


def as_arrow(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()


FORMATS: dict[str, tuple[Any, Any]] = {
    "text/csv": (as_csv, lambda body: pacsv.read_csv(io.BytesIO(body))),
    "application/vnd.apache.parquet": (as_parquet, lambda body: pq.read_table(io.BytesIO(body))),
    "application/vnd.apache.arrow.stream": (
        as_arrow,
        lambda body: pa.ipc.open_stream(body).read_all(),
    ),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_table_is_answered_with_a_table_or_as_it_is_wanted(server: Running, kind: str) -> None:
    write, read = FORMATS[kind]
    body, headers = write(table()), {"content-type": kind}
    answer = server.post(PREDICT, content=body, headers=headers)
    assert answer.headers["content-type"] == kind
    found = read(answer.content).to_pydict()
    assert found["prediction"][0] == 11.5
    assert len(set(found["prediction_id"])) == 2
    wanted = server.post(PREDICT, content=body, headers=headers | {"accept": "application/json"})
    assert wanted.json()["predictions"][0]["prediction"] == 11.5


def test_a_table_that_does_not_fit_is_refused_in_words(server: Running) -> None:
    headers = {"content-type": "text/csv"}
    lacking = server.post(PREDICT, content=b"x,colour\n1,red\n", headers=headers)
    assert (lacking.status_code, "lacks columns that sum reads: y" in lacking.text) == (422, True)
    odd = server.post(PREDICT, content=b"x,y,colour\n1,2,red\n1,many,red\n", headers=headers)
    assert odd.json()["rows"] == [{"row": 1, "column": "y", "error": "'many' is not a number"}]


@pytest.mark.parametrize(
    ("body", "predictions"),
    [
        (b"x,y,colour\n1,2,red\n", [13.0]),
        (b"\xef\xbb\xbfcolour;y;x\nblue;2;1\n", [23.0]),
        (b'x\ty\tcolour\n1\t2\t"red"\r\n1\t2\t\n', [13.0, 3.0]),
        (b"x,y,colour\n 1 ,1e1,red\n2,-0.5,blue\n", [21.0, 21.5]),
        (b"x,y,colour\nNA,2,red\n", [None]),
        (b"x,y,colour\n1,2,NA\n1,2,nan\n", [3.0, 3.0]),
    ],
)
def test_csv_is_read_by_the_signature(
    server: Running, body: bytes, predictions: list[float | None]
) -> None:
    asked = {"content": body, "headers": {"content-type": "text/csv", "accept": "text/csv"}}
    answer = server.post(PREDICT, **asked)
    found = pacsv.read_csv(io.BytesIO(answer.content))["prediction"].to_pylist()
    assert found == predictions


def test_a_category_that_looks_like_a_number_stays_what_it_is(server: Running) -> None:
    for body in (b"x,y,colour\n1,2,007\n1,2,3.0\n", b"x,y,colour\n1,2,true\n1,2,2013-01-01\n"):
        asked = {"content": body, "headers": {"content-type": "text/csv"}}
        assert server.post(PREDICT, **asked).status_code == 200
    found = logged(server, start=True)
    colours = {row["colour"] for row in found["features"]}
    assert colours == {"007", "3.0", "true", "2013-01-01"}


def test_a_csv_whose_header_is_not_utf8_is_refused_in_words(server: Running) -> None:
    asked = {"content": b"x,y\x80,colour\n1,2,red\n", "headers": {"content-type": "text/csv"}}
    answer = server.post(PREDICT, **asked)
    assert answer.status_code == 400
    assert "the columns' names are not UTF-8" in answer.text


# Open Inference Protocol


def test_tensors_are_answered_with_tensors(server: Running) -> None:
    described = server.get("/v2/models/sum").json()
    assert [i["datatype"] for i in described["inputs"]] == ["FP32", "FP32", "BYTES"]
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1.0], [2.0]]},
        {"name": "y", "datatype": "INT64", "shape": [2], "data": [1, 1]},
        {"name": "colour", "datatype": "BYTES", "shape": [2], "data": ["red", None]},
    ]
    answer = server.post("/v2/models/sum/versions/1/infer", json={"id": "a", "inputs": inputs})
    content = answer.json()
    assert (content["id"], content["model_name"], content["model_version"]) == ("a", "sum", "1")
    assert content["outputs"][0]["data"] == [12.0, 3.0]


def test_binary_tensors_are_taken_and_given(server: Running) -> None:
    text = b"".join(struct.pack("<I", len(word)) + word for word in (b"red", b"blue"))
    blobs = [np.array([1, 2], "<f4").tobytes(), np.array([0, 0], "<i8").tobytes(), text]
    head = json.dumps({
        "inputs": [
            {"name": name, "datatype": kind, "shape": [2, 1],
             "parameters": {"binary_data_size": len(blob)}}
            for name, kind, blob in zip(("x", "y", "colour"), ("FP32", "INT64", "BYTES"), blobs,
                                        strict=True)
        ],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    answer = server.post("/v2/models/sum/infer", content=head + b"".join(blobs),
                         headers={"inference-header-content-length": str(len(head))})  # fmt: skip
    end = int(answer.headers["inference-header-content-length"])
    np.testing.assert_array_equal(np.frombuffer(answer.content[end:], "<f4"), [11.0, 22.0])


# Versions


def test_a_promotion_is_followed_and_a_version_can_be_pinned(server: Running) -> None:
    assert server.predict(ROW) == [13.0]
    server.add("sum", 100.0)
    server.registry.set_alias("sum", "champion", 2)
    server.app.models.refresh()
    assert server.predict(ROW) == [113.0]
    assert server.predict(ROW, path="/v1/models/sum/versions/1/predict") == [13.0]
    server.registry.set_alias("sum", "champion", 1)
    server.app.models.refresh()
    assert server.predict(ROW) == [13.0]


def test_a_champion_that_can_not_be_loaded_leaves_the_former_one_serving(server: Running) -> None:
    server.predict(ROW)
    broken = server.add("sum", 5.0)
    (server.directory / "objects/bundles" / broken.digest / "model.onnx").write_bytes(b"altered")
    server.registry.set_alias("sum", "champion", 2)
    server.app.models.refresh()
    assert server.predict(ROW) == [13.0]
    (listed,) = server.get("/v1/models").json()["models"]
    assert "altered" in listed["state"]


def test_with_the_registry_gone_what_is_loaded_is_served_and_readiness_tells(
    server: Running,
) -> None:
    server.predict(ROW)
    server.registry.gone = True
    server.app.models.refresh()
    assert server.predict(ROW) == [13.0]
    state = server.get("/readyz").json()
    assert (state["ready"], state["state"]) == (True, "degraded")
    assert state["wrong"] == {"registry": "the registry is gone"}
    assert "treadle_registry_up 0.0" in server.get("/metrics").text
    fresh = Running(server.directory / "fresh")
    fresh.registry.gone = True
    fresh.app.models.refresh()
    assert fresh.get("/readyz").status_code == 503
    assert fresh.get("/livez").status_code == 200


def test_models_are_loaded_on_first_use_and_let_go_under_the_limit(server: Running) -> None:
    for name in ("a", "b", "c"):
        server.add(name, 1.0)
        server.registry.set_alias(name, "champion", 1)
    models = server.app.models
    models.refresh()
    server.predict(ROW)
    models.loaded("sum").size_bytes = 1000  # type: ignore[union-attr]
    models._limit_bytes = 10**12
    for name in ("a", "b", "c"):
        server.predict(ROW, path=f"/v1/models/{name}/predict")
    assert models.count == 4
    server.predict(ROW)  # used last, so it stays
    models._limit_bytes = models.loaded("sum").size_bytes  # type: ignore[union-attr]
    models._make_room(0)
    assert models.count == 1
    assert models.is_loaded("sum", 1)
    assert server.predict(ROW, path="/v1/models/a/predict") == [14.0]


def test_a_model_counts_with_what_its_loading_took(server: Running) -> None:
    for name in ("a", "b"):
        server.add(name, 1.0)
        server.registry.set_alias(name, "champion", 1)
    server.app.models.refresh()
    for name in ("a", "b"):
        server.predict(ROW, path=f"/v1/models/{name}/predict")
    last = server.app.models.loaded("b")
    assert last is not None
    # Its graph has 359 bytes, onnxruntime takes 50 KiB for it.
    assert 50 * 2**10 < last.size_bytes < 2**20
    assert server.app.models.size_bytes > last.size_bytes


def test_a_model_that_is_let_go_leaves_memory_at_once(server: Running) -> None:
    server.predict(ROW)
    models = server.app.models
    served = weakref.ref(models.loaded("sum"))  # type: ignore[arg-type]
    gc.collect()  # what the event loop left of the request
    gc.disable()
    try:
        models._limit_bytes = 0
        models._make_room(0)
        assert served() is None
    finally:
        gc.enable()


# The prediction log


def logged(server: Running, start: bool = False) -> Any:
    """The log as DuckDB reads it."""
    if start:
        server.app.log.start()
    server.app.log.stop()
    now = datetime.now(UTC)
    keys = list(predictions.keys("sum", now - timedelta(hours=1), now, server.store))
    paths = [str(server.store.local(key)) for key in keys]
    assert paths
    return duckdb.sql(f"SELECT * FROM read_parquet({paths}) ORDER BY prediction_id").df()


def test_what_was_answered_is_in_the_log_whichever_way_it_was_asked(server: Running) -> None:
    server.app.log.start()
    ids = [f"own {n:03}" for n in range(300)]
    rows = [{"x": n, "y": None, "colour": None if n else "red"} for n in range(300)]
    for begin, end in ((0, 1), (1, 3), (3, 23), (23, 300)):  # alone, few, a batch, in a thread
        server.post(PREDICT, json={"rows": rows[begin:end], "ids": ids[begin:end]})
    found = logged(server)
    assert found["prediction_id"].tolist() == ids
    assert set(found["role"]) == {"champion"}
    assert set(found["digest"]) == {server.registry.versions("sum")[0].digest}
    assert [f["x"] for f in found["features"]] == list(range(300))
    assert found["features"][0]["colour"] == "red"
    assert {f["y"] for f in found["features"]} == {None}
    metrics = server.get("/metrics").text
    assert 'treadle_prediction_log_rows_total{outcome="written"} 300.0' in metrics
    assert 'treadle_feature_nulls_total{feature="y",model="sum"} 300.0' in metrics
    assert 'treadle_feature_outside_total{feature="x",model="sum"} 291.0' in metrics


def test_a_store_that_fails_costs_no_request_and_gets_the_rows_later(server: Running) -> None:
    log, put = server.app.log, server.store.put_bytes

    def full(key: str, data: bytes) -> None:
        raise StoreError("the disk is full")

    server.store.put_bytes = full  # type: ignore[method-assign]
    server.predict(ROW)
    log._turn(0.0)
    assert server.get("/readyz").json()["wrong"] == {"prediction_log": "the disk is full"}
    server.predict(ROW)
    server.store.put_bytes = put  # type: ignore[method-assign]
    log.start()
    assert len(logged(server)) == 2


def test_the_log_is_sampled_when_asked(tmp_path: Path) -> None:
    server = Running(tmp_path, prediction_log_share=0.0)
    server.app.log.start()
    server.predict(ROW)
    server.app.log.stop()
    assert list(server.store.keys("predictions")) == []
    assert 'treadle_feature_nulls_total{feature="y",model="sum"} 0.0' in server.get("/metrics").text


# Shadow and canary


def test_a_challenger_sees_a_copy_and_is_not_heard(tmp_path: Path) -> None:
    server = Running(tmp_path, shadow_share=1.0)
    server.add("sum", 100.0)
    server.registry.set_alias("sum", "challenger", 2)
    server.app.models.refresh()
    server.app.log.start()
    server.app.shadow.start()
    assert server.predict(ROW) == [13.0]
    server.app.shadow.stop()
    found = logged(server)
    assert dict(zip(found["role"], found["prediction"], strict=True)) == {
        "champion": 13.0, "shadow": 113.0
    }  # fmt: skip
    assert found["prediction_id"].nunique() == 1


def test_a_canary_answers_its_share(server: Running) -> None:
    server.add("sum", 100.0)
    server.registry.set_alias("sum", "canary-25", 2)
    server.predict(ROW)
    server.app.models.refresh()
    found = [server.predict(ROW)[0] for _ in range(200)]
    assert set(found) == {13.0, 113.0}
    assert 20 < found.count(113.0) < 85


def test_a_canary_that_fails_is_answered_for_and_stopped(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("sum", 100.0)
    server.registry.set_alias("sum", "canary-100", 2)
    server.predict(ROW)
    server.app.models.refresh()
    failing = server.app.models.canaries["sum"].served.bundle.model

    def output(columns: Any) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setattr(failing, "output", output)
    assert [server.predict(ROW)[0] for _ in range(30)] == [13.0] * 30
    deadline = time.monotonic() + 5
    while server.registry.aliased("sum", "canary-100") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.registry.aliased("sum", "canary-100") is None
    assert canaries.MIN_ANSWERS == 20
    assert server.app.models.canaries == {}


# Settings


def test_settings_that_are_numbers_are_read_as_such() -> None:
    read = Settings.from_environment({"TREADLE_SERVER_MEMORY_MIB": "64",
                                      "TREADLE_PREDICTION_LOG_SHARE": "0.5"})  # fmt: skip
    assert (read.server_memory_mib, read.prediction_log_share) == (64, 0.5)


@pytest.mark.parametrize(("name", "value"), [("SERVER_MEMORY_MIB", "much"),
                                             ("SERVER_MEMORY_MIB", "1.5"),
                                             ("SHADOW_SHARE", "2"),
                                             ("SHADOW_SHARE", "nan")])  # fmt: skip
def test_a_setting_that_can_not_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=f"TREADLE_{name}='{value}' must be"):
        Settings.from_environment({f"TREADLE_{name}": value})


def test_the_page_and_the_interface_are_there(server: Running) -> None:
    assert "<title>Treadle's models</title>" in server.get("/").text
    paths = server.get("/docs.json").json()["paths"]
    assert "/v1/models/{name}/predict" in paths
    assert server.get("/docs").status_code == 200
