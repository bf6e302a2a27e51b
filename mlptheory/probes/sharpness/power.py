"""What a number of seeds can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.probes.power import first_level, power_sentence, spreads_of
from mlptheory.probes.sharpness.cells import Cells
from mlptheory.probes.sharpness.design import Sharpness
from mlptheory.probes.sharpness.evidence import gather

if TYPE_CHECKING:
    from mlptheory.probes.result import Result


def power(probe: Sharpness, pilot: Result | None) -> dict[str, str]:
    """Return, by claim, what this many seeds can show: in a pilot's spread, or in units of the spread.

    Raises
    ------
    InputError
        If the pilot is another probe's.
    """
    claims = probe.claims()
    spreads, level = {} if pilot is None else _spreads(probe, pilot), first_level(claims)
    return {claim.id: power_sentence(claim, len(probe.seed_list), spreads.get(claim.id), level) for claim in claims}


def _spreads(probe: Sharpness, pilot: Result) -> dict[str, float]:
    if not isinstance(pilot.probe, Sharpness):
        raise InputError(f"pilot: expected a result of sharpness, found one of {pilot.probe.name}")
    cells = Cells(pilot.probe, pilot.table)
    return spreads_of((claim.id, gather(pilot.probe, cells, claim.id)) for claim in pilot.probe.claims())
