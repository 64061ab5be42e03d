"""Triton's own HTTP client asks the model server: the Open Inference Protocol as others read it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from serving_fakes import Listening
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(tmp_path: Path) -> Iterator[triton.InferenceServerClient]:
    running = Listening(tmp_path)
    client = triton.InferenceServerClient("{}:{}".format(*running.address))
    yield client
    client.close()
    running.end()


def tensors(binary: bool) -> list[triton.InferInput]:
    values = {
        "x": np.array([[1], [2]], np.float32),
        "y": np.array([[0.5], [np.nan]], np.float32),
        "colour": np.array([[b"red"], [b"blue"]], object),
    }
    found = []
    for name, value in values.items():
        kind = "BYTES" if value.dtype == object else "FP32"
        tensor = triton.InferInput(name, list(value.shape), kind)
        found.append(tensor.set_data_from_numpy(value, binary_data=binary))
    return found


def test_it_finds_the_server_and_the_model_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sum")
    assert client.is_model_ready("sum", "1")
    assert not client.is_model_ready("sun")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    described = client.get_model_metadata("sum")
    assert [tensor["name"] for tensor in described["inputs"]] == ["x", "y", "colour"]


def test_it_gets_answers_to_binary_tensors(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("prediction", binary_data=True)]
    answer = client.infer("sum", tensors(True), outputs=wanted, request_id="mine")
    np.testing.assert_array_equal(answer.as_numpy("prediction"), np.float32([11.5, np.nan]))
    assert answer.get_response()["id"] == "mine"
    assert answer.get_response()["model_version"] == "1"
    pinned = client.infer("sum", tensors(True), model_version="1")
    assert pinned.as_numpy("prediction")[0] == 11.5


def test_it_gets_answers_to_json_tensors_and_words_for_faults(
    client: triton.InferenceServerClient,
) -> None:
    plain = tensors(False)
    del plain[1]  # JSON has no NaN; what is left out is null
    output = triton.InferRequestedOutput("prediction", binary_data=True)
    found = client.infer("sum", plain, outputs=[output]).as_numpy("prediction")
    assert np.isnan(found).all()
    with pytest.raises(InferenceServerException, match="there is no output"):
        client.infer("sum", tensors(True), outputs=[triton.InferRequestedOutput("sum")])
    with pytest.raises(InferenceServerException, match="did you mean 'sum'"):
        client.infer("sun", tensors(True))
