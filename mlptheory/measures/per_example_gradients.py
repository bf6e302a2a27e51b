"""Gradients of single examples' losses: their squared norms, without forming them where a layer's rule allows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.measures.convention import convention, stamped
from mlptheory.measures.evaluation_copy import check_pairs, evaluation_copy
from mlptheory.measures.ntk.capture import Pass, watched_pass
from mlptheory.measures.ntk.contraction import CallsDifferError
from mlptheory.measures.ntk.jacobian import Jacobian
from mlptheory.measures.ntk.structure import Piece, Structure, structure_of, without_structure
from mlptheory.measures.ntk.witness import alone

PerExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_CHUNK_BYTES = 2**28
_EXAMPLES = 2
_CONVENTION = (
    "squared Euclidean norms of the gradients of single examples' losses, not divided by the number of examples "
    "(a mean loss's backward pass has them divided by N), summed over all parameters that require a gradient"
)


@convention(_CONVENTION)
def per_example_gradient_norms(
    model: nn.Module,
    loss_per_example: PerExampleLoss,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    by_layer: bool = False,
    dtype: torch.dtype | None = None,
) -> torch.Tensor | dict[str, torch.Tensor]:
    r"""Return :math:`|g_i|^2`, the squared norm of the gradient of each example's loss, exactly.

    .. math:: g_i = \nabla_\theta \ell(f_\theta(x_i), y_i), \quad
              |\nabla_W \ell_i|^2 = \sum_{p,q} (a_{ip} \cdot a_{iq})(\delta_{ip} \cdot \delta_{iq})

    The second is the Gram form for a weight with inputs :math:`a_{ip}` and gradients :math:`\delta_{ip}` at its
    outputs, at the positions p of an image or the calls of a weight that is used several times; with one position it
    is :math:`|a_i|^2 |\delta_i|^2` (Goodfellow 2015, "Efficient per-example gradient computations"). Gradients are
    formed where that takes fewer operations, for scales and shifts of normalizations, and, by ``torch.func.vmap``, for
    parameters that no layer's rule explains. Rules are held to autograd on two examples. The model is in evaluation
    mode. Nothing is divided by the number of examples.

    Parameters
    ----------
    model : nn.Module
        Handed back as it came: a copy is differentiated.
    loss_per_example : callable
        ``loss_per_example(outputs, targets)`` of shape (N,), one loss for each example.
    inputs : Tensor of shape (N, ...)
    targets : Tensor of shape (N, ...)
        As `loss_per_example` takes them.
    by_layer : bool
        Whether to tell the modules that own the parameters apart.
    dtype : torch.dtype, optional
        In which all is computed; float64 if None (float32 on a device without it).

    Returns
    -------
    Tensor of shape (N,), or dict of str to such
        On the model's device; the dict has the names of the modules, "" for the model itself. A parameter that is
        shared counts once, in the first module that has it.

    Raises
    ------
    InputError
        If no parameter requires a gradient; if inputs, outputs or losses are not finite; if losses do not have the
        shape (N,) or one depends on other examples.

    Examples
    --------
    The loss w·x has the gradient x:

    >>> def loss(outputs, targets):
    ...     return outputs[:, 0]
    >>> inputs = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> per_example_gradient_norms(nn.Linear(2, 1, bias=False), loss, inputs, torch.zeros(2)).tolist()
    [25.0, 1.0]
    """
    check_pairs(inputs, targets)
    with example_losses(model, loss_per_example, [(inputs, targets)], dtype) as losses:
        norms = gradient_moments(losses, groups=1).squared_norms
    if not by_layer:
        return stamped(torch.stack(list(norms.values())).sum(dim=0), _CONVENTION)
    return {layer: stamped(values, _CONVENTION) for layer, values in added_by_layer(norms).items()}


def added_by_layer(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the sums over the parameters of each module, given something for each parameter by its name."""
    sums: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        layer = name.rpartition(".")[0]
        sums[layer] = sums[layer] + value if layer in sums else value
    return sums


