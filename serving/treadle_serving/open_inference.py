"""The Open Inference Protocol, version 2, with its binary tensors: what KServe, Triton and MLServer
speak. https://github.com/open-inference/open-inference-protocol

Each feature is a tensor of shape [n, 1] (or [n]). Nulls are NaN, and NULL_CATEGORY for BYTES.
"""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
from starlette.requests import Request
from starlette.responses import Response

from treadle import __version__
from treadle.answers import Output
from treadle.encoding import Column, Fault, encode_values, within_float32
from treadle.errors import counted
from treadle.records import Kind, Signature
from treadle.signature import RowErrors
from treadle_serving.models import Served
from treadle_serving.requests import Refused, in_a_header, parse

if TYPE_CHECKING:
    from treadle_serving.app import App

_HEADER_BYTES = b"inference-header-content-length"
_DATATYPES = {
    Kind.NUMBER: "FP32", Kind.BOOLEAN: "FP32", Kind.TIME: "FP64", Kind.CATEGORY: "BYTES"
}  # fmt: skip
_NUMPY = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
Values = npt.NDArray[Any] | list[Any]


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def describe_server(app: "App", request: Request) -> Response:
    """Name the server and what it can."""
    return _json({"name": "treadle", "version": __version__, "extensions": ["binary_tensor_data"]})


async def describe_model(app: "App", request: Request) -> Response:
    """Describe a version's tensors."""
    served = await _asked(app, request)
    signature = served.version.signature
    inputs = [
        {"name": f.name, "datatype": _DATATYPES[f.kind], "shape": [-1, 1]}
        for f in signature.features
    ]
    return _json({
        "name": served.name,
        "versions": [str(served.version.version)],
        "platform": "onnx_onnxv1",
        "inputs": inputs,
        "outputs": _outputs(signature),
    })  # fmt: skip


def _outputs(signature: Signature) -> list[dict[str, Any]]:
    if not signature.task.is_classification:
        return [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    return [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(signature.classes)]},
    ]


async def is_ready(app: "App", request: Request) -> Response:
    """Say whether a version can answer; it is loaded for that."""
    served = await _asked(app, request)
    return _json({"name": served.name, "ready": True})


async def _asked(app: "App", request: Request) -> Served:
    return await app.version(request.path_params["name"], request.path_params.get("version"))


async def infer(app: "App", request: Request) -> Response:
    """Answer tensors with tensors."""
    headers = dict(request.scope["headers"])
    body = await app.bodies.read(request.receive, headers)
    number = request.path_params.get("version")
    served, role = await app.choose(request.path_params["name"], number)
    document, binary = _parts(body, headers.get(_HEADER_BYTES))
    columns = _columns(document, binary, served.version.signature)
    id_ = request.scope["treadle.request_id"].decode()
    count = len(next(iter(columns.values())))
    ids = [f"{id_}-{position}" for position in range(count)]
    output = app.batch(served, role).encoded(columns, ids)
    counted = app.metrics.of(served.name)
    counted.rows += count
    ignored = _ignored(document, served.version.signature)
    counted.ignored.update(ignored)
    counted.answered[served.version.version, role] += 1
    answer = _answer(document, served, output, id_)
    if ignored:
        answer.headers["x-ignored-values"] = in_a_header(ignored)
    return answer


def _parts(body: bytes, header_bytes: bytes | None) -> tuple[dict[str, Any], bytes]:
    """Part a body into its JSON and the binary tensors behind it."""
    if header_bytes is not None and not (header_bytes.isdigit() and int(header_bytes) <= len(body)):
        raise Refused("Inference-Header-Content-Length is not a length within the body")
    end = len(body) if header_bytes is None else int(header_bytes)
    document = parse(body[:end])
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(i, dict) for i in inputs):
        raise Refused('the body must be {"inputs": [{"name": …, "datatype": …, "shape": …, …}, …]}')
    if not isinstance(document.get("id", ""), str):
        raise Refused(f"the request's id must be a text, not {document['id']!r:.60}")
    for tensor in inputs:
        _check(tensor)
    return document, body[end:]


def _check(tensor: dict[str, Any]) -> None:
    """Raise Refused where a tensor isn't as the protocol has it, or no column."""
    name, datatype, shape = (tensor.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str) or not name:
        raise Refused(f"an input's name must be a text, not {name!r:.60}")
    if not isinstance(datatype, str) or (datatype not in _NUMPY and datatype != "BYTES"):
        known = ", ".join(_NUMPY)
        raise Refused(f"input {name!r:.60}: datatype {datatype!r:.60} is not one of BYTES, {known}")
    if (
        not isinstance(shape, list)
        or not all(type(side) is int and side > 0 for side in shape)
        or shape[1:] not in ([], [1])
        or not shape
    ):
        raise Refused(f"input {name!r:.60}: shape {shape!r:.60} is not [n, 1] or [n], n rows")


def _columns(document: dict[str, Any], binary: bytes, signature: Signature) -> dict[str, Column]:
    given: dict[str, Values] = {}
    offset = 0
    for tensor in document["inputs"]:
        size = _parameter(tensor, "binary_data_size")
        name = tensor["name"]
        if size is None:
            given[name] = _flat(tensor)
        elif type(size) is not int or not 0 <= size <= len(binary) - offset:
            raise Refused(f"input {name!r:.60}: binary_data_size is not within the body")
        else:
            given[name] = _unpacked(tensor, binary[offset : offset + size])
            offset += size
        if len(given[name]) != tensor["shape"][0]:
            values = counted(len(given[name]), "value")
            raise Refused(f"input {name!r:.60} has {values} for the shape {tensor['shape']}")
    counts = {len(values) for values in given.values()}
    if len(counts) != 1 or counts == {0}:
        raise Refused("the inputs must all have the same number of rows, at least one")
    return _encoded(given, counts.pop(), signature)


