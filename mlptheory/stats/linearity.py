"""Whether a straight line describes a response over a factor, in a blocked design."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc

from mlptheory.base import InputError
from mlptheory.stats import _checks
from mlptheory.stats.contrasts import linear_trend_coefficients
from mlptheory.stats.means import spread_or_zero


class LackOfFit(NamedTuple):
    """An F test of departure from a straight line.

    Attributes
    ----------
    f, p : float
        NaN where the residuals show no spread.
    df1, df2 : int
        Degrees of freedom of the departure, A − 2, and of the error, (B − 1)(A − 1).
    """

    f: float
    df1: int
    df2: int
    p: float


def lack_of_fit(values: ArrayLike, x: ArrayLike) -> LackOfFit:
    r"""Test whether the arms' means depart from a straight line over x.

    In the additive blocked model :math:`y_{bj} = \mu_j + \beta_b + \varepsilon_{bj}` of B blocks and A arms, with
    independent Gaussian errors of one variance, the null is :math:`\mu_j = \alpha + \gamma x_j`, and

    .. math:: F = \frac{B \sum_j (\bar y_{\cdot j} - \hat\alpha - \hat\gamma x_j)^2 / (A - 2)}
        {\sum_{bj} (y_{bj} - \bar y_{b\cdot} - \bar y_{\cdot j} + \bar y)^2 / ((B - 1)(A - 1))}

    has the F law with A − 2 and (B − 1)(A − 1) degrees of freedom under it. The line is fitted by least squares.

    Parameters
    ----------
    values : array_like of shape (blocks, arms)
        One run per cell, none missing; at least 2 blocks and 3 arms.
    x : array_like of shape (arms,)
        The factor's value in each arm, on the scale on which the line is meant; at least two different values.

    Returns
    -------
    LackOfFit
        A small p says that a line does not describe the means; a large one does not say that it does.

    Raises
    ------
    InputError
        If shapes disagree or are too small, a value is not finite, or x has no range.

    Examples
    --------
    >>> test = lack_of_fit([[0.0, 1.0, 0.1], [1.0, 2.2, 1.0], [0.5, 1.4, 0.4]], x=[6, 8, 10])
    >>> test.df1, test.df2, round(test.p, 4)
    (1, 4, 0.0001)
    """
    y = _checks.table("values", values, missing=False)
    blocks, arms = y.shape
    slope = linear_trend_coefficients(x)
    if len(slope) != arms:
        raise InputError(f"x has length {len(slope)}: expected one per arm, {arms}")
    if arms < 3:
        raise InputError(f"values has shape {y.shape}: expected at least 3 arms, as a line goes through any two")
    centered = y - y.mean(axis=1, keepdims=True)
    means = centered.mean(axis=0)
    direction = slope / math.sqrt(slope @ slope)
    departure = means - (direction @ means) * direction
    df1, df2 = arms - 2, (blocks - 1) * (arms - 1)
    scale = float(np.abs(y).max())
    error = spread_or_zero(math.sqrt(((centered - means) ** 2).sum() / df2), scale)
    if error == 0:
        return LackOfFit(math.nan, df1, df2, math.nan)
    f = blocks * float(departure @ departure) / df1 / error**2
    return LackOfFit(f, df1, df2, float(fdtrc(df1, df2, f)))
