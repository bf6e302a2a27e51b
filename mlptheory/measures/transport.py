"""A pixel permutation moved into the weights: the same function of permuted images."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mlptheory.base.errors import InputError, invalid
from mlptheory.measures.convention import convention
from mlptheory.measures.hidden_units import DENSE, check_permutation, is_chain, leaves
from mlptheory.models.layers import ScaledConvolution
from mlptheory.models.module import ImageModel

_CONVOLUTIONS = (nn.modules.conv._ConvNd, ScaledConvolution)


@convention(
    "(P x)[i] = x[permutation[i]], images flattened in the order (C, H, W); a permutation of H·W numbers moves the "
    "pixels of every channel alike; the returned model computes model(x) from P x"
)
def transport_first_layer(model: nn.Module, permutation: torch.Tensor, *, layer: str | None = None) -> nn.Module:
    r"""Return a copy of a model that does with permuted images what the model does with the images.

    .. math:: f_P(P x) = f(x), \quad W_P = W P^\top, \quad (P x)_i = x_{\pi(i)}

    with W the weight of the first, dense layer: its columns are rearranged, none is changed, so outputs agree up to the
    order of summation, and a transport by the inverse permutation, ``permutation.argsort()``, gives back the model.
    Trained with the same steps on permuted images, the copy stays the transported model, for every optimizer that
    treats all coordinates alike and whose state is transported too (SGD, AdamW, Lion).

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    permutation : Tensor of int64, shape (C · H · W,) or, for a built-in model, (H · W,)
        :math:`\pi`: entry i of the permuted image is entry ``permutation[i]`` of the image, both flattened in the order
        (C, H, W); H · W entries do so within each channel.
    layer : str, optional
        Name of the dense layer, and of no other, that sees the flattened images. None finds it in S-MLP, B-MLP, MLP,
        Linear and nn.Sequential; other models do not tell.

    Returns
    -------
    nn.Module
        Of the same dtype, device and mode; nothing is shared with the model.

    Raises
    ------
    InputError
        If the first layer is a convolution or not to be found, its weight is used by another layer too, or the
        permutation is not one of its inputs or pixels.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    >>> model[1].weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> permutation = torch.tensor([2, 0, 1, 3])
    >>> transport_first_layer(model, permutation)[1].weight.data
    tensor([[3., 1., 2., 4.]])
    """
    name = _first_layer(model) if layer is None else layer
    first = dict(model.named_modules()).get(name)
    if first is None:
        raise invalid("layer", layer, "the name of a submodule")
    if isinstance(first, _CONVOLUTIONS):
        raise InputError(
            f"model.{name}: a convolution shares its weights among positions, so no weights of it see permuted pixels "
            "as its own see the pixels; expected a dense layer"
        )
    if not isinstance(first, DENSE) or not isinstance(first.weight, nn.Parameter):
        raise InputError(f"model.{name}: expected a dense layer with a weight of its own, found {type(first).__name__}")
    uses = [key for key, value in model.named_parameters(remove_duplicate=False) if value is first.weight]
    if len(uses) > 1:
        raise InputError(f"model: the first layer's weight is shared, as {' and '.join(uses)}; expected one of its own")
    columns = _columns(permutation, first.weight.shape[1], getattr(model, "input_shape", None))
    transported = copy.deepcopy(model)
    weight = transported.get_submodule(name).weight
    weight.data = weight.data[:, columns.to(weight.device)].contiguous()
    return transported


def _first_layer(model: nn.Module) -> str:
    if isinstance(model, ImageModel) and model.first_layer is not None:
        return model.first_layer
    if isinstance(model, DENSE):
        return ""
    if is_chain(model):
        for name, child in leaves(model):
            if not isinstance(child, (nn.Flatten, nn.Identity)):
                return name
    raise InputError(
        f"model: which layer of {type(model).__name__} sees the images cannot be told; expected S-MLP, B-MLP, MLP, "
        "Linear, an nn.Sequential, or layer = the name of that layer"
    )


def _columns(permutation: torch.Tensor, inputs: int, input_shape: tuple[int, ...] | None) -> torch.Tensor:
    """Return the permutation of all inputs of a layer."""
    found = check_permutation("permutation", permutation)
    pixels = input_shape[1] * input_shape[2] if input_shape else inputs
    if len(found) not in (inputs, pixels):
        of_pixels = f", or {pixels} for the pixels of every channel" if pixels < inputs else ""
        raise InputError(f"permutation: expected {inputs} entries{of_pixels}, found {len(found)}")
    channels = torch.arange(inputs // len(found), device=found.device)
    return (channels[:, None] * len(found) + found).flatten()
