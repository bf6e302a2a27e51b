"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants; changes are from the smallest to the largest batch.

    Attributes
    ----------
    change : float
        Of the MLP's accuracy, mean over lengths, in multiples of the margin δ.
    growth : float
        Of that change from the shortest to the longest length, in multiples of δ.
    cnn : float
        Of the CNN's accuracy, in multiples of δ.
    sharpness, examples : float
        Of log2 sharpness and log2 examples to target, in multiples of those claims' margins.
    hump : float
        Height of a half sine over the batch sizes, in multiples of δ.
    fanning : float
        Spread of a run at the largest batch size over that at the smallest.
    control : float
        Of every control's estimand, in multiples of its margin.
    diverged : float
        Share of runs that diverge.
    curvature : float
        Accuracy that an octave of learning rate away from the best costs, in multiples of δ; twice as far costs four
        times that.
    drift : float
        Octaves by which the best learning rate of the largest batch size lies above that of the smallest, which is the
        grid's middle.
    """

    change: float = 0.0
    growth: float = 0.0
    cnn: float = 0.0
    sharpness: float = 0.0
    examples: float = 0.0
    hump: float = 0.0
    fanning: float = 1.0
    control: float = 0.0
    diverged: float = 0.0
    curvature: float = 1.0
    drift: float = 0.0


def _scenario(name: str, description: str, effect: float = 0.0, **parameters: float) -> Scenario:
    """Return a scenario in which every claim's effect is a multiple of its margin, in the claimed direction."""
    effects = {"change": effect, "growth": effect, "cnn": -effect, "sharpness": effect, "examples": effect}
    return Scenario(name=name, description=description, parameters=tuple({**effects, **parameters}.items()))


SCENARIOS = (
    _scenario("none", "no effect of anything"),
    _scenario("margin", "every effect at its margin, every control at its own", 1.0, control=1.0),
    _scenario("monotone", "every effect at twice its margin", 2.0),
    _scenario("strong", "every effect at eight times its margin", 8.0),
    _scenario("reversed", "every effect at twice its margin, against the claim; controls off too", -2.0, control=2.0),
    _scenario("hump", "accuracy best in the middle, by four margins, and no change along the line", hump=4.0),
    _scenario("rising hump", "the same hump on effects of twice the margin", 2.0, hump=4.0),
    _scenario("fanning", "effects at their margins; the largest batch's runs four times as spread", 1.0, fanning=4.0),
    _scenario("diverged", "effects at their margins; one run in a hundred diverges", 1.0, diverged=0.01),
    _scenario("drift", "effects at their margins; the best learning rate rises an octave and a half", 1.0, drift=1.5),
    _scenario("off the grid", "effects at their margins; the best learning rate leaves the grid", 1.0, drift=6.0),
)
