"""Batch normalization over a logical batch that several processes hold parts of, on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlptheory.training.parallel import World


def has_batch_normalization(model: nn.Module) -> bool:
    """Tell whether a row of a model's outputs depends on the other rows of its batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@contextlib.contextmanager
def synchronized(model: nn.Module, world: World) -> Iterator[None]:
    """Let a model's batch normalizations see the rows of all processes meanwhile.

    Mean, variance, running statistics and gradients are those of the whole batch. Every process must take part in
    every pass, those without rows too. Copies that are made of the model at other times know nothing of it.

    Parameters
    ----------
    model : nn.Module
    world : World
    """
    layers = [each for each in model.modules() if isinstance(each, _BatchNorm)] if world.size > 1 else []
    for layer in layers:
        layer.forward = partial(_normalize, layer, world)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalize(layer: _BatchNorm, world: World, x: torch.Tensor) -> torch.Tensor:
    if not layer.training and layer.running_mean is not None:
        return type(layer).forward(layer, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    # Two passes, as the difference of two sums of squares would lose the variance of channels far from 0.
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    count = values.new_full((1,), values.numel() // values.shape[1])
    sums = _Sum.apply(torch.cat([values.sum(axes), count]), world)
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centered = values - mean.view(shape)
    variance = _Sum.apply(centered.square().sum(axes), world) / total
    _follow(layer, mean.detach(), variance.detach() * (total / (total - 1)))
    normalized = centered * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.weight is not None:
        normalized = normalized * layer.weight.view(shape) + layer.bias.view(shape)
    return normalized.to(x.dtype)


@torch.no_grad()
def _follow(layer: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Move the running statistics as torch does: by the unbiased variance, with the layer's momentum."""
    if not layer.training or layer.running_mean is None:
        return
    layer.num_batches_tracked += 1
    share = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
    for running, value in ((layer.running_mean, mean), (layer.running_var, variance)):
        running.mul_(1 - share).add_(value.to(running.dtype) * share)


class _Sum(torch.autograd.Function):
    """The sum over processes. Each one's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor, world: World) -> torch.Tensor:
        ctx.world = world
        return _summed(mine, world)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _summed(gradient, ctx.world), None


def _summed(mine: torch.Tensor, world: World) -> torch.Tensor:
    total = mine.clone(memory_format=torch.contiguous_format)
    world.add([total])
    return total
