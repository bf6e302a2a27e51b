"""A state of the world that a probe's judgment is tried on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A planted truth, from which a probe simulates tables and of which it knows every claim's estimand.

    Attributes
    ----------
    name : str
        Short and unique among a probe's scenarios.
    description : str
        What holds in this world, in a sentence.
    parameters : tuple of (str, float)
        What the simulation takes, in its own terms.

    Examples
    --------
    >>> Scenario(name="at-margin", description="The effect is the margin.", parameters=(("effect", 0.5),)).parameters
    (('effect', 0.5),)
    """

    name: str
    description: str
    parameters: tuple[tuple[str, float], ...] = ()
