"""What every part of the spec has in common."""

from pydantic import BaseModel, ConfigDict

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}


class Section(BaseModel):
    """A part of the spec: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def interval_s(words: str) -> int:
    """Return an interval as people write it (30m, 6h, 7d) in seconds."""
    return int(words[:-1]) * _UNITS_S[words[-1]]
