"""What a number of seeds can show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.optimize import brentq

from mlptheory.base.errors import InputError
from mlptheory.probes.batchsize.design import EVERY_LENGTH, BatchSize
from mlptheory.probes.batchsize.judgment import estimate
from mlptheory.stats import (
    FEWEST_RUNS,
    Claim,
    bonferroni_level,
    power_t,
    runs_for_power,
    smallest_detectable_effect,
)

if TYPE_CHECKING:
    from mlptheory.probes.result import Result

POWER = 0.9


def power(probe: BatchSize, pilot: Result | None) -> dict[str, str]:
    """Return, by claim, what this many seeds can show: in a pilot's spread, or in units of the spread.

    The spread is the standard deviation, over seeds, of the change from the smallest to the largest batch.

    Raises
    ------
    InputError
        If the pilot is another probe's.
    """
    seeds = len(probe.seed_list)
    if seeds < FEWEST_RUNS:
        return {claim.id: f"{seeds} seeds: too few for any verdict ({FEWEST_RUNS})" for claim in probe.claims()}
    spreads = {claim.id: None if pilot is None else _spread(claim.id, pilot) for claim in probe.claims()}
    return {claim.id: _sentence(probe, claim, seeds, spreads[claim.id]) for claim in probe.claims()}


def _sentence(probe: BatchSize, claim: Claim, seeds: int, spread: float | None) -> str:
    if claim.direction == "equivalent":
        largest = claim.margin / _margin_in_spreads(seeds)
        known = "unknown without a pilot" if spread is None else f"{spread:.2g} in the pilot"
        return (
            f"with {seeds} seeds, 90 % power to lie within ±δ where the spread over seeds is at most "
            f"{largest:.2g} {claim.unit} ({known})"
        )
    level = bonferroni_level(len(probe.epochs)) if claim.id == EVERY_LENGTH else 0.95
    at = ", at each length," if claim.id == EVERY_LENGTH else ""
    beyond = smallest_detectable_effect(seeds, POWER, level)
    if spread is None:
        return (
            f"with {seeds} seeds, 90 % power{at} for an effect {beyond:.2g} spreads beyond δ, the spread being the "
            "SD over seeds of the change; unknown without a pilot"
        )
    found = (
        f"pilot's spread {spread:.2g} {claim.unit}: {seeds} seeds have 90 % power{at} for an effect of "
        f"{claim.margin + beyond * spread:.2g}"
    )
    if not claim.margin:
        return found
    runs = runs_for_power(2 * claim.margin, spread, margin=claim.margin, power=POWER, level=level)
    return f"{found}; an effect of {2 * claim.margin:g} needs {runs} seeds"


def _margin_in_spreads(seeds: int) -> float:
    """Return the margin, in spreads, within which a true effect of 0 is shown to lie with 90 % power."""
    return float(
        brentq(lambda margin: power_t(0.0, 1.0, seeds, margin=margin, alternative="equivalent") - POWER, 0.01, 100)
    )


def _spread(claim: str, pilot: Result) -> float | None:
    if not isinstance(pilot.probe, BatchSize):
        raise InputError(f"pilot: expected a result of batchsize, found one of {pilot.probe.name}")
    if claim not in {known.id for known in pilot.probe.claims()}:
        return None
    _, interval, blocks = estimate(pilot.probe, claim, pilot.table)
    if interval is None or interval.standard_error == 0:
        return None
    return interval.standard_error * math.sqrt(blocks)
