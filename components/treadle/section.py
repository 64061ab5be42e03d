"""What every part of the spec has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the spec: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
