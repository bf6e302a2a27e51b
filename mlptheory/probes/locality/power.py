"""What a number of seeds can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.probes.locality.cells import Cells
from mlptheory.probes.locality.design import Locality
from mlptheory.probes.locality.evidence import gather
from mlptheory.probes.power import first_level, power_sentence, spreads_of

if TYPE_CHECKING:
    from mlptheory.probes.result import Result


def power(probe: Locality, pilot: Result | None) -> dict[str, str]:
    """Return, by claim, what this many seeds can show: in a pilot's spread, or in units of the spread.

    Raises
    ------
    InputError
        If the pilot is another probe's, or of another statistic.
    """
    claims = probe.claims()
    spreads, level = {} if pilot is None else _spreads(probe, pilot), first_level(claims)
    return {claim.id: power_sentence(claim, len(probe.seed_list), spreads.get(claim.id), level) for claim in claims}


def _spreads(probe: Locality, pilot: Result) -> dict[str, float]:
    if not isinstance(pilot.probe, Locality):
        raise InputError(f"pilot: expected a result of locality, found one of {pilot.probe.name}")
    if (pilot.probe.statistic, pilot.probe.of) != (probe.statistic, probe.of):
        raise InputError(
            f"pilot: expected a result on {probe.statistic} of {probe.of}, found one on {pilot.probe.statistic} of "
            f"{pilot.probe.of}"
        )
    cells = Cells(pilot.probe, pilot.table)
    return spreads_of((claim.id, gather(pilot.probe, cells, claim.id)) for claim in pilot.probe.claims())
