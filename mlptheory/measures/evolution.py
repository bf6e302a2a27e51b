"""How a kernel changes along a run: distance, velocity, alignment with the labels, rank and spectrum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid
from mlptheory.measures.convention import convention, stamped
from mlptheory.measures.kernel_matrix import is_positive, kernel_matrix
from mlptheory.measures.kernel_similarity import targets_of, unit_distance, unit_kernel, unit_label_alignment
from mlptheory.measures.spectra import effective_rank

_SPECTRUM = (
    "eigenvalues of the kernel as it is, not divided by N, outputs or width; of a full kernel those of the N C x N C "
    "matrix"
)
_VELOCITY = (
    "1 - cosine of successive kernels, divided by the time between them and by nothing else; the distance grows like "
    "the square of a small time, so that velocities compare at the same spacing only"
)
_EVOLUTION = (
    "distances are 1 - cosine of uncentered kernels, velocities those per unit of time; label alignment is the cosine "
    "between kernel and Y Yᵀ (y yᵀ for a full kernel), centered as asked; effective rank is exp of the entropy of "
    "the eigenvalues divided by their sum; eigenvalues are not divided by anything"
)


@convention(_SPECTRUM)
def kernel_spectrum(kernel: torch.Tensor) -> torch.Tensor:
    """Return all eigenvalues of a kernel, descending.

    Those of a positive semidefinite kernel that are 0 come out as rounding, of either sign, of the size N · eps of the
    kernel's dtype times the largest.

    Parameters
    ----------
    kernel : Tensor of shape (N, N) or (N, N, C, C)
        Symmetric; a full kernel is taken as an N C x N C matrix.

    Returns
    -------
    Tensor of shape (N,) or (N C,), float64

    Raises
    ------
    InputError
        If the kernel is not symmetric or not finite.

    Examples
    --------
    >>> kernel_spectrum(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    tensor([3., 1.], dtype=torch.float64)
    """
    return stamped(torch.linalg.eigvalsh(kernel_matrix("kernel", kernel)).flip(0), _SPECTRUM)


@convention(_VELOCITY)
def kernel_velocity(kernels: Iterable[torch.Tensor], times: Sequence[float]) -> torch.Tensor:
    r"""Return how fast a kernel changes, between each of its records and the next.

    .. math:: v_i = \frac{S(K_i, K_{i+1})}{t_{i+1} - t_i}

    with S the `kernel_distance`. Fort et al. (2020), "Deep learning versus kernel learning", as we read their velocity:
    the distance over a time that is short, but fixed. S is of second order in a small change of the kernel, so this has
    no limit but 0 as the time shortens: record at equal times, and state the spacing.

    Parameters
    ----------
    kernels : iterable of Tensor of shape (N, N) or (N, N, C, C)
        At least two, on the same examples; two at a time are held.
    times : sequence of float
        Of the kernels, increasing: epochs or steps.

    Returns
    -------
    Tensor of shape (T - 1,), float64

    Raises
    ------
    InputError
        If the times do not increase or are not as many as the kernels, a kernel is 0, not symmetric, not finite or of
        another shape.

    Examples
    --------
    >>> kernel_velocity([torch.eye(4), torch.ones(4, 4), torch.ones(4, 4)], [0.0, 2.0, 4.0])
    tensor([0.2500, 0.0000], dtype=torch.float64)
    """
    spacing = torch.tensor(_increasing(times, at_least=2)).diff()
    distances, last = [], None
    for _, _, unit in _records(kernels, len(times)):
        if last is not None:
            distances.append(unit_distance(last, unit))
        last = unit
    return stamped(torch.tensor(distances, dtype=torch.float64) / spacing, _VELOCITY)


@dataclass(frozen=True, eq=False)
class KernelEvolution:
    """What a kernel went through, in float64 on the CPU.

    Attributes
    ----------
    times : Tensor of shape (T,)
        As they were given.
    distance_from_first : Tensor of shape (T,)
        `kernel_distance` from the first kernel.
    velocity : Tensor of shape (T - 1,)
        `kernel_velocity` between each kernel and the next.
    label_alignment : Tensor of shape (T,)
        `label_alignment` of each.
    effective_rank : Tensor of shape (T,)
        `effective_rank` of each one's eigenvalues, without those that count as 0.
    top_eigenvalues : Tensor of shape (T, k)
        The largest, descending.
    convention : str
        What is divided by what.
    """

    times: torch.Tensor
    distance_from_first: torch.Tensor
    velocity: torch.Tensor
    label_alignment: torch.Tensor
    effective_rank: torch.Tensor
    top_eigenvalues: torch.Tensor
    convention: str


@convention(_EVOLUTION)
def kernel_evolution(
    kernels: Iterable[torch.Tensor],
    times: Sequence[float],
    labels: torch.Tensor,
    *,
    centered: bool = True,
    top: int = 10,
    rank_tolerance: float | None = None,
) -> KernelEvolution:
    r"""Return how a kernel changes along a run.

    Distance from the first and velocity as of `kernel_distance` and `kernel_velocity`; alignment as of
    `label_alignment`; effective rank :math:`\exp(-\sum_i p_i \ln p_i)`, :math:`p_i = \lambda_i / \sum_j \lambda_j`, and
    the largest of the eigenvalues λ. It costs an eigendecomposition of each kernel.

    Parameters
    ----------
    kernels : iterable of Tensor of shape (N, N) or (N, N, C, C)
        At least one, positive semidefinite, on the same examples; three at a time are held.
    times : sequence of float
        Of the kernels, increasing: epochs or steps.
    labels : Tensor
        Of the examples, as `label_alignment` takes them.
    centered : bool
        Of kernel and labels in the alignment; distances are never centered.
    top : int
        How many eigenvalues to keep, at most; all there are, if fewer.
    rank_tolerance : float, optional
        Eigenvalues count as 0 up to this times the largest; if None, up to the matrix's size times eps of the kernel's
        dtype. State it for a kernel whose entries are less precise than its dtype.

    Returns
    -------
    KernelEvolution

    Raises
    ------
    InputError
        As of the measures it is made of, and if an eigenvalue is negative by more than rounding.

    Examples
    --------
    A kernel that turns to the labels:

    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> same = (labels[:, None] == labels).double()
    >>> evolution = kernel_evolution([torch.eye(4).double(), same], [0.0, 1.0], labels, top=2)
    >>> evolution.label_alignment
    tensor([0.5774, 1.0000], dtype=torch.float64)
    >>> [round(rank, 6) for rank in evolution.effective_rank.tolist()]
    [4.0, 2.0]
    """
    require_integer("top", top, 1)
    moments = _increasing(times, at_least=1)
    from_first, distances, alignments, ranks, tops = [], [], [], [], []
    first = last = targets = None
    for name, kernel, unit in _records(kernels, len(moments)):
        if first is None or last is None or targets is None:
            first = last = unit
            targets = targets_of("labels", labels, kernel, centered=centered)
        from_first.append(unit_distance(first, unit))
        distances.append(unit_distance(last, unit))
        alignments.append(unit_label_alignment(unit_kernel(name, kernel, centered=True) if centered else unit, targets))
        values = kernel_spectrum(kernel)
        ranks.append(effective_rank(values[is_positive(name, values, kernel.dtype, rank_tolerance)]))
        tops.append(values[:top].cpu())
        last = unit
    when = torch.tensor(moments, dtype=torch.float64)
    return KernelEvolution(
        times=when,
        distance_from_first=torch.tensor(from_first, dtype=torch.float64),
        velocity=torch.tensor(distances[1:], dtype=torch.float64) / when.diff(),
        label_alignment=torch.tensor(alignments, dtype=torch.float64),
        effective_rank=torch.tensor(ranks, dtype=torch.float64),
        top_eigenvalues=torch.stack(tops),
        convention=_EVOLUTION,
    )


def _records(kernels: Iterable[torch.Tensor], count: int) -> Iterable[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield every kernel with its name in messages and as a unit matrix; as many as there are times, of one shape."""
    index, shape = -1, None
    for index, kernel in enumerate(kernels):
        name = f"kernels[{index}]"
        if index >= count:
            raise InputError(f"kernels: expected one for each of {count} times, found more")
        unit = unit_kernel(name, kernel)
        shape = shape or kernel.shape
        if kernel.shape != shape:
            raise InputError(f"{name}: expected shape {tuple(shape)} as of the first, found {tuple(kernel.shape)}")
        yield name, kernel, unit
    if index + 1 != count:
        raise InputError(f"kernels: expected one for each of {count} times, found {index + 1}")


def _increasing(times: Sequence[float], *, at_least: int) -> list[float]:
    found = [float(time) for time in times]
    if len(found) < at_least:
        raise InputError(f"times: expected at least {at_least}, found {len(found)}")
    if not all(map(math.isfinite, found)) or any(late <= early for early, late in itertools.pairwise(found)):
        raise invalid("times", found, "finite numbers, each larger than the one before")
    return found
