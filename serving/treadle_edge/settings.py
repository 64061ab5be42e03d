"""What a device is told: ``edge.json`` in its folder. Secrets come from the environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from treadle.errors import SpecError, nearest
from treadle_edge import ed25519

FILE = "edge.json"


@dataclass(frozen=True)
class Settings:
    """``source`` is where updates come from: ``s3://bucket/prefix``, ``http(s)://…`` or a
    directory, each laid out as Treadle's object store; empty for none. ``verify_key`` is PEM."""

    model: str
    source: str = ""
    s3_endpoint: str = "https://s3.amazonaws.com"
    s3_region: str = "us-east-1"
    verify_key: str | None = None
    s3_access_key: str | None = field(default=None, repr=False)
    s3_secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, root: Path, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read a device's folder. Raises SpecError."""
        path = root / FILE
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SpecError(f"{path} can't be read ({reason}): treadle export writes it") from error
        known = [f.name for f in fields(cls) if f.repr]
        for name, value in given.items():
            if name not in known:
                raise SpecError(f"{path}: unknown key {name!r}{nearest(name, known)}")
            if not isinstance(value, str) and not (name == "verify_key" and value is None):
                raise SpecError(f"{path}: {name} must be a text, not {value!r:.60}")
        if not given.get("model"):
            raise SpecError(f"{path} doesn't say which model runs here: set model")
        keys = {name: environment.get(f"TREADLE_{name.upper()}") or None
                for name in ("s3_access_key", "s3_secret_key")}  # fmt: skip
        if (keys["s3_access_key"] is None) != (keys["s3_secret_key"] is None):
            raise SpecError("TREADLE_S3_ACCESS_KEY and TREADLE_S3_SECRET_KEY come as a pair: set "
                            "both, or neither")  # fmt: skip
        return cls(**{**given, **keys})

    @property
    def key(self) -> bytes | None:
        """The public key that bundles must be signed with, if there is one."""
        return ed25519.public_key(self.verify_key) if self.verify_key else None
