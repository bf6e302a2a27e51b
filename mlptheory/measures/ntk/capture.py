"""A forward pass of some examples, with all that the gradients of their outputs are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from mlptheory.base.errors import InputError
from mlptheory.measures.ntk.graph import leaves_beside
from mlptheory.measures.ntk.rules import Rule, rule_for


@dataclass(frozen=True)
class Call:
    """One call of a layer that has a rule.

    Attributes
    ----------
    layer : str
        The module's name in the model.
    rule : Rule
    inputs : Tensor of shape (N, ...)
        Detached.
    edge : GradientEdge
        Where the gradient at the output is found, even if the output is changed in place later on.
    source : GradientEdge or None
        Where the graph goes on from the input; None if the input does not hang on a parameter.
    shape : torch.Size
        Of the output.
    """

    layer: str
    rule: Rule
    inputs: torch.Tensor
    edge: GradientEdge
    source: GradientEdge | None
    shape: torch.Size


@dataclass(frozen=True)
class Pass:
    """A forward pass that was watched.

    Attributes
    ----------
    inputs : Tensor of shape (N, ...)
    outputs : Tensor of shape (N, C)
        On the graph.
    calls : tuple of Call
    beside : frozenset of int
        The id of each parameter that the outputs hang on also, or only, by another way than the calls.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    calls: tuple[Call, ...]
    beside: frozenset[int]
    _lefts: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers in the order they are called."""
        return tuple(call.layer for call in self.calls)

    def left(self, index: int) -> torch.Tensor:
        """Return the left factor of a call, computed once."""
        if index not in self._lefts:
            call = self.calls[index]
            self._lefts[index] = call.rule.left(call.inputs)
        return self._lefts[index]

    def gradients(self, cotangent: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradients of Σ cotangent · outputs at the outputs of all calls, in their order.

        Parameters
        ----------
        cotangent : Tensor of shape (N, C)
        """
        if not self.calls:
            return []
        found = torch.autograd.grad(
            self.outputs, [call.edge for call in self.calls], cotangent, retain_graph=True, allow_unused=True
        )
        # Calls that the outputs do not depend on have no gradient.
        return [
            self.outputs.new_zeros(call.shape) if gradient is None else gradient.detach()
            for call, gradient in zip(self.calls, found, strict=True)
        ]


def watched_pass(model: nn.Module, inputs: torch.Tensor, label: Callable[[int], str] = "example {}".format) -> Pass:
    """Run the model on examples and watch every call of a layer that has a rule.

    A call counts if it takes the examples along its first axis and its output depends on a parameter that is trained.

    Parameters
    ----------
    model : nn.Module
        A copy for measuring: parameters that require a gradient are those that are trained.
    inputs : Tensor of shape (N, ...)
        Left as they are, whatever the model does to its own.
    label : callable
        Takes an example's position to what an error calls it.

    Raises
    ------
    InputError
        If the outputs are not those of `checked_outputs`, or not finite, or depend on a parameter that requires a
        gradient and is none of the model's.
    """
    calls: list[Call] = []
    with _watching(model, len(inputs), calls):
        outputs = checked_outputs(model, inputs)
    if not (fine := torch.isfinite(outputs.detach()).all(dim=1)).all():
        raise InputError(f"model: the outputs of {label(int((~fine).nonzero()[0]))} are not finite")
    leaves = leaves_beside(outputs, [(call.edge, call.source) for call in calls])
    _refuse_foreign(model, leaves)
    return Pass(inputs, outputs, tuple(calls), frozenset(map(id, leaves)))


def checked_outputs(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the outputs of examples, of shape (N, C).

    Raises
    ------
    InputError
        If the outputs are not one tensor of shape (N, ...) in the precision of the model's parameters.
    """
    # A clone: a model may change its inputs in place, and the same examples are passed again.
    outputs = model(inputs.clone())
    if not isinstance(outputs, torch.Tensor) or outputs.dim() == 0 or len(outputs) != len(inputs):
        found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(f"model: expected outputs of shape ({len(inputs)}, ...), found {found}")
    expected = next(model.parameters()).dtype
    if outputs.dtype != expected:
        raise InputError(
            f"model: expected outputs in {expected}, in which all is computed, found {outputs.dtype}; "
            "a model that converts to another precision can be measured in that one, by dtype"
        )
    return outputs.reshape(len(inputs), -1)


def _refuse_foreign(model: nn.Module, leaves: list[torch.Tensor]) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    for leaf in leaves:
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            raise InputError(
                f"model: the outputs depend on a parameter of shape {tuple(leaf.shape)} that requires a gradient and "
                "is not registered in the model, or belongs to the original of a copy (a list of parameters, a "
                "lambda, a hook); expected it to be registered, or detached"
            )


@contextlib.contextmanager
def _watching(model: nn.Module, examples: int, calls: list[Call]) -> Iterator[None]:
    """Append what every call of a layer with a rule is given, and where its output's gradient is found."""

    def watch(layer: str, rule: Rule):
        def hook(module: nn.Module, arguments: tuple, output: torch.Tensor) -> None:
            tensors = (*arguments, output)
            if len(tensors) != 2 or not all(isinstance(value, torch.Tensor) and value.dim() for value in tensors):
                return
            if not len(arguments[0]) == len(output) == examples or not output.requires_grad:
                return
            (inputs,) = arguments
            source = get_gradient_edge(inputs) if inputs.requires_grad else None
            calls.append(Call(layer, rule, inputs.detach(), get_gradient_edge(output), source, output.shape))

        return hook

    # First in line: other hooks may change the output, which is then no longer the layer's own.
    handles = [
        module.register_forward_hook(watch(name, rule), prepend=True)
        for name, module in model.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        and (rule := rule_for(module)) is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
