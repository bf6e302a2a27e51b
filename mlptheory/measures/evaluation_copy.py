"""A copy of a model to measure: whatever is done to it, the model itself and torch's state are left as they were."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import nn

from mlptheory.base.errors import InputError, invalid
from mlptheory.models import KeyedDropout

_DROPOUT = (nn.modules.dropout._DropoutNd, KeyedDropout)


@contextlib.contextmanager
def evaluation_copy(
    model: nn.Module, *batches: torch.Tensor, dtype: torch.dtype | None = None
) -> Iterator[tuple[nn.Module, *tuple[torch.Tensor, ...]]]:
    """Yield a copy of the model in evaluation mode, and copies of the batches on its device, to measure.

    All floating-point numbers are in `dtype`; float64, or float32 on a device without it, if None. Meanwhile gradients
    are recorded, a caller's autocast and reduced precisions are shielded off; random states are put back at the end.

    Raises
    ------
    InputError
        If `dtype` is not float32 or float64, or in training mode the model draws dropout or normalizes by the batch.
    """
    refuse_dependence_on_the_batch(model)
    device = device_of(model, *batches)
    if dtype is None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
    elif dtype not in (torch.float32, torch.float64):
        raise invalid("dtype", dtype, "torch.float32, torch.float64 or None")
    with exact_arithmetic(device):
        copied = copy.deepcopy(model).to(dtype).eval()
        copied.zero_grad(set_to_none=True)
        yield copied, *(_copied(batch, device, dtype) for batch in batches)


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Compute with gradients recorded, in full precision, whatever the caller chose; put everything back afterwards.

    Autocast and inference mode are off, and products of float32 matrices are in float32 where TF32 or bfloat16 may have
    been allowed. Random states are the same afterwards as before.
    """
    backends = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
    )
    before = [backend.fp32_precision for backend in backends]
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision


def device_of(model: nn.Module, *batches: torch.Tensor) -> torch.device:
    """Return the device of the model's first parameter; of the first batch if it has none."""
    return next((value.device for value in (*model.parameters(), *batches)), torch.device("cpu"))


def refuse_dependence_on_the_batch(model: nn.Module) -> None:
    """Raise where an output would depend on other examples or on chance: train-mode BatchNorm, or dropout."""
    for name, module in model.named_modules():
        where = f"model.{name}" if name else "model"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise InputError(
                f"{where}: {type(module).__name__} normalizes by the batch, so an output is no function of one "
                "example; expected a model in evaluation mode, model.eval(), with running statistics"
            )
        if isinstance(module, _DROPOUT) and module.training and module.p > 0:
            raise InputError(
                f"{where}: {type(module).__name__} drops at random in training mode; "
                "expected a model in evaluation mode, model.eval()"
            )


def check_examples(argument: str, examples: torch.Tensor) -> None:
    """Raise unless there is at least one example, in float32 or float64, and all numbers are finite.

    Parameters
    ----------
    argument : str
        As the user wrote it.
    examples : Tensor of shape (N, ...)

    Raises
    ------
    InputError
        Naming the first example that is not finite by its index.
    """
    if not isinstance(examples, torch.Tensor) or examples.dim() == 0 or not examples.numel():
        found = tuple(examples.shape) if isinstance(examples, torch.Tensor) else type(examples).__name__
        raise InputError(f"{argument}: expected a tensor of at least one example, found {found}")
    if examples.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{argument}: expected float32 or float64, found {examples.dtype}")
    if torch.isfinite(torch.stack(torch.aminmax(examples.detach()))).all():
        return
    bad = (~torch.isfinite(examples.detach())).flatten(1) if examples.dim() > 1 else ~torch.isfinite(examples)[:, None]
    raise InputError(f"{argument}: example {int(bad.any(dim=1).nonzero()[0])} is not finite")


def check_pairs(inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise unless the inputs are examples, and there is one target for each."""
    check_examples("inputs", inputs)
    if len(inputs) != len(targets):
        raise InputError(f"targets: expected one for each of {len(inputs)} inputs, found {len(targets)}")


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name; one that is shared counts once.

    Raises
    ------
    InputError
        If there is none.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise InputError("model: expected at least one parameter that requires a gradient")
    return found


def _copied(values: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return values.detach().to(device, dtype if values.is_floating_point() else values.dtype, copy=True)
