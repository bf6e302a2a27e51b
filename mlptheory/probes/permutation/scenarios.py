"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants.

    Attributes
    ----------
    difference : float
        MLP on images less on permuted images, with augmentation and without, in multiples of the margin.
    falls, order : float
        Fall of the baseline, and the order's worth to the MLP, in multiples of δ.
    trajectory, wrong : float
        Decades beyond their margins, of the smallest cell.
    apart : float
        Decades by which all other cells lie above the smallest.
    parting : float
        Share of the smallest cell's blocks that part at once, with a deviation of 1; the others deviate by so much
        less that the mean is what is planted.
    resolved : float
        Factor on the spread of deviations; 0 where all blocks agree to the last digit.
    fanning : float
        Spread of a run on permuted images over that of one on images.
    control : float
        Of the control's estimand, in multiples of its margin.
    diverged : float
        Share of runs that diverge.
    """

    difference: float = 0.0
    falls: float = 0.0
    order: float = 0.0
    trajectory: float = 0.0
    wrong: float = 0.0
    apart: float = 1.0
    parting: float = 0.0
    resolved: float = 1.0
    fanning: float = 1.0
    control: float = 0.0
    diverged: float = 0.0


def _scenario(name: str, description: str, **parameters: float) -> Scenario:
    return Scenario(name=name, description=description, parameters=tuple(parameters.items()))


_AT_MARGINS = {"difference": 1.0, "falls": 1.0, "order": 1.0}

SCENARIOS = (
    _scenario("none", "no effect of anything, deviations of order 1", trajectory=-9.0, wrong=-3.0),
    _scenario("margin", "everything at its margin, the control at its own", **_AT_MARGINS, control=1.0),
    _scenario("ties", "everything at its margin, all cells of exact runs alike", **_AT_MARGINS, apart=0.0),
    _scenario(
        "lower margin", "the MLP better on permuted images, by the margin", difference=-1.0, falls=1.0, order=1.0
    ),
    _scenario("twice", "effects at twice δ, deviations a decade beyond", falls=2.0, order=2.0, trajectory=1, wrong=1),
    _scenario("strong", "effects at eight times δ, five decades beyond", falls=8.0, order=8.0, trajectory=5, wrong=5),
    _scenario(
        "reversed",
        "effects against the claims, a decade short; the MLP off by twice the margin, and so the control",
        difference=2.0,
        falls=-2.0,
        order=-2.0,
        trajectory=-1,
        wrong=-1,
        control=2.0,
    ),
    _scenario(
        "alone",
        "the same trajectory at its margin, so that it is decided last; all other effects far beyond theirs",
        falls=40.0,
        order=40.0,
        wrong=20.0,
    ),
    _scenario(
        "parting",
        "43 of 100 blocks part from their trajectory at once, the others do not deviate: the mean is at its margin",
        falls=8.0,
        order=8.0,
        wrong=5.5,
        apart=6.0,
        parting=0.43,
    ),
    _scenario(
        "agreeing",
        "everything at its margin, deviations equal to the last digit in all blocks",
        **_AT_MARGINS,
        resolved=0,
    ),
    _scenario(
        "fanning", "everything at its margin; runs on permuted images four times as spread", **_AT_MARGINS, fanning=4
    ),
    _scenario("diverged", "everything at its margin; one run in five hundred diverges", **_AT_MARGINS, diverged=0.002),
)
