"""Which code is running: for the image's tag, for step caches and for lineage."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# All that a step may run: deployment starts the model server.
PACKAGES = ("treadle", "treadle_pipelines", "treadle_serving")


@cache
def code_digest() -> str:
    """Return 12 hexadecimal digits that change with any source file of Treadle."""
    whole = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(root).rglob("*.py")):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                whole.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]
