"""What a number of seeds can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.probes.comparison.cells import Cells
from mlptheory.probes.comparison.evidence import gather
from mlptheory.probes.power import first_level, power_sentence, spreads_of

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison
    from mlptheory.probes.result import Result


def power(probe: Comparison, pilot: Result | None) -> dict[str, str]:
    """Return, by claim, what its seeds can show, and how many it needs: in a pilot's spread, or in units of the spread.

    Raises
    ------
    InputError
        If the pilot is another probe's.
    """
    claims = probe.claims()
    spreads, level = {} if pilot is None else _spreads(probe, pilot), first_level(claims)
    return {claim.id: power_sentence(claim, len(probe.seed_list), spreads.get(claim.id), level) for claim in claims}


def _spreads(probe: Comparison, pilot: Result) -> dict[str, float]:
    if not isinstance(pilot.probe, type(probe)):
        raise InputError(f"pilot: expected a result of {probe.name}, found one of {pilot.probe.name}")
    cells = Cells(pilot.probe, pilot.table)
    return spreads_of((contrast.id, gather(cells, contrast)) for contrast in pilot.probe.contrasts())
