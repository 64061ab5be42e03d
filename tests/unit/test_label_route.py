"""Labels over HTTP."""

from pathlib import Path
from typing import Any

import pytest
from serving_fakes import Running

from treadle.feedback import log

PATH = "/v1/models/sum/labels"


@pytest.fixture
def server(tmp_path: Path) -> Running:
    return Running(tmp_path)


def test_labels_that_are_answered_for_are_kept_and_sent_again_count_once(server: Running) -> None:
    server.app.log.start()
    asked = server.post("/v1/models/sum/predict", json={"rows": [{"x": 1}], "ids": ["mine"]})
    assert asked.json()["predictions"][0]["id"] == "mine"
    server.app.log.stop()
    sent = {"labels": [{"id": "mine", "label": 3}, {"id": "other", "label": None}]}
    first, second = (server.post(PATH, json=sent).json() for _ in range(2))
    assert first == {"model": "sum", "labels": 1, "not_yet_known": 1, "unknown_class": 0,
                     "from_future": 0, "is_new": True, "digest": first["digest"]}  # fmt: skip
    assert second == first | {"is_new": False}
    assert log.joined_counts("sum", server.store) == {
        "labels": 1, "predictions": 1, "corrected": 0, "not_joined": 0, "unreadable_files": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rows": []}, 400, 'the body must be {"labels"'),
        ({"labels": [3]}, 400, "label 0 is not of the form"),
        ({"labels": [{"id": "a"}]}, 400, "label 0 is not of the form"),
        ({"labels": [{"id": "a", "label": 3, "when": 1}]}, 400, "label 0 is not of the form"),
        ({"labels": [{"id": "a", "label": "late"}]}, 422, "'late' is not a number"),
        ({"labels": [{"id": 7, "label": 3}]}, 422, "row 0, id: 7 is no text"),
    ],
)
def test_what_is_no_label_is_refused_with_words(
    server: Running, body: Any, status: int, words: str
) -> None:
    answer = server.post(PATH, json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_labels_of_a_model_that_is_not_there_are_refused(server: Running) -> None:
    assert server.post(PATH.replace("sum", "some"), json={"labels": []}).status_code == 404


def test_the_way_to_send_labels_is_described(server: Running) -> None:
    assert "post" in server.get("/docs.json").json()["paths"]["/v1/models/{name}/labels"]