class ExampleLosses(nn.Module):
    """The losses of examples as the output of a module that takes their indices.

    So a loss is differentiated as a model's output is. Of several versions of the examples it is the mean loss.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_per_example: PerExampleLoss,
        versions: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        super().__init__()
        self.model = model
        self._loss, self._versions = loss_per_example, tuple(versions)
        self.indices = torch.arange(len(versions[0][0]), device=versions[0][0].device)

    def of_version(self, index: int) -> ExampleLosses:
        """Return the losses of one version of the examples."""
        return ExampleLosses(self.model, self._loss, self._versions[index : index + 1])

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the losses of the examples with these indices, of shape (N,)."""
        found = [self._losses(inputs[indices], targets[indices]) for inputs, targets in self._versions]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def _losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = self._loss(self.model(inputs), targets)
        if not isinstance(losses, torch.Tensor) or losses.shape != inputs.shape[:1]:
            found = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
            raise InputError(f"loss_per_example: expected a loss for each of {len(inputs)} examples, found {found}")
        return losses

    def refuse_infinite(self, indices: torch.Tensor) -> None:
        """Raise if one of these losses is not finite, naming its example."""
        with torch.no_grad():
            bad = ~torch.isfinite(self(indices))
        if bad.any():
            raise InputError(f"loss_per_example: the loss of example {int(indices[bad][0])} is not finite")


@contextlib.contextmanager
def example_losses(
    model: nn.Module,
    loss_per_example: PerExampleLoss,
    versions: Sequence[tuple[torch.Tensor, torch.Tensor]],
    dtype: torch.dtype | None,
) -> Iterator[ExampleLosses]:
    """Yield the losses as a module around a copy of the model, with copies of the (inputs, targets) on its device."""
    flat = [values for version in versions for values in version]
    with evaluation_copy(model, *flat, dtype=dtype) as (copied, *batches):
        yield ExampleLosses(copied, loss_per_example, list(zip(batches[::2], batches[1::2], strict=True)))


@dataclass(frozen=True)
class Moments:
    """Sums of per-example gradients.

    Attributes
    ----------
    squared_norms : dict of str to Tensor of shape (N,)
        |gᵢ|² for each parameter, by its name in the model.
    group_sums : list of dict of str to Tensor
        Σ gᵢ over each group of consecutive examples, flattened, for each parameter.
    """

    squared_norms: dict[str, torch.Tensor]
    group_sums: list[dict[str, torch.Tensor]]


