"""An estimate with its interval."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import stdtrit

from mlptheory.base import InputError
from mlptheory.stats import _checks


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its two-sided confidence interval.

    Attributes
    ----------
    estimate : float
        In the unit of the values it was computed from.
    low, high : float
        Ends of the interval: estimate ∓ t(df, (1 + level)/2) · standard_error, except for the smallest of several.
    df : float
        Degrees of freedom of the standard error.
    standard_error : float
        Of the estimate. Zero if the runs agree to the last digits: then the interval is a point, which says that
        the spread could not be seen, not that it is nil.
    level : float
        Coverage the interval is made for, 0.95 for 95 %.

    Raises
    ------
    InputError
        If a field is not finite, the ends do not enclose the estimate or the level is not inside (0, 1).

    Examples
    --------
    >>> Interval(estimate=1.0, low=0.5, high=1.5, df=4, standard_error=0.18).level
    0.95
    >>> Interval(estimate=2.0, low=0.5, high=1.5, df=4, standard_error=0.18)
    Traceback (most recent call last):
    mlptheory.base.errors.InputError: Interval.estimate = 2.0: expected a value inside [0.5, 1.5]
    """

    estimate: float
    low: float
    high: float
    df: float
    standard_error: float
    level: float = 0.95

    def __post_init__(self) -> None:
        for name in ("estimate", "low", "high"):
            _checks.number(f"Interval.{name}", getattr(self, name))
        _checks.number("Interval.df", self.df, above=0)
        _checks.number("Interval.standard_error", self.standard_error, at_least=0)
        _checks.probability("Interval.level", self.level)
        if not self.low <= self.estimate <= self.high:
            raise InputError(
                f"Interval.estimate = {self.estimate!r}: expected a value inside [{self.low!r}, {self.high!r}]"
            )


def t_interval(estimate: float, standard_error: float, df: float, level: float = 0.95) -> Interval:
    """Return estimate ± t(df, (1 + level)/2) · standard_error.

    Examples
    --------
    >>> t_interval(0.0, 1.0, df=2).high.__round__(4)
    4.3027
    """
    level = _checks.probability("level", level)
    half = 0.0 if standard_error == 0 else float(stdtrit(df, (1 + level) / 2)) * standard_error
    return Interval(
        estimate=float(estimate),
        low=float(estimate - half),
        high=float(estimate + half),
        df=float(df),
        standard_error=float(standard_error),
        level=level,
    )
