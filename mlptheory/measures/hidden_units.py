r"""Hidden units of an MLP, whose order is arbitrary: which parts of which parameters belong to each.

A group is a set of units that have to be permuted together: the outputs of one layer of a chain, or the whole residual
stream. It is named after the first layer whose outputs they are: "embedding" for the stream of a B-MLP,
"blocks.0.expand" for what its first bottleneck is wide.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from mlptheory.base.errors import InputError, unknown_name
from mlptheory.measures.convention import convention
from mlptheory.measures.layer_weights import DENSE
from mlptheory.models import BMLP, MLP, SMLP, KeyedDropout

Groups = dict[str, list[tuple[str, int]]]
"""For each group, the names in the state dict and the axes that its units are the indices of."""

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.ELU, nn.SELU, nn.Softplus, nn.LeakyReLU),
    *(nn.Hardtanh, nn.ReLU6, nn.Dropout, KeyedDropout),
)


@convention(
    "new unit i is old unit permutation[i], in every parameter and running statistic that has the unit as an index"
)
def permute_hidden_units(model: nn.Module, permutations: Mapping[str, torch.Tensor]) -> nn.Module:
    r"""Return a copy of an MLP with its hidden units in another order: the same function, up to the order of summation.

    For units between two dense layers with weights :math:`W_1`, :math:`W_2` and a permutation matrix P,

    .. math:: W_1 \to P W_1, \quad b_1 \to P b_1, \quad W_2 \to W_2 P^\top, \quad (P z)_i = z_{\pi(i)}

    and scale, shift and running statistics of a normalization between them like :math:`b_1`. A residual stream is one
    such group for all blocks.

    Parameters
    ----------
    model : nn.Module
        S-MLP, B-MLP, MLP, or an nn.Sequential of dense layers, elementwise activations, dropout, LayerNorm and
        BatchNorm1d. Left as it is.
    permutations : mapping of str to Tensor of int64
        :math:`\pi` for the groups that change, by the name of the first layer whose outputs they are: "embedding",
        "blocks.0.linear" (S-MLP, MLP), "blocks.0.expand" (B-MLP), "0" (nn.Sequential).

    Returns
    -------
    nn.Module
        Of the same dtype, device and mode; nothing is shared with the model.

    Raises
    ------
    InputError
        If the model is none of these, a parameter is shared between layers, a name is unknown, or what is given for it
        is no permutation of its units.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> swapped = permute_hidden_units(model, {"0": torch.tensor([1, 0])})
    >>> torch.equal(swapped[0].weight, model[0].weight.flip(0)), torch.equal(swapped[2].weight, model[2].weight.flip(1))
    (True, True)
    """
    groups = hidden_groups(model)
    permuted = copy.deepcopy(model)
    state = permuted.state_dict()
    for group, permutation in permutations.items():
        if group not in groups:
            raise unknown_name("permutations", group, groups)
        units = group_size(state, groups[group])
        order = check_permutation(f"permutations[{group!r}]", permutation)
        if len(order) != units:
            raise InputError(f"permutations[{group!r}]: expected {units} entries, found {len(order)}")
        for name, axis in groups[group]:
            state[name].copy_(state[name].index_select(axis, order.to(state[name].device)))
    return permuted


def check_permutation(argument: str, permutation: torch.Tensor) -> torch.Tensor:
    """Return a permutation as int64, or raise if it is none.

    Raises
    ------
    InputError
        Unless each of 0 .. n - 1 is there once.
    """
    found = torch.as_tensor(permutation)
    counts = found.dim() == 1 and found.dtype in _INTEGERS
    if not counts or sorted(found.tolist()) != list(range(len(found))):
        raise InputError(f"{argument}: expected integers, each of 0 .. n - 1 once, found shape {tuple(found.shape)}")
    return found.long()


def hidden_groups(model: nn.Module) -> Groups:
    """Return what there is of each group, in the order of the forward pass.

    Raises
    ------
    InputError
        If the model's hidden units are not known, or it shares parameters between layers.
    """
    if isinstance(model, (SMLP, BMLP)):
        groups = _of_stream(model)
    elif isinstance(model, MLP):
        groups = _of_layers(model)
    elif is_chain(model):
        groups = _of_sequential(model)
    else:
        raise InputError(
            f"model: the hidden units of {type(model).__name__} are not known; "
            "expected S-MLP, B-MLP, MLP or an nn.Sequential"
        )
    names: dict[torch.Tensor, str] = {}
    for name, value in itertools.chain(
        model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    ):
        if value in names:
            raise InputError(f"model: {names[value]} and {name} are one tensor; expected each layer to have its own")
        names[value] = name
    return {group: _present(model, group, members) for group, members in groups.items()}


def _present(model: nn.Module, group: str, members: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Leave out what a layer was built without."""
    state = model.state_dict()
    found = [(name, axis) for name, axis in members if _attribute(model, name) is not None]
    for name, axis in found:
        if name not in state:
            raise InputError(f"model.{name}: expected a parameter, found one that is computed from others")
        if state[name].shape[axis] != group_size(state, found):
            raise InputError(f"model.{name}: expected an index for each unit of {group!r}, found {state[name].shape}")
    return found


