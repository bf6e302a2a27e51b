"""Which device, and which precision it has in hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from mlptheory.base.errors import invalid


def default_device() -> str:
    """Return "cuda" or "mps" where torch finds one, else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_bfloat16_hardware(device: str) -> bool:
    """Tell whether bfloat16 matrix products run in hardware there; emulated ones are slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision that "auto" stands for on a device; any other name is returned as it is.

    Examples
    --------
    >>> resolve_precision("float32", "cpu")
    'float32'
    """
    if precision != "auto":
        if precision == "float64" and torch.device(device).type == "mps":
            raise invalid("precision", precision, "float32 or bfloat16, as mps has no float64")
        return precision
    return "bfloat16" if has_bfloat16_hardware(device) else "float32"


def weight_dtype(precision: str) -> torch.dtype:
    """Return the dtype that weights and inputs have: float64 where asked, float32 otherwise."""
    return torch.float64 if precision == "float64" else torch.float32


@contextlib.contextmanager
def autocast(precision: str, device: str) -> Iterator[None]:
    """Run matrix products in bfloat16 if `precision` says so; shield from a caller's own autocast otherwise.

    Casts are not cached: inside a caller's autocast the cache would outlive the step, and its weights grow stale.
    """
    enabled = precision == "bfloat16"
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
        yield
