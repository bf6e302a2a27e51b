"""The rule that turns an interval into a verdict on a claim."""

from __future__ import annotations

import math
from typing import TypeGuard

from mlptheory.base import InputError
from mlptheory.stats import _checks
from mlptheory.stats.claims import Claim
from mlptheory.stats.estimates import AnyEstimate, Estimate, SmallestEstimate
from mlptheory.stats.intervals import Interval
from mlptheory.stats.power import FEWEST_RUNS, Alternative, fewest_runs
from mlptheory.stats.significance import decision_p
from mlptheory.stats.verdicts import Verdict

_EXPECTED = {"interval": "Interval", "estimate": "Estimate"}
_POWER = 0.9
_MANY_RUNS = 10_000


def decide(
    claim: Claim,
    interval: Interval | None,
    n: int,
    forced_reason: str | None = None,
) -> Verdict:
    """Return the verdict on a claim, from the interval of its estimand.

    "greater": *supported* if the interval lies wholly above +δ, *contradicted* if wholly below it. "less": the mirror
    image, with −δ. "equivalent": *supported* if the interval lies wholly inside (−δ, +δ), *contradicted* if wholly
    outside. Everything else is *inconclusive*: an interval that straddles the margin, fewer than 3 independent runs, a
    reason the caller forces, and runs that agree to the last digit (no spread seen, so the interval is a point that
    proves nothing).

    A true effect on the wrong side of the margin is called "supported" in at most (1 − level)/2 of studies with
    Gaussian runs, and one on the right side "contradicted" as rarely. "Contradicted" means short of δ: the effect can
    have the claimed sign and still be too small to be of interest.

    Parameters
    ----------
    claim : Claim
        What was claimed, with its direction and margin δ.
    interval : Interval or None
        Of the claim's estimand, in the claim's unit, and of one t-based estimate; None if there were too few runs to
        have one. :func:`decide_together` takes the smallest of several.
    n : int
        Independent runs (blocks) behind the interval.
    forced_reason : str, optional
        One sentence that makes the verdict inconclusive whatever the interval (a tuned optimum on the edge of its
        grid, say).

    Returns
    -------
    Verdict
        Its p is that of the decision, two-sided against the margin. An inconclusive one names, where the spread
        allows it, the runs that 90 % power needs: to tell effects of 0 and of 2δ from δ (for an equivalence, an
        effect of 0 from ±δ), or, where the study already has those, to tell the observed effect from the margin.

    Raises
    ------
    InputError
        If `n` is negative, or there are 3 or more runs and neither an interval nor a forced reason.

    Examples
    --------
    >>> from mlptheory.stats import Claim, mean_interval
    >>> claim = Claim(
    ...     id="larger-better", statement="Larger batches are better.", source="Bachmann et al. 2023, Fig. 4",
    ...     estimand="change in accuracy", direction="greater", margin=0.5, unit="points", test="t interval",
    ...     held_fixed=("epochs",), scope="digits",
    ... )
    >>> verdict = decide(claim, mean_interval([1.5, 2.0, 1.8, 1.6]), n=4)
    >>> verdict.verdict, verdict.reason
    ('supported', 'The 95 % interval [1.37, 2.08] points lies wholly above the margin of 0.5 points (n = 4).')
    >>> decide(claim, mean_interval([0.1, 2.0, 1.8, 0.6]), n=4).verdict
    'inconclusive'
    """
    estimate = None
    if interval is not None:
        estimate = Estimate(estimate=interval.estimate, standard_error=interval.standard_error, df=interval.df)
    require_estimate("interval", interval, n, forced_reason)
    p = decision_p(estimate, claim.direction, claim.margin) if testable(estimate, n, forced_reason) else None
    return verdict_of(claim, estimate, interval, n, forced_reason, p)


def require_estimate(argument: str, given: object, n: int, forced_reason: str | None) -> None:
    """Refuse runs that came without their estimate."""
    if given is None and _checks.count("n", n, at_least=0) >= FEWEST_RUNS and forced_reason is None:
        raise InputError(f"{argument} = None: expected an {_EXPECTED[argument]}, as there are n = {n} runs")


def testable(estimate: AnyEstimate | None, n: int, forced_reason: str | None) -> TypeGuard[AnyEstimate]:
    """Return whether an interval may decide the claim."""
    return forced_reason is None and estimate is not None and n >= FEWEST_RUNS and estimate.standard_error > 0


def verdict_of(
    claim: Claim,
    estimate: AnyEstimate | None,
    interval: Interval | None,
    n: int,
    forced_reason: str | None,
    p: float | None,
) -> Verdict:
    """Return the verdict by an interval, whose level and whose p-value others chose."""
    verdict, reason = _judge(claim, estimate, interval, n, forced_reason)
    return Verdict(
        id=claim.id,
        claim=claim.statement,
        source=claim.source,
        scope=claim.scope,
        direction=claim.direction,
        effect=None if interval is None else interval.estimate,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=None if interval is None else interval.level,
        n=n,
        p=p,
        verdict=verdict,
        reason=reason,
        unit=claim.unit,
        margin=float(claim.margin),
    )


