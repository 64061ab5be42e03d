"""ONNX graphs, opened: the one place that says how onnxruntime runs them.

Opened as it comes, onnxruntime keeps a graph's attributes for as long as the session lives, beside
what it has made of them (microsoft/onnxruntime#32047), and 1 MiB of its own to begin with. For
boosted trees that is four fifths of all memory: the attributes have a text for each node. ``lean``
takes the graph through onnxruntime's own format, from which nothing is kept twice, and leaves the
MiB to malloc; it costs as much time again as opening does, and answers stay the same to the bit.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from treadle.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime as ort

_PROVIDERS = ["CPUExecutionProvider"]
_log = logging.getLogger("treadle.graphs")


def opened(
    graph: Path | bytes, name: str, threads: int = 1, lean: bool = False
) -> "ort.InferenceSession":
    """Return a session that runs ``graph``. Raises ModelError, with ``name``, where it is none."""
    import onnxruntime as ort

    # pybind's own exceptions have no common base that onnxruntime exports.
    if lean:
        try:
            return _lean(graph, threads)
        except Exception as error:
            # No room for the file, say: then it is opened as it comes, or fails there too.
            _log.warning("%s takes more memory than it has to: %s", name, error)
    try:
        return ort.InferenceSession(_given(graph), _options(threads), _PROVIDERS)
    except Exception as error:
        raise ModelError(f"{name} can't be loaded: {error}") from error


def _lean(graph: Path | bytes, threads: int) -> "ort.InferenceSession":
    import onnxruntime as ort

    with TemporaryDirectory(prefix="treadle-graph-") as scratch:
        path = Path(scratch) / "graph.ort"
        options = _options(threads)
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(_given(graph), options, _PROVIDERS)
        options = _options(threads)
        options.enable_cpu_mem_arena = False
        return ort.InferenceSession(str(path), options, _PROVIDERS)


def _given(graph: Path | bytes) -> str | bytes:
    return str(graph) if isinstance(graph, Path) else graph


def _options(threads: int) -> "ort.SessionOptions":
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
