"""What a number of seeds can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.claims import MAIN, NOISE_SCALE, SHARPNESS, TUNING
from mlptheory.probes.batchsize.design import BatchSize
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
from mlptheory.probes.power import first_level, power_sentence, spreads_of
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.result import Result


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
    level = first_level(claims)
    return {claim.id: power_sentence(claim, _seeds(probe, claim), spreads.get(claim.id), level) for claim in claims}


def _seeds(probe: BatchSize, claim: Claim) -> int:
    from mlptheory.probes.batchsize.arms import NOISE_SEEDS

    if claim.id == NOISE_SCALE:
        return NOISE_SEEDS
    return len(probe.curvature_seed_list if claim.id == SHARPNESS else probe.seed_list)


def _spreads(pilot: Result) -> dict[str, float]:
    """Return the SD over seeds behind each claim of a pilot, where it has one."""
    if not isinstance(pilot.probe, BatchSize):
        raise InputError(f"pilot: expected a result of batchsize, found one of {pilot.probe.name}")
    cells, chosen = Cells(pilot.probe, pilot.table), choose(pilot.probe, pilot.table)
    return spreads_of((claim.id, gather(pilot.probe, cells, chosen, claim.id)) for claim in pilot.probe.claims())
