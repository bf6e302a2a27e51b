"""Several claims in one study: what keeps the chance of any false verdict at its nominal rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlptheory.base import invalid
from mlptheory.stats import _checks


def holm(p_values: ArrayLike) -> np.ndarray:
    r"""Return p-values adjusted for being several, by Holm's step-down method.

    With :math:`p_{(1)} \le \dots \le p_{(m)}`, the adjusted value of the k-th smallest is
    :math:`\max_{j \le k} \min(1, (m - j + 1)\, p_{(j)})`. Rejecting those below α keeps the chance of any false
    rejection at α or less, whatever the dependence between the tests (Holm 1979).

    Parameters
    ----------
    p_values : array_like of shape (m,)
        Each in [0, 1].

    Returns
    -------
    ndarray of float64, shape (m,)
        In the order given.

    Raises
    ------
    InputError
        If there are none, or one is not inside [0, 1].

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2)
    array([0.03, 0.06, 0.06])
    """
    p = _checks.vector("p_values", p_values)
    outside = np.flatnonzero((p < 0) | (p > 1))
    if len(outside):
        raise invalid(f"p_values[{outside[0]}]", float(p[outside[0]]), "a number from 0 to 1")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def bonferroni_level(claims: int, level: float = 0.95) -> float:
    """Return the level each interval needs so that all of them cover at once with at least `level`.

    It is 1 − (1 − level)/claims (Bonferroni; Dunn 1961), whatever the dependence between the intervals.

    Parameters
    ----------
    claims : int
        Number of intervals, at least 1.
    level : float
        Coverage of all of them together, in (0, 1).

    Returns
    -------
    float
        In (0, 1).

    Raises
    ------
    InputError
        If there are no claims or the level is not inside (0, 1).

    Examples
    --------
    >>> bonferroni_level(2)
    0.975
    """
    return 1 - (1 - _checks.probability("level", level)) / _checks.count("claims", claims, at_least=1)
