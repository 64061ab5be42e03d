"""What answering takes: the bundle's size, and the time for a single row."""

import time

import numpy as np

from treadle.bundle import Bundle
from treadle.evaluation import Footprint

_WARM, _TIMES = 20, 300
_PATIENCE_S = 2.0


def measured(bundle: Bundle) -> Footprint:
    """Answer golden rows one by one, as a server would, without HTTP."""
    rows, _ = bundle.golden
    took: list[float] = []
    begun = time.perf_counter()
    for turn in range(_WARM + _TIMES):
        started = time.perf_counter()
        bundle.predict_rows([rows[turn % len(rows)]])
        took.append(1000 * (time.perf_counter() - started))
        if time.perf_counter() - begun > _PATIENCE_S:
            break
    counted = took[_WARM:] or took
    return Footprint(
        size_bytes=sum(path.stat().st_size for path in bundle.files.values()),
        median_ms=float(np.median(counted)),
        high_ms=float(np.quantile(counted, 0.95)),
    )
