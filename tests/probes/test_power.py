"""What a plan says that a number of seeds can show."""

import dataclasses
import math

import pytest
from scipy.optimize import brentq
from scipy.stats import nct, t

from mlptheory.probes.power import power_sentence
from mlptheory.stats import Claim

GREATER = Claim(
    id="claim",
    statement="It grows.",
    source="a test",
    estimand="mean",
    direction="greater",
    margin=1.0,
    unit="points",
    test="t interval",
    held_fixed=(),
    scope="here",
)
EQUIVALENT = dataclasses.replace(GREATER, direction="equivalent")


def fewest(shift, level):
    """Seeds until the interval of an effect `shift` spreads beyond the margin lies above it in 90 % of studies."""
    return next(n for n in range(3, 1000) if nct.sf(t.ppf((1 + level) / 2, n - 1), n - 1, shift * math.sqrt(n)) >= 0.9)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_seeds_for_an_effect_are_those_of_the_noncentral_t_law(spread):
    needed = fewest(1 / spread, 0.99)
    told = power_sentence(GREATER, 10, spread, 0.99)
    assert f"an effect of 2 needs {needed} seeds" in told and told.startswith("inconclusive by design") == (needed > 10)
    beyond = brentq(lambda d: nct.sf(t.ppf(0.995, 9), 9, d * math.sqrt(10)) - 0.9, 0, 10)
    assert f"90 % power for an effect of {1 + beyond * spread:.2g}" in told


@pytest.mark.parametrize("claim", [GREATER, EQUIVALENT])
def test_a_margin_far_below_the_pilots_spread_is_said_to_be_out_of_reach(claim):
    told = power_sentence(dataclasses.replace(claim, margin=1e-4), 8, 1.0, 0.99)
    assert "needs more than ten million seeds" in told
    assert claim is EQUIVALENT or told.startswith("inconclusive by design")
