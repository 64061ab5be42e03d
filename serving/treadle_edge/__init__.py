"""Runs a model on a small device: numpy, onnxruntime and the standard library.

``treadle export NAME --to edge`` copies this package into a folder, beside the few modules of
``treadle`` that it shares with training and the server (``CARRIED``), so that a row is read here as
it is there.
"""

# What the folder holds of ``treadle``. They need numpy and the standard library, nothing else.
CARRIED = ("answers", "encoding", "errors", "signing")
