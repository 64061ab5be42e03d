"""What a person chooses when deploying, by variables as in `make deploy KFP=0`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from treadle.errors import SpecError


@dataclass(frozen=True)
class Options:
    """``None``: not said, so chosen by what is there."""

    airgap: bool | None = None
    kfp: bool | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Options":
        """Read AIRGAP and KFP. Raises SpecError for anything but 0 and 1."""
        return cls(_flag(environment, "AIRGAP"), _flag(environment, "KFP"))


def _flag(environment: Mapping[str, str], name: str) -> bool | None:
    value = environment.get(name, "")
    if value not in ("", "0", "1"):
        raise SpecError(
            f"{name}={value} is neither 0 nor 1: say {name}=1, {name}=0, or leave it out"
        )
    return value == "1" if value else None
