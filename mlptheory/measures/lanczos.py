"""The top of a symmetric matrix's spectrum from products alone: block Lanczos with full reorthogonalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TopEigenvalues:
    """What `top_eigenvalues` found.

    Attributes
    ----------
    values : Tensor of shape (k,)
        Descending, float64, on the CPU.
    residuals : Tensor of shape (k,)
        ‖H v - λ v‖ of each, from a product of its own.
    products : int
        Vectors that were multiplied.
    converged : bool
        Whether every residual is within the tolerance.
    """

    values: torch.Tensor
    residuals: torch.Tensor
    products: int
    converged: bool


def top_eigenvalues(product: Product, start: torch.Tensor, *, tolerance: float, max_products: int) -> TopEigenvalues:
    """Return the algebraically largest eigenvalues of a symmetric matrix H.

    A Krylov space is grown from k random vectors, a block at a time (so that an eigenvalue is found as often as it
    occurs, up to k times), until the k largest Ritz values have ‖H v - λ v‖ ≤ tolerance · max(|λ|, tolerance · ‖H‖),
    or the space is exhausted.

    Parameters
    ----------
    product : callable
        Takes rows of shape (b, P) to their products with H.
    start : Tensor of shape (k, P)
        Random rows, k ≤ P.
    tolerance : float
    max_products : int
        More vectors are not multiplied, but for the k of the residuals.
    """
    count, size = start.shape
    basis, block = start.new_empty((0, size)), _orthonormal_rows(start, start.new_empty((0, size)))
    projected = torch.empty((0, 0), dtype=torch.float64)
    while True:
        images = product(block)
        basis = torch.cat([basis, block])
        columns = basis @ images.T
        projected = _extended(projected, columns.double().cpu())
        if not torch.isfinite(projected).all():
            nan = torch.full((count,), torch.nan, dtype=torch.float64)
            return TopEigenvalues(nan, nan, len(basis), converged=False)
        remainder = images - columns.T @ basis
        ritz, coordinates = torch.linalg.eigh(projected)
        values, top = ritz[-count:].flip(0), coordinates[:, -count:].flip(1)
        allowed = tolerance * values.abs().clamp(min=tolerance * ritz.abs().max())
        estimated = (top[-len(block) :].T.to(remainder) @ remainder).norm(dim=1).double().cpu()
        block = _orthonormal_rows(remainder, basis, floor=float(ritz.abs().max()))[: size - len(basis)]
        if (estimated <= allowed).all() or not len(block) or len(basis) + len(block) > max_products:
            break
    vectors = top.T.to(basis) @ basis
    residuals = (product(vectors) - values.to(vectors)[:, None] * vectors).norm(dim=1).double().cpu()
    return TopEigenvalues(values, residuals, len(basis) + count, converged=bool((residuals <= allowed).all()))


def _extended(projected: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Border the symmetric matrix with its new last columns."""
    old, size = len(projected), len(columns)
    grown = projected.new_zeros((size, size))
    grown[:old, :old] = projected
    grown[:, old:] = columns
    grown[old:, :old] = columns[:old].T
    grown[old:, old:] = (columns[old:] + columns[old:].T) / 2
    return grown


def _orthonormal_rows(rows: torch.Tensor, basis: torch.Tensor, floor: float = 0.0) -> torch.Tensor:
    """Orthonormalize rows against a basis and each other; leave out those of nothing new but rounding."""
    epsilon = torch.finfo(rows.dtype).eps
    found = rows.new_empty((0, rows.shape[1]))
    for row in rows:
        # A second pass takes off what rounding left of the first; a third what normalizing a small remainder magnified.
        for _ in range(3):
            for others in (basis, found):
                row = row - (others @ row) @ others
            norm = row.norm()
            if norm <= 100 * epsilon * floor or norm == 0:
                break
            row, floor = row / norm, 0.0 if floor == 0 else floor / float(norm)
        else:
            found = torch.cat([found, row[None]])
    return found
