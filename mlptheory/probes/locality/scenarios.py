"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants, in multiples of the margin δ.

    Attributes
    ----------
    augmentation : float
        Augmented arm less plain arm, at the largest training set.
    data : float
        Change of the augmented arm from the smallest to the largest training set.
    only : float
        By how much that change exceeds the plain arm's.
    initialization : float
        Of W after training less before.
    gaussian, shuffled : float
        Lead over Gaussian surrogates, and over shuffled pixels.
    positive : float
        Of the control's nets on edges over those on Gaussian textures.
    null : float
        Of the filters at initialization over the same with shuffled pixels.
    hump : float
        Height of a half sine over the training-set sizes, in the augmented arm.
    dip : float
        Depth of a half sine over the training-set sizes, in the plain arm.
    fanning : float
        Spread of a run at the largest training set over that at the smallest.
    diverged : float
        Share of runs that diverge.
    """

    augmentation: float = 0.0
    data: float = 0.0
    only: float = 0.0
    initialization: float = 0.0
    gaussian: float = 0.0
    shuffled: float = 0.0
    positive: float = 0.0
    null: float = 0.0
    hump: float = 0.0
    dip: float = 0.0
    fanning: float = 1.0
    diverged: float = 0.0


_EFFECTS = tuple(
    field.name for field in fields(Truth) if field.name not in ("null", "hump", "dip", "fanning", "diverged")
)


def _scenario(name: str, description: str, effect: float = 0.0, **parameters: float) -> Scenario:
    """Return a scenario in which every claim's effect is a multiple of its margin."""
    effects = dict.fromkeys(_EFFECTS, effect)
    return Scenario(name=name, description=description, parameters=tuple({**effects, **parameters}.items()))


SCENARIOS = (
    _scenario("none", "no effect of anything"),
    _scenario("margin", "every effect at its margin, the null control at its own", 1.0, null=1.0),
    _scenario(
        "alone",
        "the change with more data at its margin, so that it is decided last; all other effects at forty margins",
        40.0,
        data=1.0,
    ),
    _scenario(
        "both arms",
        "more data localize by eight margins in both arms alike, so augmentation has no part in it",
        8.0,
        augmentation=0.0,
        only=0.0,
    ),
    _scenario("twice", "every effect at twice its margin", 2.0),
    _scenario("strong", "every effect at eight times its margin", 8.0),
    _scenario("reversed", "every effect at twice its margin, against the claim; the null control off", -2.0, null=2.0),
    _scenario("hump", "augmented filters most local at a middle size, by four margins, and no change", hump=4.0),
    _scenario("rising hump", "the same hump on effects of twice the margin", 2.0, hump=4.0),
    _scenario(
        "dip", "plain filters least local at a middle size, by four margins; effects at their margins", 1.0, dip=4.0
    ),
    _scenario("fanning", "effects at their margins; the largest size's runs four times as spread", 1.0, fanning=4.0),
    _scenario("diverged", "effects at their margins; one run in five hundred diverges", 1.0, diverged=0.002),
)
