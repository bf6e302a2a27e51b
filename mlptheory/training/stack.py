"""The weights of several models of one architecture, stacked in one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Stack:
    """One row of numbers for each member, and the views of it that are parameters.

    Attributes
    ----------
    weights : Tensor of shape (M, P)
        Of M members with P weights each.
    parameters : dict of str to Tensor of shape (M, ...)
        Views of `weights`, ready for automatic differentiation.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        like = next(models[0].parameters())
        size = sum(shape.numel() for shape in self._shapes.values())
        self.weights = torch.empty(len(models), size, dtype=like.dtype, device=like.device)
        for row, model in zip(self.weights, models, strict=True):
            self._store(model, row)
        self.parameters = {name: view.requires_grad_() for name, view in self.views(self.weights).items()}

    @torch.no_grad()
    def _store(self, model: nn.Module, row: torch.Tensor) -> None:
        views = self.views(row)
        for name, parameter in model.named_parameters():
            views[name].copy_(parameter)

    def views(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parameters, shape (..., *shape), that rows of shape (..., P) hold.

        Matrices lie in memory transposed, which is how the gradients of linear layers come.
        """
        views, first = {}, 0
        for name, shape in self._shapes.items():
            columns = rows.detach().narrow(-1, first, shape.numel())
            if len(shape) == 2:
                views[name] = columns.view((*rows.shape[:-1], *shape[::-1])).mT
            else:
                views[name] = columns.view((*rows.shape[:-1], *shape))
            first += shape.numel()
        return views

    @torch.no_grad()
    def load_into(self, model: nn.Module, row: torch.Tensor) -> nn.Module:
        """Give a model the weights that one row holds."""
        views = self.views(row)
        for name, parameter in model.named_parameters():
            parameter.copy_(views[name])
        return model
