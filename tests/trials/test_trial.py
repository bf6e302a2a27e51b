"""A trial says what is computed, and refuses what cannot be."""

from __future__ import annotations

import pytest

from mlptheory.base.errors import InputError
from mlptheory.training import Observer, Recipe
from mlptheory.trials import Measurement, Trial

PLAIN = Trial(recipe=Recipe())
DISTANCE = Measurement(name="weight_distance")


def test_ancestors_come_before_their_children():
    grandparent = Trial(recipe=Recipe(seed=1))
    parent = Trial(recipe=Recipe(seed=2, start="parent"), parents=(grandparent,))
    pair = Trial(parents=(parent, grandparent), measures=(DISTANCE,))
    order = list(pair.with_ancestors())
    assert order[-1] == pair
    for trial in order:
        assert all(order.index(each) < order.index(trial) for each in trial.parents)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "expected a recipe, or parents and measures"),
        ({"parents": (PLAIN, PLAIN)}, "expected a recipe, or parents and measures"),
        ({"measures": (DISTANCE,)}, "expected a recipe, or parents and measures"),
        ({"parents": (PLAIN,), "measures": (DISTANCE,), "observers": (Observer(name="weights"),)}, "no recipe"),
        ({"recipe": Recipe(start="parent")}, "start = 'parent'"),
        (
            {
                "recipe": Recipe(start="parent"),
                "parents": (Trial(parents=(PLAIN, PLAIN), measures=(DISTANCE,)),),
            },
            "start = 'parent': expected a first parent that is trained",
        ),
    ],
)
def test_what_cannot_run_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Trial(**arguments)
