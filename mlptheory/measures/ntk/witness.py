"""A few examples of a batch run on their own: what the batch gives for them has to be the same.

So an output that depends on other examples, on chance or on earlier passes is found out, and so is a layer that has
the examples of a batch in another order than the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.base.random import torch_generator
from mlptheory.measures.evaluation_copy import trained_parameters
from mlptheory.measures.ntk.capture import Pass, watched_pass

_EXAMPLES = 3


def spread(n: int, most: int) -> list[int]:
    """Return at most so many positions among n, spread evenly and with both ends, from the last to the first.

    Examples
    --------
    >>> spread(10, 4), spread(2, 4), spread(1, 4)
    ([9, 6, 3, 0], [1, 0], [0])
    """
    return sorted({round(index * (n - 1) / max(1, most - 1)) for index in range(most)}, reverse=True)


@dataclass(frozen=True)
class Witness:
    """What a pass of a few examples gave.

    Attributes
    ----------
    positions : list of int
        Of these examples in the batch, in another order than there.
    outputs : Tensor of shape (k, C)
    inputs : tuple of Tensor of shape (k, ...)
        Of the calls.
    layers : tuple of str
        That were called.
    """

    positions: list[int]
    outputs: torch.Tensor
    inputs: tuple[torch.Tensor, ...]
    layers: tuple[str, ...]

    @classmethod
    def of(cls, watched: Pass, positions: list[int]) -> Witness:
        """Keep what a pass gave, without its graph."""
        inputs = tuple(call.inputs for call in watched.calls)
        return cls(positions, watched.outputs.detach(), inputs, watched.layers)

    def confirms(self, model: nn.Module, watched: Pass) -> bool:
        """Tell whether the layers of a pass had the examples in their order, each with the input it has here.

        Raises
        ------
        InputError
            If the outputs are not those that the same examples have here.
        """
        found = watched.outputs.detach()[self.positions]
        if found.shape != self.outputs.shape or not _agree(found, self.outputs):
            for position in self.positions:
                alone(model, watched, position)
        if self.layers != watched.layers:
            return False
        tolerance = 1e-3 if self.outputs.dtype == torch.float32 else 1e-9
        return all(
            bool((call.inputs[self.positions] - inputs).norm() <= tolerance * inputs.norm())
            for call, inputs in zip(watched.calls, self.inputs, strict=True)
        )


def witness(model: nn.Module, inputs: torch.Tensor, label: Callable[[int], str]) -> Witness:
    """Run the model on a few examples of a batch of several; never on all, who could depend on each other alike."""
    positions = spread(len(inputs), min(_EXAMPLES, len(inputs) - 1))
    return Witness.of(watched_pass(model, inputs[positions], lambda k: label(positions[k])), positions)


def alone(model: nn.Module, watched: Pass, position: int = -1) -> Pass:
    """Run the model on one example of a pass.

    Raises
    ------
    InputError
        If its outputs are not what they were in the pass.
    """
    one = watched_pass(model, watched.inputs[position, None])
    found, expected = watched.outputs[position, None].detach(), one.outputs.detach()
    same = found.shape == expected.shape and (_agree(found, expected) or _agree(found, expected, _terms(model, one)))
    if not same:
        raise InputError(
            "model: an example's outputs depend on the other examples, on chance or on earlier calls; "
            "expected a function of one example"
        )
    return one


def _agree(found: torch.Tensor, expected: torch.Tensor, scale: float = 0.0) -> bool:
    """Tell whether rows are the same but for rounding: their own, or that of numbers of a larger scale."""
    eps = torch.finfo(found.dtype).eps
    return bool((found - expected).norm() <= 1000 * eps * expected.norm() + 100 * eps * scale)


def _terms(model: nn.Module, one: Pass) -> float:
    """Return the scale of the numbers that an example's outputs are a sum of: Σ |θ| |∂f/∂θ| over the parameters.

    It does not shrink where they cancel.
    """
    if not one.outputs.requires_grad:
        return 0.0
    parameters = list(trained_parameters(model).values())
    weights = torch.randn(one.outputs.shape, generator=torch_generator(0, "terms"), dtype=torch.float64).to(one.outputs)
    gradients = torch.autograd.grad(one.outputs, parameters, weights, retain_graph=True, materialize_grads=True)
    return sum(
        float(value.detach().norm() * gradient.norm()) for value, gradient in zip(parameters, gradients, strict=True)
    )
