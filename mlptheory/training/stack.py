"""The weights of several models of one architecture, stacked in one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn


class Stack:
    """One row of numbers for each member, and the views of it that are parameters.

    Attributes
    ----------
    names : list of str
        Of the parameters, in the order of the columns: those of one learning-rate multiplier stand together.
    groups : list of (slice, float)
        Columns that share a multiplier, and the multiplier.
    weights : Tensor of shape (M, P)
        Of M members with P weights each.
    parameters : dict of str to Tensor of shape (M, ...)
        Views of `weights`, ready for automatic differentiation.
    """

    def __init__(self, models: Sequence[nn.Module], multipliers: Mapping[str, float]) -> None:
        shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        distinct = list(dict.fromkeys(multipliers[name] for name in shapes))
        self.names = sorted(shapes, key=lambda name: distinct.index(multipliers[name]))
        self._shapes = {name: shapes[name] for name in self.names}
        self.groups, first = [], 0
        for multiplier in distinct:
            size = sum(shape.numel() for name, shape in shapes.items() if multipliers[name] == multiplier)
            self.groups.append((slice(first, first + size), multiplier))
            first += size
        like = next(models[0].parameters())
        self.weights = torch.empty(len(models), first, dtype=like.dtype, device=like.device)
        for row, model in zip(self.weights, models, strict=True):
            with torch.no_grad():
                self.write(row, dict(model.named_parameters()))
        self.parameters = {name: view.requires_grad_() for name, view in self.views(self.weights).items()}

    def views(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parameters, shape (..., *shape), that rows of shape (..., P) hold.

        Matrices lie in memory transposed, which is how the gradients of linear layers come.
        """
        views, first = {}, 0
        for name, shape in self._shapes.items():
            columns = rows.detach().narrow(-1, first, shape.numel())
            view = columns.unflatten(-1, shape[::-1]).mT if len(shape) == 2 else columns.unflatten(-1, shape)
            views[name] = view
            first += shape.numel()
        return views

    def write(self, rows: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> None:
        """Write parameters into rows."""
        views = self.views(rows)
        torch._foreach_copy_(list(views.values()), [parameters[name] for name in views])

    @torch.no_grad()
    def load_into(self, model: nn.Module, row: torch.Tensor) -> nn.Module:
        """Give a model the weights that one row holds."""
        views = self.views(row)
        for name, parameter in model.named_parameters():
            parameter.copy_(views[name])
        return model
