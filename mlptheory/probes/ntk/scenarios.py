"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants, in multiples of each claim's margin.

    Attributes
    ----------
    effect : float
        Of every claim that an effect is large: the exponent by which kernels change less with width, the velocities'
        ratio, the rise of the alignment, the final kernel's lead, the logits' slope under the standard parametrization,
        the output scales' ratio.
    off : float
        Of every claim that two things are equal, how far they are apart; of the two that hold a largest deviation to a
        tolerance, every deviation, which are thus tied.
    fast : float or None
        The velocities' ratio alone, where it is not `effect`.
    opposed : float
        Added to the first and taken off the last of the parts of the learning curve and of the layers under μP: a mean
        over them would not see it.
    bend : float
        Height of a half sine over the widths, in the logarithm of the kernels' deviations and changes, in margins of
        the exponent; the fitted lines do not see it.
    fanning : float
        Spread of a net's logarithms at the largest width over that at the smallest.
    diverged : float
        Share of runs that diverge.
    """

    effect: float = 0.0
    off: float = 0.0
    fast: float | None = None
    opposed: float = 0.0
    bend: float = 0.0
    fanning: float = 1.0
    diverged: float = 0.0


def _scenario(name: str, description: str, **parameters: float) -> Scenario:
    return Scenario(name=name, description=description, parameters=tuple(parameters.items()))


SCENARIOS = (
    _scenario("none", "no effect, and everything equal that is claimed to be", effect=0.0),
    _scenario("margin", "every effect and every inequality at its margin", effect=1.0, off=1.0),
    _scenario("below", "every inequality at its margin, to the other side", effect=1.0, off=-1.0),
    _scenario(
        "alone",
        "the velocities' ratio at its margin, so that it is decided last; other effects at forty margins",
        effect=40.0,
        fast=1.0,
    ),
    _scenario("twice", "every effect at twice its margin, every inequality at half", effect=2.0, off=0.5),
    _scenario("strong", "every effect at eight times its margin", effect=8.0),
    _scenario(
        "reversed", "every effect at twice its margin, against the claim; equals off by two", effect=-2.0, off=2.0
    ),
    _scenario(
        "opposed",
        "deviations of a learning curve and of layers that cancel in the mean, each at its tolerance",
        effect=1.0,
        opposed=1.0,
    ),
    _scenario("far opposed", "the same at twice the tolerance", effect=2.0, opposed=2.0),
    _scenario(
        "bend", "kernels over widths on no power law, by ten margins; effects at twice theirs", effect=2.0, bend=10.0
    ),
    _scenario(
        "fanning",
        "everything at its margin; the largest width's logarithms four times as spread",
        effect=1.0,
        off=1.0,
        fanning=4.0,
    ),
    _scenario(
        "diverged", "everything at its margin; one run in five hundred diverges", effect=1.0, off=1.0, diverged=0.002
    ),
)
