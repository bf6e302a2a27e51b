from dataclasses import dataclass

import pytest

from mlptheory.base import InputError
from mlptheory.probes import Comparison, Contrast
from mlptheory.training import Recipe

COMMON = {"source": "nobody", "held_fixed": ("epochs",), "scope": "digits", "statement": "A"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"weights": {"a": 1, "b": -2}}, "sum to 0, not to -1"),
        ({"weights": {"a": 0, "b": 0}}, "not all 0"),
        ({"weights": {"a": 1}}, "a weight for each of two arms or more"),
        ({"weights": (("a", 1), ("b", -1))}, "a weight for each of two arms or more"),
        ({"weights": {"a": 1, "b": "x"}}, r"Contrast\.weights\['b'\]"),
        ({"weights": {"a": 1, "b": -1}, "scale": 0}, r"Contrast\.scale"),
    ],
)
def test_a_contrast_refuses_what_is_none(parts, message):
    with pytest.raises(InputError, match=message):
        Contrast(id="x", margin=1, **COMMON, **parts)


def _probe(arms, contrasts):
    @dataclass(frozen=True, kw_only=True)
    class Made(Comparison):
        """Made here."""

        name = title = question = "made"

        def arms(self):
            return arms

        def contrasts(self):
            return contrasts

    return Made


def _contrast(**parts):
    return Contrast(**{"id": "x", "margin": 1, "weights": {"a": 1, "b": -1}, **COMMON, **parts})


TWO = {"a": Recipe(), "b": Recipe()}


@pytest.mark.parametrize(
    ("arms", "contrasts", "message"),
    [
        ({"a": Recipe()}, (_contrast(),), "two recipes or more, found 1"),
        ({"a": Recipe(), "b": {}}, (_contrast(),), r"arms\['b'\].*a Recipe"),
        (TWO, (), "expected one or more"),
        (TWO, (_contrast(), _contrast()), "an id of its own"),
        (TWO, (_contrast(weights={"a": 1, "bb": -1}),), r"arm = 'bb': unknown; did you mean 'b'"),
        (TWO, (_contrast(outcome="model"),), "outcome = 'model': unknown"),
        (TWO, (_contrast(direction="up"),), r"Claim\.direction = 'up'"),
        (TWO, (_contrast(margin=-1),), r"Claim\.margin = -1"),
        (TWO, (_contrast(bibtex_key="Keskar2107"),), "bibtex key = 'Keskar2107': unknown; did you mean 'Keskar2017'"),
        (TWO, (_contrast(outcome="test_acuracy"),), "outcome = 'test_acuracy': unknown; did you mean 'test_accuracy'"),
    ],
)
def test_a_comparison_refuses_arms_and_contrasts_that_do_not_fit(arms, contrasts, message):
    with pytest.raises(InputError, match=message):
        _probe(arms, contrasts)()


@pytest.mark.parametrize("seeds", [0, (), (1, 1), -1, True])
def test_seeds_are_checked(seeds):
    with pytest.raises(InputError, match="seeds"):
        _probe(TWO, (_contrast(),))(seeds=seeds)


def test_every_arm_is_trained_with_every_seed_whatever_its_own(widths):
    trials = widths.trials()
    assert [(dict(trial.labels)["arm"], trial.recipe.seed) for trial in trials] == [
        (arm, seed) for arm in ("narrow", "middle", "wide") for seed in range(4)
    ]
    for trial in trials:
        arm = widths.arms()[dict(trial.labels)["arm"]]
        assert {**trial.recipe.to_plain(), "seed": 0} == {**arm.to_plain(), "seed": 0}
    bank = widths.bank_trials(3)
    assert {trial.recipe.model.name for trial in bank} == {"B-1/Wi-4"}
    assert not {trial.recipe.seed for trial in bank} & {trial.recipe.seed for trial in trials}


def test_claims_say_what_is_compared(widths):
    claims = {claim.id: claim for claim in widths.claims()}
    assert claims["curved"].estimand.startswith("0.5 narrow − middle + 0.5 wide, test accuracy")
    assert "outside Holm's family" in claims["curved"].test and "Holm" not in claims["surer"].test
    assert claims["surer"].direction == "less" and claims["surer"].unit == "nats"
    assert widths.references() == ("Chen2023", "Alpaydin1998", "Pedregosa2011", "Paszke2019", "mlptheory")
