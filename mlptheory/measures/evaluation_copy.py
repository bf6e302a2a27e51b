"""A copy of a model to differentiate: whatever is done to it, the model itself is left as it was found."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import nn

from mlptheory.base.errors import InputError, invalid


@contextlib.contextmanager
def evaluation_copy(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype | None
) -> Iterator[tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    """Yield a copy of the model in evaluation mode, with inputs and targets beside it, to take derivatives of.

    All floating-point numbers are in `dtype`; float64, or float32 on a device without it, if None. Meanwhile gradients
    are recorded, a caller's autocast is shielded off, and random states are put back afterwards.
    """
    device = next((parameter.device for parameter in model.parameters() if parameter.requires_grad), None)
    if device is None:
        raise InputError("model: expected at least one parameter that requires a gradient")
    if len(inputs) != len(targets) or not len(inputs):
        raise InputError(
            f"targets: expected one for each of {len(inputs)} inputs and at least one, found {len(targets)}"
        )
    if dtype is None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
    elif not dtype.is_floating_point:
        raise invalid("dtype", dtype, "a floating-point torch.dtype or None")
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield copy.deepcopy(model).to(dtype).eval(), _copied(inputs, device, dtype), _copied(targets, device, dtype)


def _copied(values: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return values.detach().to(device, dtype if values.is_floating_point() else values.dtype, copy=True)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name; one that is shared counts once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
