"""The bundle in MLflow's words, so that ``mlflow.onnx.load_model`` takes it as it is.

Written as text, after MLflow's documented model format, because importing MLflow takes longer
than all the rest of the step.
"""

import json

import yaml

from treadle.bundle import ONNX, WHY_NATIVE
from treadle.records import Kind, Signature

_TYPES = {
    Kind.NUMBER: "float",
    Kind.BOOLEAN: "float",
    Kind.CATEGORY: "string",
    Kind.TIME: "double",
}


def render(signature: Signature, why_native: str | None) -> str:
    """Return the text of the MLmodel file. ``why_native`` says why there is no ONNX graph, if there
    is none."""
    inputs = [
        {"name": f.name, "type": _TYPES[f.kind], "required": not f.nullable}
        for f in signature.features
    ]
    output = "string" if signature.task.is_classification else "float"
    outputs = [{"name": signature.target, "type": output, "required": True}]
    document: dict[str, object] = {
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None}
    }
    if why_native is not None:
        document["metadata"] = {WHY_NATIVE: why_native}
    else:
        document["flavors"] = {
            # Not python_function: MLflow would feed a frame's columns as (n,), and ours are (n, 1).
            "onnx": {"data": ONNX, "providers": ["CPUExecutionProvider"]},
        }
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=True)
