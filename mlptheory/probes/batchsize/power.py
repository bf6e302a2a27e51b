"""What a number of seeds can show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.optimize import brentq

from mlptheory.base.errors import InputError
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.claims import MAIN, NOISE_SCALE, SHARPNESS, TUNING
from mlptheory.probes.batchsize.design import BatchSize
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
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

    The spread is the standard deviation over seeds of what the claim's interval is of; of a claim about the smallest
    of several effects, the largest of theirs. The level is that of Holm's first step, the strictest: a claim that is
    not the first to be decided has more power.

    Raises
    ------
    InputError
        If the pilot is another probe's.
    """
    spreads = {} if pilot is None else _spreads(pilot)
    if TUNING not in spreads and MAIN in spreads:
        spreads[TUNING] = spreads[MAIN]  # a pilot at one learning rate is the nearest there is
    claims = probe.claims()
    level = bonferroni_level(max(1, sum(claim.direction != "equivalent" for claim in claims)))
    return {claim.id: _sentence(probe, claim, spreads.get(claim.id), level) for claim in claims}


def _seeds(probe: BatchSize, claim: Claim) -> int:
    from mlptheory.probes.batchsize.arms import NOISE_SEEDS

    if claim.id == NOISE_SCALE:
        return NOISE_SEEDS
    return len(probe.curvature_seed_list if claim.id == SHARPNESS else probe.seed_list)


def _sentence(probe: BatchSize, claim: Claim, spread: float | None, level: float) -> str:
    seeds = _seeds(probe, claim)
    if seeds < FEWEST_RUNS:
        return f"inconclusive by design: {seeds} seeds are too few for any verdict ({FEWEST_RUNS})"
    if claim.direction == "equivalent":
        largest = claim.margin / _margin_in_spreads(seeds)
        known = "unknown without a pilot" if spread is None else f"{spread:.2g} in the pilot"
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
    runs = runs_for_power(2 * claim.margin, spread, margin=claim.margin, power=POWER, level=level)
    verdict = f"; an effect of {2 * claim.margin:g} needs {runs} seeds"
    return ("inconclusive by design for such an effect: " if runs > seeds else "") + found + verdict


def _margin_in_spreads(seeds: int) -> float:
    """Return the margin, in spreads, within which a true effect of 0 is shown to lie with 90 % power."""
    return float(
        brentq(lambda margin: power_t(0.0, 1.0, seeds, margin=margin, alternative="equivalent") - POWER, 0.01, 100)
    )


def _spreads(pilot: Result) -> dict[str, float]:
    """Return the SD over seeds behind each claim of a pilot, where it has one."""
    if not isinstance(pilot.probe, BatchSize):
        raise InputError(f"pilot: expected a result of batchsize, found one of {pilot.probe.name}")
    cells, chosen = Cells(pilot.probe, pilot.table), choose(pilot.probe, pilot.table)
    found = {}
    for claim in pilot.probe.claims():
        evidence = gather(pilot.probe, cells, chosen, claim.id)
        if evidence.estimate is None:
            continue
        spread = max(part.standard_error * math.sqrt(part.df + 1) for part in evidence.estimate.components)
        if spread > 0:
            found[claim.id] = spread
    return found
