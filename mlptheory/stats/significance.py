"""P-values that belong to an interval: of a null value, and of equivalence."""

from __future__ import annotations

import math
from typing import Literal

from scipy.special import stdtr

from mlptheory.base import unknown_name
from mlptheory.stats import _checks
from mlptheory.stats.intervals import Interval

_ALTERNATIVES = ("two-sided", "greater", "less")


def p_value(
    interval: Interval, null: float = 0.0, alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> float:
    r"""Return the p-value of the t test that the interval belongs to.

    With :math:`t = (\text{estimate} - \text{null}) / \text{standard error}` and T of Student's law:
    P(\|T\| ≥ \|t\|) two-sided, P(T ≥ t) for "greater", P(T ≤ t) for "less". A two-sided p below 1 − level is the same
    statement as a null outside the interval.

    Parameters
    ----------
    interval : Interval
        Its estimate, standard error and degrees of freedom are used; its level is not.
    null : float
        In the unit of the estimate.
    alternative : {"two-sided", "greater", "less"}
        What is believed if the null is rejected.

    Returns
    -------
    float
        In [0, 1]; NaN if the standard error is zero, because runs without spread give no test.

    Raises
    ------
    InputError
        If the null is not finite or the alternative is unknown.

    Examples
    --------
    >>> from mlptheory.stats import mean_interval
    >>> round(p_value(mean_interval([1.0, 2.0, 3.0])), 4)
    0.0742
    """
    if alternative not in _ALTERNATIVES:
        raise unknown_name("alternative", alternative, _ALTERNATIVES)
    null = _checks.number("null", null)
    if interval.standard_error == 0:
        return math.nan
    t = (interval.estimate - null) / interval.standard_error
    if alternative == "two-sided":
        return 2 * float(stdtr(interval.df, -abs(t)))
    return float(stdtr(interval.df, -t if alternative == "greater" else t))


def tost(interval: Interval, margin: float) -> float:
    r"""Return the p-value of equivalence: that the effect lies inside (−margin, +margin).

    Two one-sided tests (Schuirmann 1987): the larger of the p-values of "the effect is above −margin" and "the effect
    is below +margin". A p below (1 − level)/2 is the same statement as an interval inside (−margin, +margin).

    Parameters
    ----------
    interval : Interval
        Of the effect that is claimed to be nil.
    margin : float
        Largest effect that still counts as none, above 0, in the unit of the estimate.

    Returns
    -------
    float
        In [0, 1]; NaN if the standard error is zero.

    Raises
    ------
    InputError
        If the margin is not above 0.

    Examples
    --------
    >>> from mlptheory.stats import mean_interval
    >>> round(tost(mean_interval([-0.1, 0.0, 0.2]), margin=1.0), 4)
    0.0041
    """
    margin = _checks.number("margin", margin, above=0)
    if interval.standard_error == 0:
        return math.nan
    return max(p_value(interval, -margin, "greater"), p_value(interval, margin, "less"))
