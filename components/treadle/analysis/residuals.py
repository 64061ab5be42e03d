"""What is left of the answers of a regression: actual less predicted."""

import numpy as np

from treadle.analysis.examined import Examined
from treadle.evaluation import Residuals
from treadle.resampling import interval, mean_of, resampled

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHARES = (0.5, 0.8, 0.95)


def of(seen: Examined, rounds: int, seed: int) -> Residuals:
    """Return how far off predictions are, and whether to one side."""
    errors = seen.answers - seen.output.astype(np.float64)
    low, high = interval(resampled([mean_of(errors)], len(seen), rounds, seed)[0])
    far = np.quantile(np.abs(errors), _SHARES).tolist()
    return Residuals(
        mean=float(errors.mean()),
        low=low,
        high=high,
        quantiles=np.quantile(errors, _QUANTILES).tolist(),
        within=list(zip(_SHARES, far, strict=True)),
    )