def _judge(
    claim: Claim, estimate: AnyEstimate | None, interval: Interval | None, n: int, forced_reason: str | None
) -> tuple[str, str]:
    if forced_reason is not None:
        return "inconclusive", forced_reason
    if estimate is None or interval is None or n < FEWEST_RUNS:
        runs = "run" if n == 1 else "runs"
        return "inconclusive", f"Only {n} independent {runs}: a verdict needs at least {FEWEST_RUNS}."
    for component in estimate.components:
        if component.standard_error == 0:
            return "inconclusive", (
                f"All {n} runs give {_number(component.estimate)} {claim.unit} to the last digit, so their spread, and"
                " with it the interval, cannot be estimated."
            )
    where = _where(claim, interval)
    if where is None:
        several = isinstance(estimate, SmallestEstimate)
        return "inconclusive", f"{_straddles(claim, interval, n)}." if several else _inconclusive(claim, interval, n)
    verdict, relation = where
    return verdict, f"{_shown(claim, interval)} lies wholly {relation} (n = {n})."


def _where(claim: Claim, interval: Interval) -> tuple[str, str] | None:
    """Return the verdict and where the interval lies, or None if it straddles a margin."""
    margin = claim.margin
    if claim.direction == "equivalent":
        bounds = f"±{_quantity(margin, claim.unit)}"
        if -margin < interval.low and interval.high < margin:
            return "supported", f"inside {bounds}"
        if interval.low > margin or interval.high < -margin:
            return "contradicted", f"outside {bounds}"
        return None
    edge = margin if claim.direction == "greater" else -margin
    if interval.low <= edge <= interval.high:
        return None
    above = interval.low > edge
    relation = f"{'above' if above else 'below'} {_edge(claim)}"
    return ("supported" if above == (claim.direction == "greater") else "contradicted"), relation


def _straddles(claim: Claim, interval: Interval, n: int) -> str:
    bounds = f"±{_quantity(claim.margin, claim.unit)}" if claim.direction == "equivalent" else _edge(claim)
    return f"{_shown(claim, interval)} reaches across {bounds} (n = {n})"


def _inconclusive(claim: Claim, interval: Interval, n: int) -> str:
    straddles = _straddles(claim, interval, n)
    spread = interval.standard_error * math.sqrt(n)
    at = f"at the observed spread of {_quantity(spread, claim.unit)} per run"
    df_per_run = interval.df / (n - 1)

    def runs(effect: float, margin: float, alternative: Alternative) -> str | None:
        """Say how many runs 90 % power needs; None if the study has them already."""
        fewest = fewest_runs(effect, spread, margin, _POWER, interval.level, alternative, df_per_run, most=_MANY_RUNS)
        if fewest is None:
            return f"more than {_MANY_RUNS:,} runs"
        return f"about {fewest:,} runs" if fewest > n else None

    if claim.direction == "equivalent":
        needed = runs(0.0, claim.margin, "equivalent")
        told = "an effect of 0 would need {} for 90 % power to lie inside"
    elif claim.margin > 0:
        # By symmetry 2δ is shown to lie beyond δ exactly as often as 0 is shown to fall short of it.
        needed = runs(claim.margin, 0.0, "greater")
        double = _quantity(math.copysign(2 * claim.margin, 1 if claim.direction == "greater" else -1), claim.unit)
        told = f"an effect of 0 or of {double} would need {{}} for 90 % power to be told from the margin"
    else:
        needed, told = None, ""
    if needed is not None:
        return f"{straddles}; {at}, {told.format(needed)}."
    observed = _quantity(interval.estimate, claim.unit)
    edges = {"greater": (claim.margin,), "less": (-claim.margin,), "equivalent": (-claim.margin, claim.margin)}
    distance = min(abs(interval.estimate - edge) for edge in edges[claim.direction])
    # A straddling interval has about even power for its own estimate, so only the margin itself leaves this empty.
    needed = None if distance == 0 else runs(distance, 0.0, "greater")
    if needed is None:
        return f"{straddles}; the observed effect of {observed} is the margin itself, which no number of runs decides."
    return f"{straddles}; {at}, the observed effect of {observed}, were it true, would need {needed} for 90 % power."


def _shown(claim: Claim, interval: Interval) -> str:
    low, high = _number(interval.low), _number(interval.high)
    return f"The {100 * interval.level:.4g} % interval [{low}, {high}] {claim.unit}"


def _edge(claim: Claim) -> str:
    if claim.margin == 0:
        return "0"
    return f"the margin of {_quantity(claim.margin if claim.direction == 'greater' else -claim.margin, claim.unit)}"


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:.3g}"
