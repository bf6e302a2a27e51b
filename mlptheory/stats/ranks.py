"""Agreement of orders."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlptheory.base import InputError


def kendall_tau(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    r"""Return Kendall's rank correlation along the last axis, with ties as in τ-b.

    .. math:: \tau = \frac{\sum_{i<j} \operatorname{sign}(x_i - x_j) \operatorname{sign}(y_i - y_j)}
                           {\sqrt{\#\{i<j : x_i \ne x_j\} \, \#\{i<j : y_i \ne y_j\}}}

    Kendall 1938, "A new measure of rank correlation"; 1 for the same order, -1 for the reverse. Of pairs from a
    bivariate Gaussian law with correlation ρ its expectation is :math:`\tfrac2\pi \arcsin \rho`, however few they are.

    Parameters
    ----------
    x, y : array_like of shape (..., n)
        n ≥ 2 pairs; shapes broadcast.

    Returns
    -------
    ndarray of float64, shape (...)
        NaN where a value is NaN, or all of x or of y are equal.

    Raises
    ------
    InputError
        If there are fewer than 2 pairs.

    Examples
    --------
    >>> float(kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]).round(4))
    0.6667
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if a.ndim == 0 or a.shape[-1] < 2 or b.ndim == 0 or b.shape[-1] != a.shape[-1]:
        raise InputError(f"x and y have shapes {a.shape} and {b.shape}: expected as many pairs in both, at least 2")
    first, second = np.triu_indices(a.shape[-1], 1)
    signs_a, signs_b = (np.sign(values[..., first] - values[..., second]) for values in (a, b))
    agreement = (signs_a * signs_b).sum(axis=-1)
    different = np.abs(signs_a).sum(axis=-1) * np.abs(signs_b).sum(axis=-1)
    return np.where(different == 0, np.nan, agreement / np.sqrt(np.where(different == 0, 1.0, different)))
