"""Contrasts of arms in blocked designs: the block is the seed that the arms share."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mlptheory.base import InputError, unknown_name
from mlptheory.stats import _checks
from mlptheory.stats.estimates import Estimate
from mlptheory.stats.intervals import Interval
from mlptheory.stats.means import spread_or_zero, standard_deviation

_MODELS = ("per_block", "pooled")


def linear_trend_coefficients(x: ArrayLike) -> np.ndarray:
    r"""Return the contrast whose value is the least-squares line's change from the smallest to the largest x.

    .. math:: c_j = (x_\max - x_\min)\, \frac{x_j - \bar x}{\sum_k (x_k - \bar x)^2}

    so :math:`\sum_j c_j y_j` is the fitted slope times the range of x, in the unit of y.

    Parameters
    ----------
    x : array_like of shape (arms,)
        The factor's value in each arm, on the scale on which the trend is meant (log2 of the batch size, say); at
        least two different values.

    Returns
    -------
    ndarray of float64, shape (arms,)
        Sums to zero.

    Raises
    ------
    InputError
        If there are fewer than two different values or one is not finite.

    Examples
    --------
    >>> linear_trend_coefficients([6, 8, 10, 12]).round(2)
    array([-0.9, -0.3,  0.3,  0.9])
    """
    values = _checks.vector("x", x, fewest=2)
    if np.ptp(values) == 0:
        raise InputError(f"x = {values.tolist()}: expected at least two different values, a trend needs a range")
    centered = values - values.mean()
    # Dividing by the range first keeps the squares of very large or small x inside float64.
    unit = centered / np.ptp(values)
    return unit / (unit @ unit)


def contrast_estimate(
    values: ArrayLike, coefficients: ArrayLike, model: Literal["per_block", "pooled"] = "per_block"
) -> Estimate:
    r"""Return :math:`\sum_j c_j \mu_j`, where :math:`\mu_j` is arm j's mean over blocks, with its standard error.

    *per_block*: each block b gives its own contrast :math:`d_b = \sum_j c_j y_{bj}`; the estimate is :math:`\bar d`,
    its standard error :math:`s_d / \sqrt B` on B − 1 degrees of freedom. Exact for Gaussian runs whatever the variances
    of the arms and the covariances between them, so it is the default.

    *pooled*: the additive model :math:`y_{bj} = \mu_j + \beta_b + \varepsilon_{bj}` with one variance, fitted by
    least squares; the error has (B − 1)(A − 1) degrees of freedom if no cell is missing, and cells that are missing
    at random cost one each. Shorter when its assumptions hold; too short for some contrasts and too long for others
    when the spread differs between arms.

    Parameters
    ----------
    values : array_like of shape (blocks, arms)
        One run per cell. NaN marks a missing cell, for the pooled model only.
    coefficients : array_like of shape (arms,)
        Sum to zero, so that what a block adds to all its arms cancels.
    model : {"per_block", "pooled"}
        How the error is estimated.

    Returns
    -------
    Estimate
        In the unit of `values` times that of `coefficients`.

    Raises
    ------
    InputError
        If shapes disagree, the coefficients are all zero or do not sum to zero, a value that is needed is not
        finite, or the cells that are there determine neither the contrast nor an error.

    Examples
    --------
    >>> values = [[1.0, 2.0, 4.0], [2.0, 3.0, 4.0], [0.0, 2.0, 3.0]]
    >>> estimate = contrast_estimate(values, [-1, 0, 1])
    >>> round(estimate.estimate, 4), estimate.df
    (2.6667, 2.0)
    >>> contrast_estimate(values, [-1, 0, 1], model="pooled").df
    4.0
    """
    if model not in _MODELS:
        raise unknown_name("model", model, _MODELS)
    y = _checks.table("values", values, missing=True)
    c = _checks.vector("coefficients", coefficients, fewest=2)
    if len(c) != y.shape[1]:
        raise InputError(f"coefficients have length {len(c)}: expected one per arm, {y.shape[1]}")
    if not c.any():
        raise InputError(f"coefficients = {c.tolist()}: expected at least two that are not zero")
    if abs(c.sum()) > 1e-9 * np.abs(c).sum():
        raise InputError(f"coefficients = {c.tolist()}: expected a sum of 0, so that blocks cancel, not {c.sum():g}")
    return _per_block(y, c) if model == "per_block" else _pooled(y, c)


def contrast_interval(
    values: ArrayLike,
    coefficients: ArrayLike,
    level: float = 0.95,
    model: Literal["per_block", "pooled"] = "per_block",
) -> Interval:
    """Return the t interval of a contrast of arms, that of :func:`contrast_estimate`.

    Parameters
    ----------
    values, coefficients, model
        As for :func:`contrast_estimate`.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    Interval
        In the unit of `values` times that of `coefficients`.

    Raises
    ------
    InputError
        As for :func:`contrast_estimate`, or if the level is not inside (0, 1).

    Examples
    --------
    >>> interval = contrast_interval([[1.0, 2.0, 4.0], [2.0, 3.0, 4.0], [0.0, 2.0, 3.0]], [-1, 0, 1])
    >>> round(interval.low, 2), round(interval.high, 2)
    (1.23, 4.1)
    """
    return contrast_estimate(values, coefficients, model).interval(level)


def _per_block(y: np.ndarray, c: np.ndarray) -> Estimate:
    needed = c != 0
    absent = np.argwhere(np.isnan(y) & needed)
    if len(absent):
        block, arm = absent[0]
        raise InputError(
            f"values[{block}, {arm}] = nan: expected a finite number; leave the block out, or use model='pooled'"
        )
    terms = y[:, needed] * c[needed]
    per_block = terms.sum(axis=1)
    spread = standard_deviation(per_block, scale=float(np.abs(terms).max()))
    return Estimate(estimate=float(per_block.mean()), standard_error=spread / math.sqrt(len(y)), df=float(len(y) - 1))


def _pooled(y: np.ndarray, c: np.ndarray) -> Estimate:
    blocks, arms = y.shape
    block, arm = np.nonzero(~np.isnan(y))
    observed = y[block, arm]
    design = np.zeros((len(observed), blocks + arms))
    rows = np.arange(len(observed))
    design[rows, block] = 1
    design[rows, blocks + arm] = 1
    target = np.concatenate([np.zeros(blocks), c])
    inverse = np.linalg.pinv(design)
    # The weights give the contrast from the cells; they exist only if the contrast lies in the design's row space.
    weights = inverse.T @ target
    if not np.allclose(design.T @ weights, target, rtol=0, atol=1e-8 * np.abs(c).max()):
        raise InputError(
            f"values: {len(observed)} of {y.size} cells are there, and they do not connect the arms of this contrast"
        )
    df = len(observed) - int(np.linalg.matrix_rank(design))
    if df < 1:
        raise InputError(f"values: {len(observed)} of {y.size} cells are there, which leaves no run to see the spread")
    residual = observed - design @ (inverse @ observed)
    spread = spread_or_zero(math.sqrt(residual @ residual / df), scale=blocks * arms * float(np.abs(observed).max()))
    return Estimate(
        estimate=float(weights @ observed), standard_error=spread * math.sqrt(weights @ weights), df=float(df)
    )
