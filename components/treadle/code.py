"""Which code is running: for the image's tag, for step caches and for lineage."""

import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent


@cache
def code_digest() -> str:
    """Return 12 hexadecimal digits that change with any source file of this package."""
    whole = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        whole.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:12]
