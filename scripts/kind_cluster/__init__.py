"""Treadle on a kind cluster: `make deploy`, `make undeploy`, `make status`.

What is on the cluster stands in manifests/; how its images come to be without an image registry in
airgap/. Here is what lies between: whether this machine can, in which order, and what went wrong.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CLUSTER = "treadle"
NODE = f"{CLUSTER}-control-plane"
CONTEXT = f"kind-{CLUSTER}"
