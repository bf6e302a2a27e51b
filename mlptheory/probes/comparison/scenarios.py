"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants.

    Attributes
    ----------
    effect : float
        Every contrast in its claimed direction, in multiples of its margin.
    fanning : float
        Spread of the last arm's runs, in multiples of the others'.
    diverged : float
        Share of runs that diverge.
    """

    effect: float = 0.0
    fanning: float = 1.0
    diverged: float = 0.0


def _scenario(name: str, description: str, **parameters: float) -> Scenario:
    return Scenario(name=name, description=description, parameters=tuple(parameters.items()))


SCENARIOS = (
    _scenario("none", "all arms alike"),
    _scenario("margin", "every contrast at its margin", effect=1.0),
    _scenario("lower margin", "every contrast at its margin, against the claim", effect=-1.0),
    _scenario("twice", "every contrast at twice its margin", effect=2.0),
    _scenario("strong", "every contrast at eight times its margin", effect=8.0),
    _scenario("reversed", "every contrast at twice its margin, against the claim", effect=-2.0),
    _scenario("fanning", "at the margins; runs of the last arm four times as spread", effect=1.0, fanning=4.0),
    _scenario("diverged", "at the margins; one run in fifty diverges", effect=1.0, diverged=0.02),
)
