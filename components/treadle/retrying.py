"""Try again what may pass: a store or a registry that is away for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

from treadle.errors import Overtaken, TreadleError

WAITS_S = (0.5, 2.0)
Result = TypeVar("Result")


def retried(do: Callable[[], Result], waits_s: tuple[float, ...] = WAITS_S) -> Result:
    """Return what ``do`` returns; it is tried again where its fault lies in the surroundings. The
    last fault is raised."""
    for wait_s in waits_s:
        try:
            return do()
        except Overtaken:
            raise
        except TreadleError as error:
            if not error.may_pass:
                raise
            time.sleep(wait_s)
    return do()
