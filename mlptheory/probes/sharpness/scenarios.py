"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants, in multiples of the margin δ of the claim.

    Attributes
    ----------
    gd, momentum, adam : float
        Of hovering over the threshold; 0 is on it.
    below : float
        How far the small step stays below, upwards for lower.
    sharpening : float
        Growth of sharpness at the center.
    wider : float
        Fall of that growth from the narrowest to the widest net.
    deeper : float
        Its rise from the shallowest to the deepest.
    predicts, adaptive, rescaled : float
        Expectation of Kendall's τ between the generalization gap and sharpness, adaptive or rescaled sharpness.
    exact : float
        How far the exact controls stay below a relative change of 1, upwards for lower.
    reached : float
        Share of runs that reach the threshold.
    hump : float
        Height of a half sine over widths and over depths.
    fanning : float
        Spread of a run at the largest width or depth over that at the smallest.
    diverged : float
        Share of runs that diverge.
    """

    gd: float = 0.0
    momentum: float = 0.0
    adam: float = 0.0
    below: float = 0.0
    sharpening: float = 0.0
    wider: float = 0.0
    deeper: float = 0.0
    predicts: float = 0.0
    adaptive: float = 0.0
    rescaled: float = 0.0
    exact: float = 0.0
    reached: float = 1.0
    hump: float = 0.0
    fanning: float = 1.0
    diverged: float = 0.0


_OTHERS = ("reached", "hump", "fanning", "diverged")
_EFFECTS = tuple(field.name for field in fields(Truth) if field.name not in _OTHERS)


def _scenario(name: str, description: str, effect: float = 0.0, **parameters: float) -> Scenario:
    """Return a scenario in which every claim's effect is a multiple of its margin."""
    effects = dict.fromkeys(_EFFECTS, effect)
    return Scenario(name=name, description=description, parameters=tuple({**effects, **parameters}.items()))


SCENARIOS = (
    _scenario("none", "no effect of anything; every edge exactly on its threshold"),
    _scenario("margin", "every effect at its margin", 1.0),
    _scenario(
        "alone",
        "sharpening at its margin, so that it is decided last; every other effect at four margins",
        4.0,
        sharpening=1.0,
    ),
    _scenario("twice", "every effect at twice its margin", 2.0),
    _scenario("strong", "every effect at four times its margin, Kendall's τ near 1", 4.0),
    _scenario("reversed", "every effect at twice its margin, against the claim", -2.0),
    _scenario("not reached", "edges a margin below the threshold, and three runs in ten reach it", -1.0, reached=0.3),
    _scenario("hump", "nets of middle width and depth sharpen most, by four margins; no change over either", hump=4.0),
    _scenario("rising hump", "the same hump on effects of twice the margin", 2.0, hump=4.0),
    _scenario("fanning", "effects at their margins; the largest nets' runs four times as spread", 1.0, fanning=4.0),
    _scenario("diverged", "effects at their margins; one run in five hundred diverges", 1.0, diverged=0.002),
)
