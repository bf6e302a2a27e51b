"""A mean beside the verdicts', as every table of effects shows it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlptheory.stats import mean_interval


def mean_row(values: np.ndarray) -> dict[str, Any]:
    """Return a mean over runs with its 95 % t interval; where some are missing the rest have none.

    Examples
    --------
    >>> mean_row(np.array([1.0, np.nan, 3.0]))
    {'mean': 2.0, 'low': nan, 'high': nan, 'n': 2, 'runs': 3}
    """
    whole = values[np.isfinite(values)]
    interval = mean_interval(whole) if len(whole) > 1 and len(whole) == len(values) else None
    return {
        "mean": float(whole.mean()) if len(whole) else math.nan,
        "low": interval.low if interval else math.nan,
        "high": interval.high if interval else math.nan,
        "n": len(whole),
        "runs": len(values),
    }
