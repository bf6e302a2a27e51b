"""Multiply-accumulates of a forward pass, counted as the paper counts them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Count the multiply-accumulates of one example's forward pass.

    Matrix products and convolutions count, biases, normalizations and activations do not: for a dense layer of n
    inputs and m outputs n·m, as in the paper's and fvcore's counts.

    Parameters
    ----------
    model : nn.Module
        Not changed; run once on zeros, in evaluation mode.
    input_shape : sequence of int
        (C, H, W) of one example.

    Returns
    -------
    int
        Half of the floating-point operations that torch counts for a batch of one.

    Examples
    --------
    >>> count_macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)), (3, 2, 2))
    70
    """
    parameter = next(model.parameters())
    example = torch.zeros((1, *input_shape), device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model(example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return counter.get_total_flops() // 2
