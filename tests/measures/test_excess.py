"""The excess loss against sums by hand."""

import math

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.measures import excess_loss


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (5, 3), (17, 10)])
def test_it_is_the_mean_kl_divergence(n, classes, twin):
    draw = np.random.default_rng(n)
    law = draw.dirichlet(np.ones(classes), size=n)
    logits = draw.normal(size=(n, classes)) * 3
    expected = 0.0
    for p, f in zip(law, logits, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in f))
        expected += sum(a * (math.log(a) - b + log_sum) for a, b in zip(p, f, strict=True)) / n
    twin("excess_loss", excess_loss(law, torch.from_numpy(logits)), expected, rtol=1e-12)
    # A constant added to all logits of an example changes nothing; the law itself has no excess.
    assert excess_loss(law, torch.from_numpy(logits + 7)) == pytest.approx(expected, rel=1e-12)
    assert excess_loss(law, torch.from_numpy(np.log(law))) == pytest.approx(0, abs=1e-14)


def test_a_class_that_cannot_be_costs_only_what_the_model_gives_it():
    law = np.array([[1.0, 0.0]])
    assert excess_loss(law, torch.tensor([[0.0, 0.0]])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("logits", [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2), torch.zeros(0, 2)])
def test_what_does_not_pair_up_is_refused(logits):
    with pytest.raises(InputError, match="logits of shape"):
        excess_loss(np.full((0 if not len(logits) else 2, 2), 0.5), logits)
