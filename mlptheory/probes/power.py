"""What a number of seeds can show of a claim, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scipy.optimize import brentq

from mlptheory.base.errors import InputError
from mlptheory.probes.evidence import Evidence
from mlptheory.stats import (
    FEWEST_RUNS,
    Claim,
    bonferroni_level,
    power_t,
    runs_for_power,
    smallest_detectable_effect,
)

POWER, LEVEL = 0.9, 0.95


def first_level(claims: Sequence[Claim]) -> float:
    """Return the level of Holm's first step, the strictest, over the claims that have a direction."""
    return bonferroni_level(max(1, sum(claim.direction != "equivalent" for claim in claims)))


def power_sentence(claim: Claim, seeds: int, spread: float | None, level: float) -> str:
    """Say what a number of seeds can show of a claim.

    Parameters
    ----------
    claim : Claim
    seeds : int
        Blocks behind its estimate.
    spread : float or None
        A pilot's standard deviation over seeds of what the claim's interval is of, in the claim's unit.
    level : float
        Of the interval of a claim with a direction.
    """
    if seeds < FEWEST_RUNS:
        return f"inconclusive by design: {seeds} seeds are too few for any verdict ({FEWEST_RUNS})"
    if claim.direction == "equivalent":
        largest = claim.margin / _margin_in_spreads(seeds)
        known = "unknown without a pilot"
        if spread is not None:
            needed = _seeds_needed(0.0, claim, spread, LEVEL)
            known = f"{spread:.2g} in the pilot, for which an effect of 0 needs {_in_words(needed)} seeds"
        return (
            f"with {seeds} seeds, 90 % power to lie within ±δ where the spread over seeds is at most "
            f"{largest:.2g} {claim.unit} ({known})"
        )
    beyond = smallest_detectable_effect(seeds, POWER, level)
    if spread is None:
        return (
            f"with {seeds} seeds, 90 % power for an effect {beyond:.2g} spreads beyond δ, the spread being the SD over "
            "seeds of the change; unknown without a pilot"
        )
    found = (
        f"pilot's spread {spread:.2g} {claim.unit}: {seeds} seeds have 90 % power for an effect of "
        f"{claim.margin + beyond * spread:.2g}"
    )
    if not claim.margin:
        return found
    needed = _seeds_needed(2 * claim.margin, claim, spread, level)
    verdict = f"; an effect of {2 * claim.margin:g} needs {_in_words(needed)} seeds"
    return ("inconclusive by design for such an effect: " if needed > seeds else "") + found + verdict


def _seeds_needed(effect: float, claim: Claim, spread: float, level: float) -> float:
    """Return how many seeds show an effect; infinity where nobody could run as many."""
    alternative = "equivalent" if claim.direction == "equivalent" else "greater"
    try:
        return runs_for_power(effect, spread, claim.margin, POWER, level, alternative)
    except InputError:
        return math.inf


def _in_words(needed: float) -> str:
    return f"{needed}" if math.isfinite(needed) else "more than ten million"


def _margin_in_spreads(seeds: int) -> float:
    """Return the margin, in spreads, within which a true effect of 0 is shown to lie with 90 % power."""
    return float(
        brentq(lambda margin: power_t(0.0, 1.0, seeds, margin=margin, alternative="equivalent") - POWER, 0.01, 100)
    )


def spreads_of(found: Iterable[tuple[str, Evidence]]) -> dict[str, float]:
    """Return, by claim, the SD over seeds behind it, where it has one; of a smallest effect, the largest of theirs."""
    spreads = {}
    for claim, evidence in found:
        if evidence.estimate is None:
            continue
        spread = max(part.standard_error * math.sqrt(part.df + 1) for part in evidence.estimate.components)
        if spread > 0:
            spreads[claim] = spread
    return spreads
