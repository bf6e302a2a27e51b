"""Gradients of single examples for any parameter of any module: the fallback where no rule holds."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.func import functional_call, grad, vmap


class Jacobian:
    """Rows of the Jacobian of a model's outputs in some of its parameters.

    By torch.func's vmap over examples; where the model does what vmap cannot follow, or vmap's row is not that of
    autograd, by one backward pass for each example.

    Parameters
    ----------
    model : nn.Module
        A copy for measuring.
    names : sequence of str
        The parameters, in the order of the columns.
    examples : Tensor of shape (N, ...)
        One of them is used to try vmap.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], examples: torch.Tensor) -> None:
        self.model = model
        self.names = names
        self._vectorized = bool(names) and self._can_vectorize(examples[:1])

    @property
    def sizes(self) -> list[int]:
        """Columns of each parameter."""
        return [self.model.get_parameter(name).numel() for name in self.names]

    def rows(self, inputs: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each example's Σ cotangent · outputs, of shape (N, columns).

        Parameters
        ----------
        inputs : Tensor of shape (N, ...)
        cotangent : Tensor of shape (N, C)
        """
        return (self._at_once if self._vectorized else self._one_by_one)(inputs, cotangent)

    def _at_once(self, inputs: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        chosen = {name: self.model.get_parameter(name).detach() for name in self.names}

        def weighted(parameters: dict[str, torch.Tensor], one: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return (functional_call(self.model, parameters, one[None].clone()).reshape(-1) * weights).sum()

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")
            found = vmap(grad(weighted), in_dims=(None, 0, 0))(chosen, inputs, cotangent)
        return torch.cat([found[name].flatten(1) for name in self.names], dim=1).detach()

    def _one_by_one(self, inputs: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        parameters = [self.model.get_parameter(name) for name in self.names]
        rows = []
        for one, weights in zip(inputs, cotangent, strict=True):
            outputs = self.model(one[None].clone()).reshape(-1)
            parts = (
                torch.autograd.grad(outputs @ weights, parameters, materialize_grads=True)
                if outputs.requires_grad
                else [torch.zeros_like(parameter) for parameter in parameters]
            )
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
        return torch.stack(rows)

    def _can_vectorize(self, example: torch.Tensor) -> bool:
        outputs = self.model(example.clone()).reshape(1, -1)
        weights = torch.linspace(-1, 1.5, outputs.shape[1]).to(outputs)[None]
        true = self._one_by_one(example, weights)
        try:
            found = self._at_once(example, weights)
        except Exception:  # Whatever vmap cannot follow; the model itself ran just now.
            return False
        tolerance = 1e-3 if outputs.dtype == torch.float32 else 1e-9
        return bool((found - true).norm() <= tolerance * true.norm())
