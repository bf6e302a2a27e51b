"""A dense layer in bfloat16 whose backward pass multiplies what lies in order."""

from __future__ import annotations

import ctypes
import inspect
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from mlptheory.base.native import compiled

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


# torch asks for it in every call, and Python takes it apart anew each time.
_Linear.forward.__signature__ = inspect.signature(_Linear.forward)


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`x W^\top + b`, all in bfloat16, for inputs (N, m): on a CPU with a faster backward pass.

    The weight's gradient :math:`g^\top x` is taken of a transposed copy of g. torch multiplies the transposed view, of
    which oneDNN makes a copy of its own, more slowly than the product takes. The sums are rounded alike but in another
    order: less than one entry in 1,000 has another last bit.
    """
    return _Linear.apply(inputs, weight, bias)


def transposed(matrix: torch.Tensor) -> torch.Tensor:
    """Return the transpose of a matrix in bfloat16, in fresh memory."""
    found = matrix.new_empty(matrix.shape[::-1])
    library = _library()
    if library is not None and _is_plain(matrix):
        library.transpose(matrix.data_ptr(), found.data_ptr(), *matrix.shape, torch.get_num_threads())
        return found
    # Some columns at a time: rows of many numbers lie too far apart.
    for first in range(0, matrix.shape[1], _COLUMNS):
        columns = matrix[:, first : first + _COLUMNS].contiguous()
        found[first : first + _COLUMNS].copy_(columns.t())
    return found


def _is_plain(matrix: torch.Tensor) -> bool:
    """Whether an address says all of a matrix: nothing is to be differentiated, and none stands for several."""
    if torch.is_grad_enabled() or matrix.device.type != "cpu" or not matrix.is_contiguous():
        return False
    if matrix.dtype != torch.bfloat16 or matrix.is_neg():
        return False
    try:
        return matrix.data_ptr() != 0
    except RuntimeError:
        # Of a tensor under torch.func.vmap.
        return False


@cache
def _library() -> ctypes.CDLL | None:
    library = compiled(Path(__file__).with_name("transposition.c"))
    if library is not None:
        pointers, sizes = [ctypes.c_void_p] * 2, [ctypes.c_ssize_t] * 2
        library.transpose.argtypes, library.transpose.restype = [*pointers, *sizes, ctypes.c_int], None
    return library