def _ignored(document: dict[str, Any], signature: Signature) -> dict[str, int]:
    """Count the values of tensors that the signature knows and the model doesn't use."""
    found = {}
    for tensor in document["inputs"]:
        name, data = tensor["name"], tensor.get("data")
        if name in signature.ignored:
            # Binary tensors have no nulls.
            values = data if isinstance(data, list) else [0] * tensor["shape"][0]
            found[name] = sum(value is not None for value in values)
    return found


def _encoded(given: dict[str, Values], count: int, signature: Signature) -> dict[str, Column]:
    faults: list[Fault] = []
    columns: dict[str, Column] = {}
    for feature in signature.features:
        values = given.get(feature.name, [None] * count)
        if isinstance(values, np.ndarray) and feature.kind is Kind.NUMBER:
            columns[feature.name] = within_float32(values.astype(np.float64))
        elif feature.kind is Kind.TIME and all(_is_number(value) for value in values):
            columns[feature.name] = np.array([_or_nan(value) for value in values])
        else:
            plain = [None if value != value else value for value in list(values)]
            columns[feature.name] = encode_values(plain, feature.name, feature.kind.value, faults)
    if faults:
        raise RowErrors(sorted(faults))
    return columns


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float | np.number)


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _parameter(tensor: dict[str, Any], name: str) -> Any:
    parameters = tensor.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _flat(tensor: dict[str, Any]) -> list[Any]:
    """Flatten nested lists of one column: [[1], [2]] is [1, 2]."""
    data, name = tensor.get("data"), tensor["name"]
    if not isinstance(data, list):
        raise Refused(f'input {name!r:.60} must have "data", a list, or binary data')
    flat = [value[0] if type(value) is list and len(value) == 1 else value for value in data]
    strange = next((value for value in flat if isinstance(value, list | dict)), None)
    if strange is not None:
        raise Refused(f"input {name!r:.60}: {strange!r:.60} is no number, text, boolean or null")
    return flat


def _unpacked(tensor: dict[str, Any], data: bytes) -> Values:
    datatype = tensor["datatype"]
    if datatype == "BYTES":
        return _texts(data)
    kind = np.dtype(_NUMPY[datatype])
    if len(data) % kind.itemsize:
        raise Refused(
            f"{counted(len(data), 'byte')} for {datatype}, of which a value takes {kind.itemsize}"
        )
    return np.frombuffer(data, dtype=kind)


def _texts(data: bytes) -> list[str]:
    found, offset = [], 0
    try:
        while offset < len(data):
            (size,) = struct.unpack_from("<I", data, offset)
            text = data[offset + 4 : offset + 4 + size]
            if len(text) != size:
                raise Refused("a BYTES tensor ends before its last value does")
            found.append(text.decode())
            offset += 4 + size
    except (struct.error, UnicodeDecodeError) as error:
        raise Refused(f"a BYTES tensor can't be read: {error}") from error
    return found


def _answer(document: dict[str, Any], served: Served, output: Output, id_: str) -> Response:
    wanted = document.get("outputs")
    known = _named(output, served.version.signature)
    if wanted is not None and not isinstance(wanted, list):
        raise Refused('"outputs" must be a list: [{"name": …}, …]')
    if wanted:
        asked = [tensor for tensor in wanted if isinstance(tensor, dict)]
        unknown = [tensor.get("name") for tensor in asked if tensor.get("name") not in known]
        if unknown or len(asked) != len(wanted):
            raise Refused(f"there is no output {unknown[:1]}: there are {', '.join(known)}")
    else:
        asked = [{"name": name} for name in known]
    all_binary = _parameter(document, "binary_data_output") is True
    tensors, blobs = [], []
    for tensor in asked:
        name = tensor["name"]
        datatype, values = known[name]
        described = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        binary = _parameter(tensor, "binary_data")
        if binary is True or (binary is None and all_binary):
            blob = _packed(values)
            blobs.append(blob)
            tensors.append({**described, "parameters": {"binary_data_size": len(blob)}})
        else:
            tensors.append({**described, "data": values.reshape(-1).tolist()})
    content = {
        "model_name": served.name,
        "model_version": str(served.version.version),
        "id": document["id"] if isinstance(document.get("id"), str) else id_,
        "parameters": {"digest": served.version.digest},
        "outputs": tensors,
    }
    head = orjson.dumps(content)
    if not blobs:
        return Response(head, media_type="application/json")
    headers = {"inference-header-content-length": str(len(head))}
    whole = b"".join([head, *blobs])
    return Response(whole, headers=headers, media_type="application/octet-stream")


def _named(output: Output, signature: Signature) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    values = np.asarray(output, dtype=np.float32)
    if not signature.task.is_classification:
        return {"prediction": ("FP32", values)}
    labels = np.asarray(signature.classes, dtype=object)[values.argmax(axis=1)]
    return {"label": ("BYTES", labels), "probabilities": ("FP32", values)}


def _packed(values: npt.NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.astype("<f4").tobytes()
    texts = [text.encode() for text in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
