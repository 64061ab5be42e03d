"""The least that can answer: uvicorn, onnxruntime, and nothing else. What a server is held against.

    uvicorn bare:app        with BUNDLE naming a bundle's directory

It trusts its input: no limits, no checks, no metrics, no log, one model.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime as ort
import orjson

BUNDLE = Path(os.environ["BUNDLE"])
FEATURES = json.loads((BUNDLE / "signature.json").read_text(encoding="utf-8"))["features"]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(str(BUNDLE / "model.onnx"), options, ["CPUExecutionProvider"])
outputs = [session.get_outputs()[-1].name]


def number(value):
    """Read a number."""
    return np.nan if value is None else value


def seconds(text):
    """Read a time."""
    return np.nan if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def category(value):
    """Read a category."""
    return "<null>" if value is None else str(value)


READ = {
    "number": (number, np.float32),
    "boolean": (number, np.float32),
    "time": (seconds, np.float64),
    "category": (category, object),
}


def predict(rows):
    """Run the graph."""
    feeds = {}
    for feature in FEATURES:
        name = feature["name"]
        read, kind = READ[feature["kind"]]
        feeds[name] = np.array([[read(row[name])] for row in rows], dtype=kind)
    return session.run(outputs, feeds)[0]


async def app(scope, receive, send):
    """Answer a request, whatever its path."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = predict(orjson.loads(body)["rows"])
    content = orjson.dumps({"predictions": [{"prediction": v} for v in answer.tolist()]})
    headers = [(b"content-type", b"application/json"),
               (b"content-length", b"%d" % len(content))]  # fmt: skip
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
