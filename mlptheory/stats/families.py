"""Several claims decided together: Holm's method for the verdicts and the intervals alike."""

from __future__ import annotations

from collections.abc import Sequence

from mlptheory.base import InputError
from mlptheory.stats import _checks
from mlptheory.stats.claims import Claim
from mlptheory.stats.decisions import require_estimate, testable, verdict_of
from mlptheory.stats.estimates import AnyEstimate
from mlptheory.stats.multiplicity import bonferroni_level, holm
from mlptheory.stats.significance import decision_p
from mlptheory.stats.verdicts import Verdict


def decide_together(
    claims: Sequence[Claim],
    estimates: Sequence[AnyEstimate | None],
    ns: Sequence[int],
    forced_reasons: Sequence[str | None] | None = None,
    level: float = 0.95,
) -> tuple[Verdict, ...]:
    r"""Return a verdict per claim, by Holm's step-down method over those that claim a direction.

    The m claims with direction "greater" or "less" are the family. In the order of their decision's p-values, smallest
    first, the k-th is judged as in :func:`decide`, by its interval at level :math:`1 - \alpha/(m - k + 1)` with
    :math:`\alpha = 1 - \text{level}`. At the first that this does not decide, the method stops: it and all later ones
    are inconclusive, and show their intervals at that step's level. A claim that cannot be decided (forced, too few
    runs, no spread) counts in m and ranks last. Claims of equivalence are controls: they stand outside the family, and
    each is decided by itself at `level`.

    What holds if every estimate's t interval has its coverage:

    - One claim: the wrong side of its margin is stated in at most α/2 of studies, either side in at most α where the
      truth is the margin itself. A shown interval covers its estimand with at least `level`, as it contains the one
      at `level`.
    - The family, whatever the dependence: the chance to state anything about any claim whose truth is the margin
      itself is at most α (Holm 1979).
    - The family, estimates independent: the chance of any wrong statement, of the wrong side included, is at most α
      (Shaffer 1980). For dependent ones that is not proven; the tests look for an excess among correlated Gaussian
      estimates, and find none.

    Parameters
    ----------
    claims : sequence of Claim
    estimates : sequence of Estimate, SmallestEstimate or None
        Of each claim's estimand, in its unit; None if there were too few runs to have one.
    ns : sequence of int
        Independent runs (blocks) behind each estimate.
    forced_reasons : sequence of str or None, optional
        A sentence for each claim that is inconclusive whatever its estimate.
    level : float
        1 − α, in (0, 1).

    Returns
    -------
    tuple of Verdict
        In the order of the claims. The p of a claim of the family is adjusted by Holm's method: below α exactly where
        the verdict is not inconclusive.

    Raises
    ------
    InputError
        If the sequences differ in length, a count is negative, or there are 3 or more runs and neither an estimate
        nor a forced reason.

    Examples
    --------
    >>> from mlptheory.stats import mean_estimate
    >>> common = dict(source="-", estimand="change", unit="points", test="t", held_fixed=(), scope="here", margin=0.5)
    >>> claims = [Claim(id="a", statement="A rises.", direction="greater", **common),
    ...           Claim(id="b", statement="B falls.", direction="less", **common)]
    >>> values = [[1.5, 2.0, 1.8, 1.6], [0.1, 2.0, -1.8, 0.6]]
    >>> for verdict in decide_together(claims, [mean_estimate(v) for v in values], ns=[4, 4]):
    ...     print(verdict.id, verdict.verdict, verdict.level, round(verdict.p, 4))
    a supported 0.975 0.0032
    b inconclusive 0.95 0.4242
    """
    reasons = [None] * len(claims) if forced_reasons is None else list(forced_reasons)
    for name, given in (("estimates", estimates), ("ns", ns), ("forced_reasons", reasons)):
        if len(given) != len(claims):
            raise InputError(f"{name} has length {len(given)}: expected one per claim, {len(claims)}")
    level = _checks.probability("level", level)
    for estimate, n, reason in zip(estimates, ns, reasons, strict=True):
        require_estimate("estimate", estimate, n, reason)
    ps = [
        decision_p(estimate, claim.direction, claim.margin) if testable(estimate, n, reason) else None
        for claim, estimate, n, reason in zip(claims, estimates, ns, reasons, strict=True)
    ]

    def verdict(place: int, at: float, p: float | None) -> Verdict:
        estimate = estimates[place]
        interval = None if estimate is None else estimate.interval(at)
        return verdict_of(claims[place], estimate, interval, ns[place], reasons[place], p)

    verdicts = {
        place: verdict(place, level, ps[place]) for place, claim in enumerate(claims) if claim.direction == "equivalent"
    }
    family = [place for place in range(len(claims)) if place not in verdicts]
    # A claim that cannot be decided counts as one that no level decides.
    raw = {place: 1.0 if ps[place] is None else ps[place] for place in family}
    adjusted = dict(zip(family, holm(list(raw.values())).tolist(), strict=True)) if family else {}
    decided = 0
    stopped = False
    for place in sorted(family, key=lambda place: (ps[place] is None, raw[place])):
        p = None if ps[place] is None else adjusted[place]
        verdicts[place] = verdict(place, bonferroni_level(len(family) - decided, level), p)
        stopped = stopped or verdicts[place].verdict == "inconclusive"
        decided += not stopped
    return tuple(verdicts[place] for place in range(len(claims)))
