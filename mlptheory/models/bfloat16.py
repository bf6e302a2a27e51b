"""A dense layer in bfloat16 whose backward pass multiplies what lies in order."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_COLUMNS = 256


class _Linear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, weight, bias)

    @staticmethod
    def setup_context(ctx, arguments, output) -> None:
        inputs, weight, _ = arguments
        ctx.save_for_backward(inputs, weight)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        return (
            gradient @ weight if of_inputs else None,
            transposed(gradient) @ inputs if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`x W^\top + b`, all in bfloat16, for inputs (N, m): on a CPU with a faster backward pass.

    The weight's gradient :math:`g^\top x` is taken of a transposed copy of g. torch multiplies the transposed view, of
    which oneDNN makes a copy of its own, more slowly than the product takes. The sums are rounded alike but in another
    order: less than one entry in 1,000 has another last bit.
    """
    return _Linear.apply(inputs, weight, bias)


def transposed(matrix: torch.Tensor) -> torch.Tensor:
    """Return the transpose in fresh memory, some columns at a time: rows of many numbers lie too far apart."""
    found = matrix.new_empty(matrix.shape[::-1])
    for first in range(0, matrix.shape[1], _COLUMNS):
        columns = matrix[:, first : first + _COLUMNS].contiguous()
        found[first : first + _COLUMNS].copy_(columns.t())
    return found
