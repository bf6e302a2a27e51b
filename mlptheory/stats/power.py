"""Power of the verdict rule: how many runs an effect needs, and which effect a number of runs can show.

The rule is that of :func:`mlptheory.stats.decide`: the two-sided t interval must lie wholly beyond the margin, or, for
an equivalence, wholly inside it. So a one-directional power here uses the two-sided quantile, and stays below
that of a one-sided test of the same level.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import chdtr, gammainccinv, gammaincinv, ndtr, ndtri, stdtrit

from mlptheory.base import InputError, unknown_name
from mlptheory.stats import _checks

Alternative = Literal["greater", "less", "two-sided", "equivalent"]
_ALTERNATIVES = ("greater", "less", "two-sided", "equivalent")
FEWEST_RUNS = 3
_MOST_RUNS = 10_000_000
# Normal values beyond this many standard deviations have no weight in float64 sums.
_FAR = 9.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def power_t(
    effect: float,
    sd: float,
    n: int,
    level: float = 0.95,
    margin: float = 0.0,
    alternative: Alternative = "greater",
    df_per_run: float = 1.0,
) -> float:
    r"""Return the probability that the t interval of `n` runs shows an effect.

    With ν = df_per_run · (n − 1) degrees of freedom, t* the (1 + level)/2 quantile of Student's law and T' of the
    noncentral t law with noncentrality (effect − margin) √n / sd, the power for "greater" is P(T' > t*): the interval
    lies wholly above +margin. "less" is its mirror image, "two-sided" the sum of the two, and "equivalent" the
    probability that the interval lies wholly inside (−margin, +margin). Exact for Gaussian runs, integrated numerically
    to about 1e-9.

    Parameters
    ----------
    effect : float
        True effect, in the unit of the values.
    sd : float
        Standard deviation of one run's (one block's) contribution to the effect, above 0, in the same unit.
    n : int
        Independent runs (blocks), at least 2.
    level : float
        Coverage of the interval, in (0, 1).
    margin : float
        Smallest effect of interest, at least 0 (above 0 for "equivalent").
    alternative : {"greater", "less", "two-sided", "equivalent"}
        What the interval is to show.
    df_per_run : float
        Degrees of freedom that each run after the first adds to the error: 1 for a mean, a paired difference or a
        per-block contrast, A − 1 for the pooled error of A arms, about 2 for two unpaired arms.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> round(power_t(effect=1.0, sd=1.0, n=13), 3)
    0.911
    >>> round(power_t(effect=0.0, sd=1.0, n=5), 3)  # a false "greater": half of the 5 % outside the interval
    0.025
    """
    effect, sd, level, margin = _check(effect, sd, level, margin, alternative)
    return _power(effect, sd, _checks.count("n", n, 2), level, margin, alternative, _df_per_run(df_per_run))


def runs_for_power(
    effect: float,
    sd: float,
    margin: float = 0.0,
    power: float = 0.9,
    level: float = 0.95,
    alternative: Alternative = "greater",
    df_per_run: float = 1.0,
) -> int:
    """Return the fewest runs whose interval shows the effect with the given power.

    Parameters
    ----------
    effect, sd, margin, level, alternative, df_per_run
        As for :func:`power_t`. The effect must satisfy what the interval is to show: beyond the margin in the
        stated direction, or inside it for "equivalent".
    power : float
        Probability wanted, in (0, 1).

    Returns
    -------
    int
        At least 3, because fewer runs get no verdict.

    Raises
    ------
    InputError
        If an argument is out of its range, no number of runs would do because the effect is not beyond the margin,
        or more than ten million would be needed.

    Examples
    --------
    >>> runs_for_power(effect=1.0, sd=1.0)
    13
    >>> runs_for_power(effect=1.0, sd=1.0, margin=0.5)
    44
    """
    effect, sd, level, margin = _check(effect, sd, level, margin, alternative)
    power, df_per_run = _checks.probability("power", power), _df_per_run(df_per_run)
    distance = _distance(effect, margin, alternative)
    if distance <= 0:
        where = {"greater": f"above {margin:g}", "less": f"below {-margin:g}", "two-sided": f"beyond ±{margin:g}"}
        allowed = where.get(alternative, f"inside ±{margin:g}")
        raise InputError(f"effect = {effect!r}: expected an effect {allowed}, as no number of runs shows any other")

    runs = fewest_runs(effect, sd, margin, power, level, alternative, df_per_run, most=_MOST_RUNS)
    if runs is None:
        raise InputError(
            f"effect = {effect!r}: expected one that at most {_MOST_RUNS} runs can tell from the margin of {margin!r}"
            f" at sd = {sd!r}"
        )
    return runs


def fewest_runs(
    effect: float, sd: float, margin: float, power: float, level: float, alternative: str, df_per_run: float, most: int
) -> int | None:
    """Return what :func:`runs_for_power` does, of checked arguments, or None if it is more than `most`."""

    def enough(n: int) -> bool:
        return _power(effect, sd, n, level, margin, alternative, df_per_run) >= power

    # The normal law's answer, plus what Student's tail adds, is a run or two off for the usual cases.
    tail = ndtri((1 + level) / 2)
    needed = ((tail + ndtri(power)) * sd / _distance(effect, margin, alternative)) ** 2 + tail**2 / 2
    if needed > 4 * most:
        return None
    guess, step = min(max(math.ceil(needed), FEWEST_RUNS), most), 1
    if enough(guess):
        few = many = guess
        while few == many or (few >= FEWEST_RUNS and enough(few)):
            few, many, step = max(few - step, FEWEST_RUNS - 1), few, 2 * step
    else:
        few = many = guess
        while few == many or not enough(many):
            if many == most:
                return None
            few, many, step = many, min(many + step, most), 2 * step
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def smallest_detectable_effect(
    n: int,
    power: float = 0.9,
    level: float = 0.95,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
    df_per_run: float = 1.0,
) -> float:
    """Return the distance from the margin that `n` runs show with the given power, in standard deviations of one run.

    Parameters
    ----------
    n : int
        Independent runs (blocks), at least 2.
    power : float
        In (0, 1), above the chance of a false positive.
    level, df_per_run
        As for :func:`power_t`.
    alternative : {"greater", "less", "two-sided"}
        "greater" and "less" give the same size.

    Returns
    -------
    float
        d such that ``power_t(d, 1, n)`` equals `power`; multiply by the spread of one run and add the margin to have
        it in the unit of the values.

    Raises
    ------
    InputError
        If an argument is out of its range, or the power wanted is reached without any effect.

    Examples
    --------
    >>> round(smallest_detectable_effect(3), 2), round(smallest_detectable_effect(10), 2)
    (3.92, 1.15)
    """
    if alternative not in _ALTERNATIVES[:3]:
        raise unknown_name("alternative", alternative, _ALTERNATIVES[:3])
    n, power, level = _checks.count("n", n, 2), _checks.probability("power", power), _checks.probability("level", level)
    df_per_run = _df_per_run(df_per_run)
    side = "two-sided" if alternative == "two-sided" else "greater"

    def reached(effect: float) -> bool:
        return _power(effect, 1.0, n, level, 0.0, side, df_per_run) >= power

    if reached(0.0):
        raise InputError(f"power = {power!r}: expected more than the {1 - level:.3g} of false positives")
    low, high = 0.0, 1.0
    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _check(
    effect: float, sd: float, level: float, margin: float, alternative: str
) -> tuple[float, float, float, float]:
    if alternative not in _ALTERNATIVES:
        raise unknown_name("alternative", alternative, _ALTERNATIVES)
    least = {"above": 0.0} if alternative == "equivalent" else {"at_least": 0.0}
    return (
        _checks.number("effect", effect),
        _checks.number("sd", sd, above=0),
        _checks.probability("level", level),
        _checks.number("margin", margin, **least),
    )


def _df_per_run(value: float) -> float:
    return _checks.number("df_per_run", value, above=0)


def _distance(effect: float, margin: float, alternative: str) -> float:
    """How far the effect lies on the side that the interval is to show."""
    if alternative == "two-sided":
        return abs(effect) - margin
    if alternative == "equivalent":
        return margin - abs(effect)
    return (effect if alternative == "greater" else -effect) - margin


def _power(effect: float, sd: float, n: int, level: float, margin: float, alternative: str, df_per_run: float) -> float:
    df, root = df_per_run * (n - 1), math.sqrt(n) / sd
    quantile = float(stdtrit(df, (1 + level) / 2))
    if alternative == "equivalent":
        power = _inside(effect * root, margin * root, quantile, df)
    else:
        above = _beyond((effect - margin) * root, quantile, df) if alternative != "less" else 0.0
        below = _beyond((-effect - margin) * root, quantile, df) if alternative != "greater" else 0.0
        power = above + below
    return min(max(power, 0.0), 1.0)


# Both probabilities are over Z, standard normal, and S = sqrt(chi-squared/df), independent, in units of sd/√n. One of
# the two is integrated out in closed form, the other by Gauss-Legendre: the one whose integrand is the smoother.
# SciPy's noncentral t is not used because it returns NaN, or takes minutes, far in its tails.


def _beyond(noncentrality: float, quantile: float, df: float) -> float:
    """Return P(Z + noncentrality > quantile · S)."""
    if quantile < math.sqrt(2 * df):
        x, weights = _normal_nodes(-_FAR, _FAR)
        return float(weights @ ndtr(noncentrality - quantile * _spread(x, df)))
    z, weights = _normal_nodes(max(-_FAR, -noncentrality), _FAR)
    return float(weights @ chdtr(df, df * ((z + noncentrality) / quantile) ** 2))


def _inside(effect: float, margin: float, quantile: float, df: float) -> float:
    """Return P(|Z + effect| < margin − quantile · S)."""
    if quantile < math.sqrt(2 * df):
        # Beyond this spread the interval alone is wider than the margins.
        widest = float(ndtri(chdtr(df, df * (margin / quantile) ** 2)))
        x, weights = _normal_nodes(-_FAR, min(widest, _FAR))
        room = margin - quantile * _spread(x, df)
        return float(weights @ (ndtr(room - effect) - ndtr(-room - effect)))
    total = 0.0
    for low, high in ((-margin - effect, -effect), (-effect, margin - effect)):
        z, weights = _normal_nodes(max(low, -_FAR), min(high, _FAR))
        room = np.maximum(margin - np.abs(z + effect), 0)
        total += float(weights @ chdtr(df, df * (room / quantile) ** 2))
    return total


def _normal_nodes(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights that integrate against the standard normal density from low to high."""
    if high <= low:
        return np.zeros(1), np.zeros(1)
    x = low + (high - low) * (_NODES + 1) / 2
    return x, (high - low) / 2 * _WEIGHTS * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _spread(x: np.ndarray, df: float) -> np.ndarray:
    """Return the S that is as likely to be undercut as the standard normal value x, each tail from its own side."""
    tail = ndtr(-np.abs(x))
    return np.sqrt(np.where(x < 0, gammaincinv(df / 2, tail), gammainccinv(df / 2, tail)) * 2 / df)