def gradient_moments(losses: ExampleLosses, groups: int) -> Moments:
    """Return squared norms and sums of the gradients of single examples' losses.

    Parameters
    ----------
    losses : ExampleLosses
        Around a copy for measuring.
    groups : int
        Into how many groups of consecutive examples, as equal as can be, to cut the sums.
    """
    few = losses.indices[:_EXAMPLES]
    watched = _watched(losses, few)
    structure = structure_of(losses, watched, alone(losses, watched))
    per_example = _bytes_per_example(watched, structure, losses)
    del watched
    try:
        return _moments(losses, structure, groups, max(1, _CHUNK_BYTES // per_example))
    except CallsDifferError:
        size = sum(parameter.numel() * parameter.element_size() for parameter in losses.parameters())
        return _moments(losses, without_structure(losses), groups, max(1, _CHUNK_BYTES // size))


def _moments(losses: ExampleLosses, structure: Structure, groups: int, chunk: int) -> Moments:
    names = [name for name, parameter in losses.named_parameters() if parameter.requires_grad]
    parameters = [losses.get_parameter(name) for name in names]
    jacobian = Jacobian(losses, structure.rest, losses.indices)
    norms: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    sums = []
    for group in losses.indices.tensor_split(groups):
        total = [parameter.new_zeros(parameter.numel()) for parameter in parameters]
        for indices in group.split(chunk):
            watched = _watched(losses, indices)
            if not structure.fits(watched):
                raise CallsDifferError
            for name, values in _squared_norms(structure, jacobian, watched, indices).items():
                norms[name].append(values)
            for running, part in zip(total, _summed_gradient(watched, parameters), strict=True):
                running += part.reshape(-1)
            del watched
        sums.append({_own(name): part for name, part in zip(names, total, strict=True)})
    return Moments({_own(name): torch.cat(parts) for name, parts in norms.items()}, sums)


def _watched(losses: ExampleLosses, indices: torch.Tensor) -> Pass:
    try:
        return watched_pass(losses, indices)
    except InputError:
        losses.refuse_infinite(indices)
        raise


def _summed_gradient(watched: Pass, parameters: list[nn.Parameter]) -> Sequence[torch.Tensor]:
    if not watched.outputs.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    return torch.autograd.grad(watched.outputs.sum(), parameters, materialize_grads=True)


def _own(name: str) -> str:
    """Return a parameter's name in the model that the losses are of."""
    return name.removeprefix("model.")


def _squared_norms(
    structure: Structure, jacobian: Jacobian, watched: Pass, indices: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return |gᵢ|² of the examples of a pass, for each parameter."""
    ones = torch.ones_like(watched.outputs)
    gradients = watched.gradients(ones)
    found = {}
    for piece in structure.pieces:
        if not piece.outer:
            found[piece.parameters[0]] = piece.gradient(watched, gradients).square().sum(dim=1)
            continue
        found[piece.parameters[0]] = _outer_norms(piece.left(watched), piece.right(watched, gradients))
        if piece.has_bias:
            found[piece.parameters[1]] = _bias_norms(piece, watched, gradients)
    if structure.rest:
        rows = jacobian.rows(indices, ones).split(jacobian.sizes, dim=1)
        found.update((name, part.square().sum(dim=1)) for name, part in zip(structure.rest, rows, strict=True))
    return found


def _bias_norms(piece: Piece, watched: Pass, gradients: list[torch.Tensor]) -> torch.Tensor:
    total = 0.0
    for index, _ in piece.uses:
        rule = watched.calls[index].rule
        total = total + rule.bias_gradient(rule.right(gradients[index]))
    return total.square().sum(dim=1)


def _outer_norms(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return |Σₚ gₚ aₚᵀ|² of each example, from (N, P, fan-in) and (N, P, fan-out)."""
    if left.shape[1] == 1:
        return left[:, 0].square().sum(dim=1) * right[:, 0].square().sum(dim=1)
    if _gram_pays(left.shape[1], left.shape[2], right.shape[2]):
        return (torch.bmm(left, left.transpose(1, 2)) * torch.bmm(right, right.transpose(1, 2))).sum(dim=(1, 2))
    return torch.bmm(right.transpose(1, 2), left).square().sum(dim=(1, 2))


def _gram_pays(positions: int, fan_in: int, fan_out: int) -> bool:
    """Tell whether two Gram matrices of positions take fewer products than the gradient."""
    return positions * (fan_in + fan_out) <= fan_in * fan_out


def _bytes_per_example(watched: Pass, structure: Structure, losses: ExampleLosses) -> int:
    """Return roughly what an example adds to the memory of a chunk: its factors, and what is formed of them."""
    examples = len(watched.outputs)
    numbers = sum(watched.left(index).numel() + 2 * call.shape.numel() for index, call in enumerate(watched.calls))
    numbers += examples * sum(losses.get_parameter(name).numel() for name in structure.rest)
    formed = 0
    for piece in structure.pieces:
        if piece.outer and (positions := piece.left(watched).shape[1]) > 1:
            size = losses.get_parameter(piece.parameters[0]).numel()
            formed = max(formed, min(size, 2 * positions**2))
    return (numbers // examples + formed + 1) * watched.outputs.element_size()
