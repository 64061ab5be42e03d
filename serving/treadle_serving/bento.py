"""``python -m treadle_serving.bento CONTEXT NAME VERSION STORE``: build a Bento, in a process and a
Bento store of its own."""

import os
import sys
from importlib.metadata import version

# What the server imports, as serving/requirements.in has it.
REQUIREMENTS = (
    "bentoml", "certifi", "httptools", "minio", "mlflow-skinny", "numpy", "onnxruntime",
    "orjson", "pandas", "prometheus-client", "psutil", "pyarrow", "pydantic", "pyyaml",
    "scikit-learn", "scipy", "skops", "starlette", "urllib3", "uvicorn", "uvloop",
)  # fmt: skip


def main() -> None:
    """Build what lies in CONTEXT, whose ``service.py`` has the service ``Treadle``."""
    context, name, number, store = sys.argv[1:]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["BENTOML_HOME"] = store
    import bentoml

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    bentoml.bentos.build(
        "service:Treadle",
        name=name,
        version=number,
        build_ctx=context,
        # The versions that it was tried with.
        python={"packages": [f"{each}=={version(each)}" for each in REQUIREMENTS[1:]],
                "lock_packages": False},
        docker={"python_version": python},
    )  # fmt: skip


if __name__ == "__main__":
    main()
