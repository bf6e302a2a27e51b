"""The training losses against loops over examples and classes, in float64."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from mlptheory.training import Recipe, objective
from mlptheory.training.losses import example_losses

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS, PARTNERS = torch.tensor([0, 3, 1, 1, 2, 0]), torch.tensor([2, 3, 0, 1, 1, 3])
MIX = torch.tensor([0.1, 0.5, 0.9, 1.0, 0.0, 0.3], dtype=torch.float64)


def _by_hand(loss, row, label, smoothing):
    """Return one example's loss, class by class."""
    total, normalizer = 0.0, math.log(sum(math.exp(value) for value in row))
    for index, value in enumerate(row):
        target = (1 - smoothing) * (index == label) + smoothing / len(row)
        total += (value - target) ** 2 / 2 if loss == "squared_error" else -target * (value - normalizer)
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_each_example_has_its_loss_and_under_mixup_each_labels_share_of_it(loss, smoothing):
    recipe = Recipe(loss=loss, label_smoothing=smoothing)
    one, other = (
        np.array([_by_hand(loss, *pair, smoothing) for pair in zip(LOGITS.tolist(), labels.tolist(), strict=True)])
        for labels in (LABELS, PARTNERS)
    )
    plain = SimpleNamespace(targets=LABELS, partners=None, mix=None)
    mixed = SimpleNamespace(targets=LABELS, partners=PARTNERS, mix=MIX)
    rows = slice(1, 4)
    expected = MIX.numpy() * one + (1 - MIX.numpy()) * other
    np.testing.assert_allclose(example_losses(LOGITS, plain, recipe), one, rtol=1e-14)
    np.testing.assert_allclose(example_losses(LOGITS, mixed, recipe), expected, rtol=1e-14)
    np.testing.assert_allclose(example_losses(LOGITS[rows], mixed, recipe, rows), expected[rows], rtol=1e-14)
    np.testing.assert_allclose(objective(recipe)(LOGITS, LABELS), one.mean(), rtol=1e-14)
    np.testing.assert_allclose(objective(recipe, reduction="none")(LOGITS, LABELS), one, rtol=1e-14)


def test_the_gradient_of_the_squared_error_is_the_distance_from_the_mixed_label():
    recipe = Recipe(loss="squared_error", label_smoothing=0.2)
    logits = LOGITS.clone().requires_grad_()
    mixed = SimpleNamespace(targets=LABELS, partners=PARTNERS, mix=MIX)
    example_losses(logits, mixed, recipe).sum().backward()
    target = np.full((6, 4), 0.05)
    for example in range(6):
        target[example, LABELS[example]] += 0.8 * MIX[example].item()
        target[example, PARTNERS[example]] += 0.8 * (1 - MIX[example].item())
    np.testing.assert_allclose(logits.grad, LOGITS.numpy() - target, rtol=0, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_of_the_mixed_cross_entropy_is_that_of_its_definition(dtype, smoothing):
    # Shares are in float32, as a loader gives them, whatever the logits are in.
    shares = MIX.float()
    logits = LOGITS.to(dtype, copy=True).requires_grad_()
    exact = logits.detach().to(torch.float64, copy=True).requires_grad_()
    mixed = SimpleNamespace(targets=LABELS, partners=PARTNERS, mix=shares)
    losses = example_losses(logits, mixed, Recipe(label_smoothing=smoothing))
    of_label, of_partner = (
        torch.nn.functional.cross_entropy(exact, labels, label_smoothing=smoothing, reduction="none")
        for labels in (LABELS, PARTNERS)
    )
    expected = shares.double() * of_label + (1 - shares.double()) * of_partner
    losses.sum().backward()
    expected.sum().backward()
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_the_objective_can_be_taken_example_by_example(loss):
    mean = objective(Recipe(loss=loss))
    rows = vmap(grad(lambda row, label: mean(row[None], label[None])))(LOGITS, LABELS)
    whole = grad(mean)(LOGITS, LABELS)
    torch.testing.assert_close(rows / 6, whole, rtol=0, atol=1e-16)


def test_float32_logits_keep_their_type():
    assert objective(Recipe(loss="squared_error"))(LOGITS.float(), LABELS).dtype == torch.float32
