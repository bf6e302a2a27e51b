"""lion-pytorch's Lion, its operations in an order that spares the memory; every bit stays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lion_pytorch import Lion
from lion_pytorch.lion_pytorch import update_fn

from mlptheory.base.native import compiled
from mlptheory.training.copies import WeightCopies

BLOCK = 65_536
"""Numbers that are taken through all operations at a time on a CPU: few enough for a core's cache, enough for two."""


class BlockedLion(Lion):
    """Lion (Chen et al. 2023) as lion-pytorch computes it, bit for bit, for real numbers.

    lion-pytorch takes a whole parameter through one operation after another; on a CPU each goes through the memory.
    Here a number goes through all of them at once, in compiled code; without a compiler a block of a parameter does
    while it is in the cache. On other devices one operation serves all parameters (`torch._foreach_*`).

    Parameters
    ----------
    params, **options
        As lion-pytorch's.
    copies : WeightCopies, optional
        Copies of parameters in bfloat16, whose gradients stand for those of the parameters where they have some; they
        are written with the weights.
    """

    def __init__(self, params: Any, *, copies: WeightCopies | None = None, **options: Any) -> None:
        super().__init__(params, **options)
        self.copies = copies

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            gradients = {parameter: self._gradient(parameter) for parameter in group["params"]}
            gradients = {parameter: found for parameter, found in gradients.items() if found is not None}
            on_cpu = {parameter: found for parameter, found in gradients.items() if parameter.device.type == "cpu"}
            for parameter, gradient in on_cpu.items():
                self._step_alone(parameter, gradient, group)
            elsewhere = [parameter for parameter in gradients if parameter not in on_cpu]
            if elsewhere:
                self._step_together(elsewhere, [gradients[parameter] for parameter in elsewhere], group)
        return loss

    def _gradient(self, parameter: torch.Tensor) -> torch.Tensor | None:
        copy = None if self.copies is None else self.copies.of(parameter)
        return parameter.grad if copy is None or copy.grad is None else copy.grad

    def _mean(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        return state["exp_avg"]

    def _step_alone(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        mean, kept = self._mean(parameter), 1.0 - lr * decay
        if not (parameter.is_contiguous() and mean.is_contiguous()):
            update_fn(parameter, gradient.to(parameter.dtype), mean, lr, decay, beta1, beta2)
            return
        copy = None if self.copies is None else self.copies.of(parameter)
        gradient = gradient.contiguous()
        step = _step_at_once if _are_plain(parameter, mean, gradient, copy) and _is_compiled() else _step_in_blocks
        step(parameter, mean, gradient, copy, lr=lr, kept=kept, beta1=beta1, beta2=beta2)
        if copy is not None:
            self.copies.is_written(parameter)

    def _step_together(
        self, parameters: list[torch.Tensor], gradients: list[torch.Tensor], group: dict[str, Any]
    ) -> None:
        lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        means = [self._mean(parameter) for parameter in parameters]
        gradients = [each.to(mean.dtype) for each, mean in zip(gradients, means, strict=True)]
        if 1.0 - lr * decay != 1.0:
            torch._foreach_mul_(parameters, 1.0 - lr * decay)
        updates = torch._foreach_mul(means, beta1)
        torch._foreach_add_(updates, gradients, alpha=1.0 - beta1)
        torch._foreach_sign_(updates)
        torch._foreach_add_(parameters, updates, alpha=-lr)
        torch._foreach_mul_(means, beta2)
        torch._foreach_add_(means, gradients, alpha=1.0 - beta2)


def _step_in_blocks(
    parameter: torch.Tensor,
    mean: torch.Tensor,
    gradient: torch.Tensor,
    copy: torch.Tensor | None,
    *,
    lr: float,
    kept: float,
    beta1: float,
    beta2: float,
) -> None:
    """Update contiguous tensors, a block of each at a time; `kept` is what weight decay leaves."""
    arrays = [parameter, mean, gradient, *([] if copy is None else [copy])]
    size = min(BLOCK, parameter.numel())
    update, widened = parameter.new_empty(size), parameter.new_empty(size)
    for weights, means, gradients, *copied in zip(*(each.view(-1).split(BLOCK) for each in arrays), strict=True):
        n = len(weights)
        if gradients.dtype != weights.dtype:
            gradients = widened[:n].copy_(gradients)
        if kept != 1.0:
            weights.mul_(kept)
        direction = torch.mul(means, beta1, out=update[:n]).add_(gradients, alpha=1.0 - beta1).sgn_()
        weights.add_(direction, alpha=-lr)
        means.mul_(beta2).add_(gradients, alpha=1.0 - beta2)
        for each in copied:
            each.copy_(weights)


def _are_plain(parameter: torch.Tensor, mean: torch.Tensor, gradient: torch.Tensor, copy: torch.Tensor | None) -> bool:
    """Whether addresses say all of contiguous tensors: numbers in memory, of the kinds and as many as C takes them."""
    arrays = [parameter, mean, gradient, *([] if copy is None else [copy])]
    return (
        parameter.dtype == mean.dtype == torch.float32
        and gradient.dtype in (torch.float32, torch.bfloat16)
        and (copy is None or (copy.dtype == torch.bfloat16 and copy.is_contiguous()))
        and all(type(each) in (torch.Tensor, torch.nn.Parameter) for each in arrays)
        and all(each.shape == parameter.shape and each.device.type == "cpu" for each in arrays)
        and not any(each.is_neg() or each._is_zerotensor() for each in arrays)
    )


def _step_at_once(
    parameter: torch.Tensor,
    mean: torch.Tensor,
    gradient: torch.Tensor,
    copy: torch.Tensor | None,
    *,
    lr: float,
    kept: float,
    beta1: float,
    beta2: float,
) -> None:
    """Do what `_step_in_blocks` does to weights in float32, each number in one go."""
    _library().lion(
        parameter.data_ptr(),
        mean.data_ptr(),
        gradient.data_ptr(),
        gradient.dtype == torch.bfloat16,
        None if copy is None else copy.data_ptr(),
        parameter.numel(),
        *(lr, kept, beta1, 1.0 - beta1, beta2, 1.0 - beta2),
        torch.get_num_threads(),
    )
    # Autograd, and whoever keeps copies, know of a change by the version.
    torch.autograd.graph.increment_version([parameter, mean, *([] if copy is None else [copy])])


@cache
def _library() -> ctypes.CDLL | None:
    library = compiled(Path(__file__).with_suffix(".c"))
    if library is not None:
        pointers, numbers = [ctypes.c_void_p] * 3, [ctypes.c_float] * 6
        kind = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t]
        library.lion.argtypes, library.lion.restype = [*pointers, *kind, *numbers, ctypes.c_int], None
    return library


@cache
def _is_compiled() -> bool:
    """Whether there is compiled code and, on this processor, it rounds as torch does."""
    if _library() is None:
        return False
    n = 1_000
    # Whatever the default device is.
    grid = torch.arange(n, dtype=torch.float32, device="cpu")
    start = (torch.sin(grid), torch.cos(3 * grid) / 100, torch.sin(7 * grid) / 10, grid.to(torch.bfloat16))
    found = []
    for step in (_step_in_blocks, _step_at_once):
        arrays = [each.clone() for each in start]
        for gradient in (arrays[2], arrays[2].to(torch.bfloat16)):
            step(*arrays[:2], gradient, arrays[3], lr=1e-3, kept=1 - 1e-4, beta1=0.9, beta2=0.99)
        found.append(arrays)
    return all(torch.equal(one, other) for one, other in zip(*found, strict=True))
