"""What lies behind a claim before the level of its interval is known: Holm's method chooses the level."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from mlptheory.base import InputError, invalid
from mlptheory.stats import _checks
from mlptheory.stats.intervals import Interval, t_interval
from mlptheory.stats.multiplicity import bonferroni_level
from mlptheory.stats.significance import p_value


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One estimate whose t interval has any level.

    Attributes
    ----------
    estimate : float
        In the unit of the values it was computed from.
    standard_error : float
        Of the estimate; zero if the runs agree to the last digits, so that their spread could not be seen.
    df : float
        Degrees of freedom of the standard error.

    Raises
    ------
    InputError
        If a field is not finite, the standard error negative or there are no degrees of freedom.

    Examples
    --------
    >>> estimate = Estimate(estimate=1.0, standard_error=0.2, df=4)
    >>> round(estimate.interval(0.95).low, 3), round(estimate.p_above(0.5), 3), round(estimate.p_below(0.5), 3)
    (0.445, 0.033, 0.967)
    """

    estimate: float
    standard_error: float
    df: float

    def __post_init__(self) -> None:
        _checks.number("Estimate.estimate", self.estimate)
        _checks.number("Estimate.standard_error", self.standard_error, at_least=0)
        _checks.number("Estimate.df", self.df, above=0)

    @property
    def components(self) -> tuple[Estimate, ...]:
        """The estimates that this one is made of: itself."""
        return (self,)

    def interval(self, level: float = 0.95) -> Interval:
        """Return estimate ± t(df, (1 + level)/2) · standard_error."""
        return t_interval(self.estimate, self.standard_error, self.df, level)

    def p_above(self, edge: float) -> float:
        """Return the one-sided p-value of "the estimand is not above the edge"; NaN without spread."""
        return p_value(self, edge, "greater")

    def p_below(self, edge: float) -> float:
        """Return the one-sided p-value of "the estimand is not below the edge"; NaN without spread."""
        return p_value(self, edge, "less")


@dataclass(frozen=True, kw_only=True)
class SmallestEstimate:
    r"""The estimate of the smallest of several estimands, whatever the dependence between their estimates.

    With K components of estimands :math:`\theta_k`, estimates :math:`\hat\theta_k` and ends :math:`L_k, H_k` of their
    t intervals, the estimand is :math:`\theta = \min_k \theta_k`, the estimate :math:`\min_k \hat\theta_k`, and the
    interval at `level`

    .. math:: [\,\min_k L_k(\text{level}),\; \min_k H_k(1 - (1 - \text{level})/K)\,].

    It covers θ with at least `level` if each component's interval covers with its own:
    low > θ needs :math:`L_k > \theta_k` at the one k where :math:`\theta_k = \theta`, of chance (1 − level)/2 at most
    (intersection-union, Berger 1982: no correction); high < θ needs :math:`H_k < \theta \le \theta_k` at some k, of
    chance K · (1 − level)/(2K) at most (Bonferroni).

    Attributes
    ----------
    components : tuple of Estimate
        At least two, in one unit; as :func:`smallest_of` makes them.

    Examples
    --------
    >>> both = smallest_of([Estimate(estimate=1.0, standard_error=0.2, df=4),
    ...                     Estimate(estimate=3.0, standard_error=0.2, df=4)])
    >>> interval = both.interval(0.95)
    >>> both.estimate, round(interval.low, 3), round(interval.high, 3)
    (1.0, 0.445, 1.699)
    """

    components: tuple[Estimate, ...]

    @property
    def estimate(self) -> float:
        """The smallest of the components' estimates; it falls short of the estimand where several are close."""
        return self._smallest.estimate

    @property
    def standard_error(self) -> float:
        """That of the component with the smallest estimate; zero if any component shows no spread."""
        return self._smallest.standard_error if all(each.standard_error > 0 for each in self.components) else 0.0

    @property
    def df(self) -> float:
        """Degrees of freedom of the component with the smallest estimate."""
        return self._smallest.df

    @property
    def _smallest(self) -> Estimate:
        return min(self.components, key=lambda each: each.estimate)

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval of the smallest estimand; its standard error and df are of one component alone."""
        level = _checks.probability("level", level)
        corrected = bonferroni_level(len(self.components), level)
        return Interval(
            estimate=self.estimate,
            low=min(each.interval(level).low for each in self.components),
            high=min(each.interval(corrected).high for each in self.components),
            df=self.df,
            standard_error=self.standard_error,
            level=level,
        )

    def p_above(self, edge: float) -> float:
        """Return the p-value of "the smallest is not above the edge": the largest of the components'."""
        ps = [each.p_above(edge) for each in self.components]
        return math.nan if any(math.isnan(p) for p in ps) else max(ps)

    def p_below(self, edge: float) -> float:
        """Return the p-value of "the smallest is not below the edge": K times the smallest of the components'."""
        ps = [each.p_below(edge) for each in self.components]
        return math.nan if any(math.isnan(p) for p in ps) else min(1.0, len(ps) * min(ps))


AnyEstimate: TypeAlias = Estimate | SmallestEstimate


def smallest_of(estimates: Iterable[AnyEstimate]) -> AnyEstimate:
    """Return the estimate of the smallest of several estimands, such as "larger at every length" or "A up and B down".

    "A rises above δ and B falls below −δ" is written as the smallest of the estimates of A and of −B.

    Parameters
    ----------
    estimates : iterable of Estimate or SmallestEstimate
        One per estimand, at least one, all in the same unit; a smallest among them counts as its components.

    Returns
    -------
    Estimate or SmallestEstimate
        The estimate itself if it is the only one.

    Raises
    ------
    InputError
        If there are none, or one is something else.

    Examples
    --------
    >>> from mlptheory.stats import mean_estimate
    >>> up, down = mean_estimate([1.2, 0.9, 1.4]), mean_estimate([-2.0, -2.5, -1.8])
    >>> falls = Estimate(estimate=-down.estimate, standard_error=down.standard_error, df=down.df)
    >>> round(smallest_of([up, falls]).estimate, 3)
    1.167
    """
    given = tuple(estimates)
    for place, each in enumerate(given):
        if not isinstance(each, Estimate | SmallestEstimate):
            raise invalid(f"estimates[{place}]", each, "an Estimate, as mean_estimate returns it")
    components = tuple(component for each in given for component in each.components)
    if not components:
        raise InputError("estimates has length 0: expected at least 1")
    return components[0] if len(components) == 1 else SmallestEstimate(components=components)
