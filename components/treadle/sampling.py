"""Rows chosen by their position alone: the same by every reader, in any order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Multiples of the golden section leave no gap and follow no period (Knuth, volume 3, 6.4).
_FACTOR, _MODULUS = 1_640_531_527, 2**32


@dataclass(frozen=True)
class Sampling:
    """Chooses about ``wanted`` of ``rows`` rows; all where there are no more."""

    rows: int
    wanted: int

    @property
    def every(self) -> int:
        """Of so many rows one is chosen."""
        return max(self.rows // self.wanted, 1)

    def where(self, number: str) -> str:
        """Return the SQL that is true of chosen rows; ``number`` is a row's, from 0 on."""
        limit = _MODULUS // self.every
        return f"({number} % {_MODULUS} * {_FACTOR}) % {_MODULUS} < {limit}"

    def among(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Return which of ``count`` rows from row ``start`` on are chosen."""
        numbers = np.arange(start, start + count, dtype=np.int64) % _MODULUS
        return np.flatnonzero(numbers * _FACTOR % _MODULUS < _MODULUS // self.every)
