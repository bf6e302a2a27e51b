"""What a number of seeds can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.probes.permutation import claims as named
from mlptheory.probes.permutation.cells import Cells
from mlptheory.probes.permutation.design import Permutation
from mlptheory.probes.permutation.evidence import gather
from mlptheory.probes.power import first_level, power_sentence, spreads_of

if TYPE_CHECKING:
    from mlptheory.probes.result import Result


def power(probe: Permutation, pilot: Result | None) -> dict[str, str]:
    """Return, by claim, what its seeds can show, and how many it needs: in a pilot's spread, or in units of the spread.

    Raises
    ------
    InputError
        If the pilot is another probe's.
    """
    claims = probe.claims()
    spreads, level = {} if pilot is None else _spreads(pilot), first_level(claims)
    seeds = dict.fromkeys((named.TRAJECTORY, named.WRONG), len(probe.exact_seed_list))
    told = {
        claim.id: power_sentence(claim, seeds.get(claim.id, len(probe.seed_list)), spreads.get(claim.id), level)
        for claim in claims
    }
    if probe.order_mixed_with:
        told[named.ORDER] = f"inconclusive by design: {probe.order_mixed_with}"
    return told


def _spreads(pilot: Result) -> dict[str, float]:
    if not isinstance(pilot.probe, Permutation):
        raise InputError(f"pilot: expected a result of permutation, found one of {pilot.probe.name}")
    cells = Cells(pilot.probe, pilot.table)
    return spreads_of((claim.id, gather(pilot.probe, cells, claim.id)) for claim in pilot.probe.claims())
