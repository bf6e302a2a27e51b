"""P-values that belong to an interval: of a null value, of equivalence, and of a decision about a margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from scipy.special import stdtr

from mlptheory.base import unknown_name
from mlptheory.stats import _checks

if TYPE_CHECKING:
    from mlptheory.stats.estimates import AnyEstimate, Estimate
    from mlptheory.stats.intervals import Interval

_ALTERNATIVES = ("two-sided", "greater", "less")


def p_value(
    interval: Interval | Estimate, null: float = 0.0, alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> float:
    r"""Return the p-value of the t test that the interval belongs to.

    With :math:`t = (\text{estimate} - \text{null}) / \text{standard error}` and T of Student's law:
    P(\|T\| ≥ \|t\|) two-sided, P(T ≥ t) for "greater", P(T ≤ t) for "less". A two-sided p below 1 − level is the same
    statement as a null outside the interval.

    Parameters
    ----------
    interval : Interval or Estimate
        Of one t-based estimate. Its estimate, standard error and degrees of freedom are used; a level is not.
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


def decision_p(estimate: AnyEstimate, direction: str, margin: float) -> float:
    r"""Return the smallest 1 − level at which the interval of an estimate decides a claim, either way.

    With :math:`p_>(e)` and :math:`p_<(e)` the one-sided p-values of lying above and below an edge e: twice the smaller
    of :math:`p_>(\delta)` and :math:`p_<(\delta)` for "greater", the same at −δ for "less", and for "equivalent"
    twice the smallest of :math:`\max(p_>(-\delta), p_<(\delta))` (TOST), :math:`p_>(\delta)` and
    :math:`p_<(-\delta)`; at most 1.
    It lies below 1 − level exactly where :func:`mlptheory.stats.decide` finds the claim supported or contradicted at
    that level. Where the estimand is the margin itself, it is below α in at most a share α of studies.

    Parameters
    ----------
    estimate : Estimate or SmallestEstimate
    direction : {"greater", "less", "equivalent"}
        As in :class:`Claim`.
    margin : float
        δ, in the unit of the estimate.

    Returns
    -------
    float
        In [0, 1]; NaN without spread.

    Examples
    --------
    >>> from mlptheory.stats import mean_estimate
    >>> round(decision_p(mean_estimate([1.5, 2.0, 1.8, 1.6]), "greater", 0.5), 4)
    0.0016
    """
    if direction == "equivalent":
        inside = max(estimate.p_above(-margin), estimate.p_below(margin))
        sides = (inside, estimate.p_above(margin), estimate.p_below(-margin))
    else:
        edge = margin if direction == "greater" else -margin
        sides = (estimate.p_above(edge), estimate.p_below(edge))
    return math.nan if any(math.isnan(p) for p in sides) else min(1.0, 2 * min(sides))
