"""Which parameters' gradients the calls of layers explain, and which have to be taken one example at a time.

A rule is believed only where the parameter acts through calls of its layer and by no other way, as autograd's graph
shows for every pass, where the layer has the examples along its first axis in their order, and where the rule gives
autograd's gradient. A weight that is also used beside its layer, a layer on tokens, or on examples that are sorted
first, all send the parameters in question to the fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from mlptheory.base.random import torch_generator
from mlptheory.measures.evaluation_copy import trained_parameters
from mlptheory.measures.ntk.capture import Pass

EXAMPLES = 4
_DIRECTIONS = 4


@dataclass(frozen=True)
class Piece:
    """One parameter, or a weight with its bias, and the calls that its gradient is a sum over.

    Attributes
    ----------
    layer : str
        Name of the module that owns the parameters.
    parameters : tuple of str
        Names; the bias, if there are two, is the second.
    uses : tuple of (int, str)
        Index of the call, and "weight" or "bias": what the first parameter is there. None: it is left to the fallback.
    outer : bool
        Whether every use is as the weight of a dense layer or a convolution.
    """

    layer: str
    parameters: tuple[str, ...]
    uses: tuple[tuple[int, str], ...]
    outer: bool

    @property
    def has_bias(self) -> bool:
        """Whether a bias goes with the weight."""
        return len(self.parameters) == 2

    def left(self, watched: Pass) -> torch.Tensor:
        """Return the left factors of an outer piece, (N, P, fan-in), over all its calls."""
        parts = [watched.left(index) for index, _ in self.uses]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def right(self, watched: Pass, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Return the right factors of an outer piece, (N, P, fan-out), over all its calls."""
        parts = [watched.calls[index].rule.right(gradients[index]) for index, _ in self.uses]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def bias_scales(self, watched: Pass) -> torch.Tensor:
        """Return what the bias is multiplied by at each of the P positions of `left`."""
        scales = []
        for index, _ in self.uses:
            call = watched.calls[index]
            positions = call.rule.right(torch.empty(call.shape, device="meta")).shape[1]
            scales += [call.rule.bias_scale if self.has_bias else 0.0] * positions
        return watched.outputs.new_tensor(scales)

    def gradient(self, watched: Pass, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Return each example's gradient, (N, numel), flattened, the bias after the weight."""
        total, bias = None, None
        for index, role in self.uses:
            call = watched.calls[index]
            right = call.rule.right(gradients[index])
            part = (
                call.rule.weight_gradient(watched.left(index), right)
                if role == "weight"
                else call.rule.bias_gradient(right)
            )
            total = part if total is None else total + part
            if self.has_bias:
                part = call.rule.bias_gradient(right)
                bias = part if bias is None else bias + part
        return total if bias is None else torch.cat([total, bias], dim=1)

    def projected(self, watched: Pass, gradients: list[torch.Tensor], directions: torch.Tensor | None) -> torch.Tensor:
        """Return the first example's gradient, flattened; that of an outer piece's weight along some directions only.

        So a large weight's gradient is not formed.

        Parameters
        ----------
        watched : Pass
        gradients : list of Tensor
            At the outputs of the calls.
        directions : Tensor of shape (fan-in, k), or None
            For an outer piece.
        """
        if directions is None:
            return self.gradient(watched, gradients)[0]
        left, right = self.left(watched)[0], self.right(watched, gradients)[0]
        weight = torch.mm(right.T, torch.mm(left, directions))
        bias = [right.T @ self.bias_scales(watched)] if self.has_bias else []
        return torch.cat([weight.flatten(), *bias])


@dataclass(frozen=True)
class Structure:
    """How the gradient of a model's outputs is put together.

    Attributes
    ----------
    model : nn.Module
        The copy that is measured.
    calls : tuple of str
        The layers in the order they are called; a pass with another order has another structure.
    pieces : tuple of Piece
        Each trained parameter is in one, or in `rest`.
    rest : tuple of str
        Parameters without a rule that holds.
    """

    model: nn.Module
    calls: tuple[str, ...]
    pieces: tuple[Piece, ...]
    rest: tuple[str, ...]

    def fits(self, watched: Pass) -> bool:
        """Tell whether a pass called the same layers in the same order, and used their parameters in no other way."""
        return not self.pieces or (watched.layers == self.calls and watched.beside.isdisjoint(self._explained))

    @cached_property
    def _explained(self) -> frozenset[int]:
        return frozenset(id(self.model.get_parameter(name)) for piece in self.pieces for name in piece.parameters)


def structure_of(model: nn.Module, watched: Pass, alone: Pass) -> Structure:
    """Find the structure of a model's gradient.

    Parameters
    ----------
    model : nn.Module
        A copy for measuring.
    watched, alone : Pass
        Of a few examples, and of the last of them.
    """
    parameters = trained_parameters(model)
    pieces = _pieces(watched, parameters) if watched.layers == alone.layers else []
    beside = {name for name, parameter in parameters.items() if id(parameter) in watched.beside | alone.beside}
    wrong = beside | _wrongly_explained(watched, alone, pieces, parameters)
    kept = tuple(piece for piece in pieces if not wrong.intersection(piece.parameters))
    explained = {name for piece in kept for name in piece.parameters}
    rest = tuple(name for name in parameters if name not in explained)
    return Structure(model, watched.layers if kept else (), kept, rest)


def without_structure(model: nn.Module) -> Structure:
    """Return the structure that leaves all parameters to the fallback."""
    return Structure(model, (), (), tuple(trained_parameters(model)))


def _pieces(watched: Pass, parameters: dict[str, nn.Parameter]) -> list[Piece]:
    """Return what the calls say of every parameter that they name, right or wrong."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    uses: dict[str, list[tuple[int, str]]] = {}
    for index, call in enumerate(watched.calls):
        for role in ("weight", "bias"):
            name = names.get(id(call.rule.module._parameters.get(role)))
            if name is not None:
                uses.setdefault(name, []).append((index, role))
    outer = {
        name
        for name, used in uses.items()
        if all(role == "weight" and watched.calls[index].rule.outer for index, role in used)
    }
    pieces, done = [], set()
    for name in sorted(uses, key=lambda name: name not in outer):
        if name in done:
            continue
        used = uses[name]
        bias = _bias_of(name, used, uses, watched, names) if name in outer else None
        together = (name,) if bias is None else (name, bias)
        done.update(together)
        pieces.append(Piece(name.rpartition(".")[0], together, tuple(used), name in outer))
    return sorted(pieces, key=lambda piece: piece.uses[0][0])


def _bias_of(
    weight: str,
    used: list[tuple[int, str]],
    uses: dict[str, list[tuple[int, str]]],
    watched: Pass,
    names: dict[int, str],
) -> str | None:
    """Return the bias that is used in the same calls as a weight, and in no others."""
    biases = {names.get(id(watched.calls[index].rule.module._parameters.get("bias"))) for index, _ in used}
    bias = biases.pop() if len(biases) == 1 else None
    return bias if bias is not None and uses[bias] == [(index, "bias") for index, _ in used] else None


def _wrongly_explained(
    watched: Pass, alone: Pass, pieces: list[Piece], parameters: dict[str, nn.Parameter]
) -> set[str]:
    """Return the parameters whose gradient by the pieces is not that of autograd.

    Compared for the last example's outputs alone, weighted at random; and in the pass with the others its gradients at
    the layers have to be the same, and theirs none.
    """
    if not pieces or not alone.outputs.requires_grad:
        return set()
    draws = torch.randn(alone.outputs.shape[1], generator=torch_generator(0, "structure"), dtype=torch.float64)
    weights = draws.to(alone.outputs)[None]
    cotangent = torch.zeros_like(watched.outputs)
    cotangent[-1:] = weights
    gradients, among_others = alone.gradients(weights), watched.gradients(cotangent)
    tolerance = 1e-3 if weights.dtype == torch.float32 else 1e-9
    total = torch.stack([gradient.norm() for gradient in gradients]).norm() if gradients else weights.new_zeros(())
    # Where a gradient is a small difference of large numbers, rounding is to be seen beside what it was made of.
    leaking = {
        index
        for index, (one, several) in enumerate(zip(gradients, among_others, strict=True))
        if not (several[-1:] - one).norm() <= (slack := tolerance * one.norm() + tolerance**2 * total)
        or not several[:-1].norm() <= slack
    }
    wrong: set[str] = set()
    for piece in pieces:
        if leaking.intersection(index for index, _ in piece.uses):
            wrong.update(piece.parameters)
            continue
        members = [parameters[name] for name in piece.parameters]
        true = torch.autograd.grad(alone.outputs, members, weights, retain_graph=True, materialize_grads=True)
        directions = _directions(true[0]) if piece.outer else None
        found, expected = piece.projected(alone, gradients, directions), _projected(true, directions)
        if not (found - expected).norm() <= tolerance * expected.norm() + tolerance**2 * total:
            wrong.update(piece.parameters)
    return wrong


def _projected(gradients: Sequence[torch.Tensor], directions: torch.Tensor | None) -> torch.Tensor:
    """Return gradients of a piece's parameters as `Piece.projected` has them."""
    weight, *bias = gradients
    if directions is not None:
        weight = torch.mm(weight.flatten(1), directions)
    return torch.cat([weight.flatten(), *bias])


def _directions(weight: torch.Tensor) -> torch.Tensor:
    """Return random directions for the rows of a weight: no difference of two gradients is lost along all of them."""
    fan_in = weight[0].numel()
    draws = torch.randn(fan_in, _DIRECTIONS, generator=torch_generator(0, "directions"), dtype=torch.float64)
    return draws.to(weight)
