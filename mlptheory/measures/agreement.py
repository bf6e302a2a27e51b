"""How often two models predict the same class."""

from __future__ import annotations

import numpy as np

from mlptheory.base.errors import InputError


def prediction_agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of examples that two models give the same class, (1/N) Σ [aᵢ = bᵢ].

    Parameters
    ----------
    a, b : ndarray of int, shape (N,)
        Predicted classes for the same examples in the same order.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        If the lengths differ or there are no examples.

    Examples
    --------
    >>> prediction_agreement(np.array([1, 2, 3, 3]), np.array([1, 2, 3, 4]))
    0.75
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(f"predictions: expected two equally long lists, found shapes {a.shape} and {b.shape}")
    return float(np.mean(a == b))
