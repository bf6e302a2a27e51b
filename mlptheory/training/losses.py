"""The training loss, and what counts as a hit, example by example."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mlptheory.data import Batch
from mlptheory.training.recipe import Recipe

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def example_losses(logits: torch.Tensor, batch: Batch, recipe: Recipe, rows: slice = slice(None)) -> torch.Tensor:
    """Return the training loss of each example, shape (B,); under MixUp λ · loss(y) + (1 - λ) · loss(partner's y).

    For cross-entropy that is the loss against the mixed target. For the squared error it exceeds that by
    λ (1 - λ) |y - y of the partner|² / 2, on which the gradient does not depend.
    """
    loss_of = objective(recipe, reduction="none")
    targets = batch.targets[rows]
    if batch.mix is None or batch.partners is None:
        return loss_of(logits, targets)
    mix, partners = batch.mix[rows], batch.partners[rows]
    if recipe.loss == "cross_entropy":
        return _MixedCrossEntropy.apply(logits, targets, partners, mix, recipe.label_smoothing)
    return mix * loss_of(logits, targets) + (1 - mix) * loss_of(logits, partners)


class _MixedCrossEntropy(torch.autograd.Function):
    """λ · loss(y) + (1 - λ) · loss(partner's y): one softmax, and one gradient, for both labels."""

    @staticmethod
    def forward(
        ctx,
        logits: torch.Tensor,
        targets: torch.Tensor,
        partners: torch.Tensor,
        mix: torch.Tensor,
        label_smoothing: float,
    ) -> torch.Tensor:
        logarithms = F.log_softmax(logits, dim=1)
        labels = torch.stack([targets, partners], dim=1)
        # Shared and smoothed in float64 if the logits are.
        mix = mix.to(torch.promote_types(mix.dtype, logarithms.dtype))
        shares = (1 - label_smoothing) * torch.stack([mix, 1 - mix], dim=1)
        ctx.save_for_backward(logarithms, labels, shares)
        ctx.label_smoothing = label_smoothing
        losses = -(shares * logarithms.gather(1, labels)).sum(dim=1)
        return losses - label_smoothing * logarithms.mean(dim=1) if label_smoothing else losses

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor):
        logarithms, labels, shares = ctx.saved_tensors
        gradient = gradient[:, None]
        found = logarithms.exp().mul_(gradient)
        if ctx.label_smoothing:
            found.sub_(gradient * (ctx.label_smoothing / logarithms.shape[1]))
        changes = (-gradient * shares).to(found.dtype)
        # One label after the other: where both are the same, a GPU would add them in any order.
        for label in (slice(0, 1), slice(1, 2)):
            found.scatter_add_(1, labels[:, label], changes[:, label])
        return found, None, None, None, None


def objective(recipe: Recipe, *, reduction: Literal["mean", "none"] = "mean") -> Objective:
    r"""Return the recipe's training objective of logits and labels, nothing mixed: what a curvature is taken of.

    With C classes and the smoothed label :math:`y = (1 - \alpha)\, \text{onehot} + \alpha / C`, an example's loss is

    .. math:: -\sum_{c=1}^C y_c \log \operatorname{softmax}(f)_c \quad \text{(cross-entropy, in nats)}
              \qquad \text{or} \qquad
              \frac12 \sum_{c=1}^C (f_c - y_c)^2 \quad \text{(squared error)}

    and the objective its mean over examples. The squared error's constants are those of Cohen et al. (2021, "Gradient
    descent on neural networks typically occurs at the edge of stability"): half the sum over classes.

    Parameters
    ----------
    recipe : Recipe
        Its `loss` and `label_smoothing` decide.
    reduction : {"mean", "none"}
        The mean over the examples, or each example's own.

    Returns
    -------
    callable
        From logits, shape (B, C), and labels, shape (B,), to a scalar or to shape (B,).

    Examples
    --------
    >>> from mlptheory.training import Recipe
    >>> loss = objective(Recipe(loss="squared_error", label_smoothing=0.0))
    >>> loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])).item()
    0.25
    """
    return partial(_LOSSES[recipe.loss], label_smoothing=recipe.label_smoothing, reduction=reduction)


def unsmoothed_losses(loss: str) -> Objective:
    """Return the loss of each example without smoothing, by which a model is evaluated."""
    return partial(_LOSSES[loss], reduction="none")


def squared_error(
    logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> torch.Tensor:
    """Return half the sum over classes of squared distances from a smoothed label; see `objective`."""
    spread = label_smoothing / logits.shape[1]
    # Not one_hot, which waits for the device and which vmap does not take.
    is_label = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    smoothed = (1 - label_smoothing) * is_label.to(logits.dtype) + spread
    losses = (logits - smoothed).square().sum(dim=1) / 2
    return losses if reduction == "none" else losses.mean()


_LOSSES = {"cross_entropy": F.cross_entropy, "squared_error": squared_error}


def hits(logits: torch.Tensor, batch: Batch, rows: slice = slice(None)) -> torch.Tensor:
    """Return 1 for each correct example, shape (B,), under MixUp each label weighing its share."""
    # The indices are those of argmax, which takes three times as long on a CPU.
    best = logits.max(dim=1).indices
    correct = (best == batch.targets[rows]).to(logits.dtype)
    if batch.mix is None or batch.partners is None:
        return correct
    mix = batch.mix[rows]
    return mix * correct + (1 - mix) * (best == batch.partners[rows]).to(logits.dtype)
