"""Weights in bfloat16, kept from step to step, where autocast would make them anew in each."""

from __future__ import annotations

import torch
from torch import nn

from mlptheory.models.layers import Dense


class WeightCopies:
    """The bfloat16 copies of a model's dense layers that its forward pass uses instead of the weights.

    Autocast casts every weight in the forward pass and every gradient of one in the backward pass. A copy that is a
    leaf of the graph has the same value and gets the same gradient, before its cast.

    Parameters
    ----------
    model : nn.Module
        Copied are weights and biases of its `Dense` layers that are trained and that no other layer has. Whoever
        changes a weight in place is noticed, whoever does it behind autograd's back (``weight.data``) is not.
    """

    def __init__(self, model: nn.Module) -> None:
        owners: dict[nn.Parameter, list[str]] = {}
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(prefix=path, recurse=False):
                owners.setdefault(parameter, []).append(name if type(module) is Dense else "")
        self._parameters = {
            names[0]: parameter
            for parameter, names in owners.items()
            if len(names) == 1 and names[0] and parameter.requires_grad and parameter.dtype == torch.float32
        }
        self._copies = {
            name: parameter.detach().to(torch.bfloat16).requires_grad_() for name, parameter in self._parameters.items()
        }
        self._names = {parameter: name for name, parameter in self._parameters.items()}
        self._versions = {name: parameter._version for name, parameter in self._parameters.items()}

    def of(self, parameter: torch.Tensor) -> torch.Tensor | None:
        """Return a parameter's copy, None if it has none."""
        name = self._names.get(parameter)
        return None if name is None else self._copies[name]

    def current(self) -> dict[str, torch.Tensor]:
        """Return the copies by the parameters' names, made anew where a parameter was changed."""
        changed = [name for name, parameter in self._parameters.items() if parameter._version != self._versions[name]]
        if changed:
            with torch.no_grad():
                torch._foreach_copy_(
                    [self._copies[name] for name in changed], [self._parameters[name] for name in changed]
                )
            self._versions.update({name: self._parameters[name]._version for name in changed})
        return self._copies

    def is_written(self, parameter: torch.Tensor) -> None:
        """Take a parameter's copy to be that of its present value."""
        self._versions[self._names[parameter]] = parameter._version

    def hand_over(self) -> None:
        """Add the copies' gradients to those of the parameters and forget them."""
        for name, parameter in self._parameters.items():
            gradient = self._copies[name].grad
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient.to(parameter.dtype)
            else:
                parameter.grad.add_(gradient)
            self._copies[name].grad = None

    def forget_gradients(self) -> None:
        """Leave the copies without gradients."""
        for copy in self._copies.values():
            copy.grad = None