def _attribute(model: nn.Module, name: str) -> object:
    path, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(path), attribute, None)


def group_size(state: Mapping[str, torch.Tensor], members: list[tuple[str, int]]) -> int:
    """Return how many units a group has."""
    name, axis = members[0]
    return state[name].shape[axis]


def is_chain(module: nn.Module) -> bool:
    """Return whether a module does nothing but call its children one after another."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def leaves(model: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of each step, in the order of the forward pass; one that is used twice comes twice."""
    for name, child in model._modules.items():
        if is_chain(child):
            yield from leaves(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _of_stream(model: SMLP | BMLP) -> Groups:
    stream = "embedding"
    groups: Groups = {stream: _rows("embedding")}
    for index, block in enumerate(model.blocks):
        path = f"blocks.{index}"
        groups[stream] += _per_unit(f"{path}.norm")
        if isinstance(model, BMLP):
            groups[stream].append((f"{path}.expand.weight", 1))
            groups[f"{path}.expand"] = [*_rows(f"{path}.expand"), (f"{path}.contract.weight", 1)]
            last = f"{path}.contract"
        else:
            last = f"{path}.linear"
            groups[stream].append((f"{last}.weight", 1))
        if not block.skip:
            stream = last
        groups.setdefault(stream, []).extend(_rows(last))
    groups[stream].append(("head.weight", 1))
    return groups


def _of_layers(model: MLP) -> Groups:
    groups: Groups = {}
    last = len(model.blocks) - 1
    for index in range(len(model.blocks)):
        layer = f"blocks.{index}.linear"
        groups[layer] = _rows(layer)
        if index < last:
            groups[layer] += [*_per_unit(f"blocks.{index + 1}.norm"), (f"blocks.{index + 1}.linear.weight", 1)]
        else:
            groups[layer].append(("head.weight", 1))
    return groups


def _of_sequential(model: nn.Sequential) -> Groups:
    steps = list(leaves(model))
    dense = [index for index, (_, module) in enumerate(steps) if isinstance(module, DENSE)]
    if not dense:
        raise InputError("model: expected at least one dense layer, found none")
    groups: Groups = {}
    for first, second in itertools.pairwise(dense):
        group = steps[first][0]
        groups[group] = _rows(group)
        for name, module in steps[first + 1 : second]:
            if _is_per_unit(module):
                groups[group] += _per_unit(name)
            elif not isinstance(module, _ELEMENTWISE):
                raise InputError(
                    f"model.{name}: {type(module).__name__} may mix units or tell them apart; expected dense layers, "
                    "elementwise activations, dropout, LayerNorm and BatchNorm1d"
                )
        groups[group].append((f"{steps[second][0]}.weight", 1))
    return groups


def _is_per_unit(module: nn.Module) -> bool:
    of_vectors = isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1
    return of_vectors or isinstance(module, nn.BatchNorm1d)


def _rows(layer: str) -> list[tuple[str, int]]:
    return [(f"{layer}.weight", 0), (f"{layer}.bias", 0)]


def _per_unit(norm: str) -> list[tuple[str, int]]:
    return [(f"{norm}.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")]
