"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants, in multiples of the margin δ of accuracy where nothing else is said.

    Attributes
    ----------
    lift : float
        The MLP's accuracy with all of augmentation less that without, at every size.
    over_cnn : float
        That lift less the baseline's.
    over_cnn_odds : float
        The same of log-odds, in multiples of its margin; planted in place of `over_cnn` where `in_odds` is 1.
    in_odds : float
        Whether it is.
    rise : float
        Accuracy gained from the smallest size to the next, with and without augmentation.
    bend : float
        By what the gain of every further step is multiplied.
    invariance : float
        Minus the difference of the log error at equal accuracy, in multiples of its margin.
    steepening : float
        By what the slope of the log error over accuracy is multiplied with augmentation; the lines meet at the
        accuracy of the largest size without.
    filters : float
        Difference of the local share, in multiples of its margin.
    spatial, over_noise : float
        Lead of an arm over the one that lacks what it is judged for.
    teach : float
        Lead of trained features over the better of what they must beat.
    apart : float
        By how much the worse of the two lies below the better.
    fanning : float
        Spread of a run with augmentation over that of one without.
    control : float
        Of every control's estimand, in multiples of its margin.
    diverged : float
        Share of runs that diverge.
    curvature : float
        Accuracy that an octave of learning rate away from the best costs; twice as far costs four times that.
    drift : float
        Octaves by which the best learning rate of the arm of all operators lies above that of the others, which is the
        grid's middle.
    """

    lift: float = 0.0
    over_cnn: float = 0.0
    over_cnn_odds: float = 0.0
    in_odds: float = 0.0
    rise: float = 12.0
    bend: float = 0.75
    invariance: float = 0.0
    steepening: float = 1.0
    filters: float = 0.0
    spatial: float = 0.0
    over_noise: float = 0.0
    teach: float = 0.0
    apart: float = 8.0
    fanning: float = 1.0
    control: float = 0.0
    diverged: float = 0.0
    curvature: float = 1.0
    drift: float = 0.0


_EFFECTS = ("lift", "over_cnn", "over_cnn_odds", "invariance", "filters", "spatial", "over_noise", "teach")


def _scenario(name: str, description: str, effect: float = 0.0, **parameters: float) -> Scenario:
    """Return a scenario in which every claim's effect is a multiple of its margin."""
    effects = dict.fromkeys(_EFFECTS, effect)
    return Scenario(name=name, description=description, parameters=tuple({**effects, **parameters}.items()))


SCENARIOS = (
    _scenario("none", "no effect of anything"),
    _scenario("margin", "every effect at its margin, every control at its own", 1.0, control=1.0),
    _scenario("odds", "the lead over the baseline at its margin in log-odds, and not in points", 1.0, in_odds=1.0),
    _scenario("ties", "every effect at its margin, both of what is to be beaten alike", 1.0, apart=0.0),
    _scenario("worth one step", "a lift of just as many examples again, at every size", 12.0, bend=1.0),
    _scenario(
        "worth one step once", "a lift of just as many examples again at the smallest size, of more at others", 12.0
    ),
    _scenario("shallow", "effects at their margins; the next size gains no more than three margins", 1.0, rise=3.0),
    _scenario(
        "steep",
        "effects at their margins; the log error falls twice as fast with accuracy under augmentation",
        1.0,
        steepening=2.0,
    ),
    _scenario("apart", "a lift of more than all sizes together, so that no accuracy is reached by both", 60.0),
    _scenario("twice", "every effect at twice its margin", 2.0),
    _scenario("strong", "every effect at sixteen times its margin", 16.0),
    _scenario("reversed", "every effect at twice its margin, against the claim; controls off too", -2.0, control=2.0),
    _scenario(
        "fanning", "effects at their margins; runs with augmentation four times as spread as without", 1.0, fanning=4.0
    ),
    _scenario("diverged", "effects at their margins; one run in five hundred diverges", 1.0, diverged=0.002),
    _scenario("drift", "effects at their margins; the best rate of all operators is an octave higher", 1.0, drift=1.0),
    _scenario(
        "off the grid", "effects at their margins; the best rate of all operators leaves the grid", 1.0, drift=6.0
    ),
)
