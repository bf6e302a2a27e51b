"""What a neural tangent kernel will take, before it is computed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch
from torch import nn

from mlptheory.measures.convention import convention
from mlptheory.measures.ntk.contraction import CallsDifferError
from mlptheory.measures.ntk.cost import GIB
from mlptheory.measures.ntk.duration import seconds
from mlptheory.measures.ntk.empirical import CONVENTION, MEMORY_GIB, convention_of, prepared


@dataclass(frozen=True)
class NTKPlan:
    """What a kernel will take here, and how it will be computed.

    Attributes
    ----------
    shape : tuple of int
        (N1, N2), and (C, C) after it for all pairs of outputs.
    chunk : int
        Examples a block.
    peak_gib : float
        All that is allocated at the peak, the kernel and the copy of the model included.
    kernel_gib : float
        The kernel alone.
    seconds : float
        Predicted from timing small blocks.
    structured : tuple of str
        Parameters whose part is computed from Gram matrices of their layers.
    fallback : tuple of str
        Parameters whose part is computed from the gradients of single examples.
    convention : str
    """

    shape: tuple[int, ...]
    chunk: int
    peak_gib: float
    kernel_gib: float
    seconds: float
    structured: tuple[str, ...]
    fallback: tuple[str, ...]
    convention: str


@convention(CONVENTION + "; memory in GiB (2^30 bytes), the peak of all that is allocated; seconds on this machine")
def plan_ntk(
    model: nn.Module,
    x1: torch.Tensor,
    x2: torch.Tensor | None = None,
    outputs: str = "full",
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    memory_gib: float = MEMORY_GIB,
) -> NTKPlan:
    """Return the memory and the time that `empirical_ntk` would take with the same arguments.

    Memory follows from the shapes in a pass of two examples, time from timing passes of up to 64 examples and small
    matrix products; no kernel is computed.

    Returns
    -------
    NTKPlan

    Raises
    ------
    InputError
        As `empirical_ntk`.

    Examples
    --------
    >>> plan = plan_ntk(nn.Linear(3, 2), torch.ones(1000, 3), outputs="trace")
    >>> plan.shape, plan.structured, plan.fallback
    ((1000, 1000), ('weight', 'bias'), ())
    """
    arguments = model, x1, x2, outputs, chunk, dtype, memory_gib
    for structured in (True, False):
        with contextlib.suppress(CallsDifferError):
            return _plan(arguments, structured)
    raise AssertionError("a pass without structure fits every model")


def _plan(arguments: tuple, structured: bool) -> NTKPlan:
    with prepared(*arguments, structured):
        # The first time something is loaded that the kernel would not wait for.
        pass
    began = time.perf_counter()
    with prepared(*arguments, structured) as work:
        preparing = time.perf_counter() - began
        n, m = work.shape
        entries = (work.classes, work.classes) if work.outputs == "full" else ()
        symmetric = work.x2 is None
        parts = work.model, work.structure, work.jacobian, work.x1, work.needs, work.pairs(), symmetric
        return NTKPlan(
            shape=(n, m, *entries),
            chunk=work.chunk,
            peak_gib=work.needs.peak(n, m, work.chunk, symmetric) / GIB,
            kernel_gib=n * m * work.needs.result_per_pair / GIB,
            seconds=preparing + seconds(*parts),
            structured=tuple(name for piece in work.structure.pieces for name in piece.parameters),
            fallback=work.structure.rest,
            convention=convention_of(arguments[0], work.outputs),
        )
