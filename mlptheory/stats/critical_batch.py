"""The batch size at which steps stop falling in proportion."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from mlptheory.base import InputError
from mlptheory.stats import _checks

_BEYOND = 10.0
"""Doublings beyond the batch sizes seen, within which a critical one is looked for."""


def critical_batch_size(batch_sizes: ArrayLike, steps: ArrayLike) -> float:
    r"""Fit the batch size at which steps to a target stop falling as 1/B.

    McCandlish et al. (2018) relate steps S and examples E = B S to reach a target by
    :math:`(S/S_\min - 1)(E/E_\min - 1) = 1`, the same as

    .. math:: S(B) = S_\min \left(1 + \frac{B_c}{B}\right), \qquad B_c = E_\min / S_\min .

    Fitted by least squares of :math:`\log S`, in which :math:`S_\min` is closed, over :math:`\log B_c`.

    Parameters
    ----------
    batch_sizes : array_like of shape (k,)
        At least 3 different ones, positive.
    steps : array_like of shape (k,)
        Steps to the target at each, positive.

    Returns
    -------
    float
        In examples. Where the fit runs to :math:`2^{-10}` of the smallest batch size or :math:`2^{10}` of the largest,
        steps do not fall at all, or fall as 1/B throughout: 0 or infinity, of which only the side is known.

    Raises
    ------
    InputError
        If the lists differ in length, there are fewer than 3 batch sizes, or a number is not positive.

    Examples
    --------
    >>> sizes = np.array([16, 64, 256, 1024])
    >>> round(critical_batch_size(sizes, 500 * (1 + 100 / sizes)), 3)
    100.0
    """
    b, s = _checks.vector("batch_sizes", batch_sizes, fewest=3), _checks.vector("steps", steps, fewest=3)
    if len(b) != len(s):
        raise InputError(f"steps have length {len(s)}: expected one per batch size, {len(b)}")
    if b.min() <= 0 or s.min() <= 0 or len(set(b.tolist())) < 3:
        raise InputError("batch_sizes and steps: expected positive numbers, and at least 3 different batch sizes")

    def misfit(log2_critical: float) -> float:
        residual = np.log(s) - np.log1p(2.0**log2_critical / b)
        return float(np.square(residual - residual.mean()).sum())

    low, high = math.log2(b.min()) - _BEYOND, math.log2(b.max()) + _BEYOND
    # The misfit has one minimum but is flat far from it, so a coarse look comes before the search.
    grid = np.linspace(low, high, 241)
    best = int(np.argmin([misfit(point) for point in grid]))
    found = minimize_scalar(
        misfit, bounds=(grid[max(best - 1, 0)], grid[min(best + 1, 240)]), method="bounded", options={"xatol": 1e-10}
    )
    if best in (0, len(grid) - 1):
        return 0.0 if best == 0 else math.inf
    return float(2.0**found.x)
