"""What the first layer looks for in an image: its weights, laid out as pictures."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid
from mlptheory.base.random import torch_generator
from mlptheory.measures.convention import convention, stamped
from mlptheory.measures.evaluation_copy import check_examples, evaluation_copy


@convention(
    "derivative of the first layer's outputs by the pixels, (units, C, H, W): weight rows times the layer's forward "
    "scale s_W, and through any fixed linear map before the layer; another tool may leave out the scale"
)
def first_layer_filters(
    model: nn.Module,
    image_shape: Sequence[int] | None = None,
    *,
    initial: nn.Module | Mapping[str, torch.Tensor] | None = None,
    permutation: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Return the first layer's filters as images, or by how much training has moved them.

    .. math:: F_{i,c,h,w} = \partial z_i / \partial x_{c,h,w}

    for the outputs z of the first layer with a matrix in the order of the forward pass, which has to be dense and to
    take all pixels: W(1) of Bachmann, Anagnostidis & Hofmann (2023), appendix C, reshaped to images. For S-MLP, B-MLP,
    MLP and softmax regression, F is W bit for bit under the standard parametrization, and :math:`s_W W` where there is
    a forward scale (NTK). A fixed order of the pixels inside the model, and a standardization of the channels, are in
    F, as it is taken by the pixels the model was given.

    Parameters
    ----------
    model : nn.Module
        Of images (N, C, H, W); of flat pixels as ``nn.Sequential(nn.Flatten(), model)``.
    image_shape : sequence of int, optional
        (C, H, W); not needed where the model has an `input_shape`.
    initial : nn.Module or mapping of str to Tensor, optional
        The model at its initialization, or its state dict: the result is then the difference F − F₀, of W − W₀.
    permutation : Tensor of int64, shape (C * H * W,), optional
        The one the model's images went through, as of :func:`mlptheory.data.pixel_permutation`: entry i of what the
        model saw is entry ``permutation[i]`` of the image. It is undone, so that filters are over the image's pixels.

    Returns
    -------
    Tensor of float64, shape (units, C, H, W)
        On the model's device; float32 on a device without float64.

    Raises
    ------
    InputError
        If the first layer with a matrix is not dense over all pixels (a convolution, patches), what comes before it is
        not linear in them (a LayerNorm), or an argument does not fit the model.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> filters = first_layer_filters(model, (3, 2, 2))
    >>> torch.equal(filters, model[1].weight.detach().double().reshape(5, 3, 2, 2))
    True
    >>> first_layer_filters(model, (3, 2, 2), initial=model).abs().max().item()
    0.0
    """
    shape = _image_shape(model, image_shape)
    filters = _filters(model, shape)
    if initial is not None:
        filters = filters - _initial_filters(model, initial, filters).to(filters.device)
    if permutation is not None:
        filters = _unpermuted(filters, permutation)
    return stamped(filters, first_layer_filters.convention)


@convention(
    "signed maximum over the color channels of each of the first units, not of their magnitudes; "
    "not rescaled, where a viewer may scale every filter by itself"
)
def filter_pictures(filters: torch.Tensor, units: int = 25) -> torch.Tensor:
    r"""Return the first filters as gray pictures, :math:`P_{i,h,w} = \max_c F_{i,c,h,w}`.

    As in Figures 10 and 11 of Bachmann, Anagnostidis & Hofmann (2023). A maximum over 3 channels of noise lies above
    zero on average: by 0.85 standard deviations if it is Gaussian, by 0.87 if it is uniform.

    Parameters
    ----------
    filters : Tensor of shape (m, C, H, W)
    units : int
        How many, at most: the first ones.

    Returns
    -------
    Tensor of shape (min(units, m), H, W)

    Raises
    ------
    InputError
        If the filters are not finite images in float32 or float64.

    Examples
    --------
    >>> filters = torch.tensor([[[[-2.0, 1.0]], [[-1.0, 0.0]]]])
    >>> filter_pictures(filters)
    tensor([[[-1.,  1.]]])
    """
    check_filters(filters)
    require_integer("units", units, 1)
    return stamped(filters.detach()[:units].amax(dim=1), filter_pictures.convention)


def check_filters(filters: torch.Tensor) -> None:
    """Raise unless these are finite images (units, C, H, W) in float32 or float64."""
    check_examples("filters", filters)
    if filters.dim() != 4:
        raise InputError(f"filters: expected shape (units, C, H, W), found {tuple(filters.shape)}")


def _image_shape(model: nn.Module, image_shape: Sequence[int] | None) -> tuple[int, int, int]:
    own = getattr(model, "input_shape", None)
    shape = own if image_shape is None else image_shape
    if shape is None:
        raise InputError("image_shape: required, as the model has no input_shape; expected (C, H, W)")
    shape = tuple(shape)
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise invalid("image_shape", shape, "three positive integers (C, H, W)")
    if own is not None and shape != tuple(own):
        raise invalid("image_shape", shape, f"{tuple(own)}, the model's input_shape, or nothing")
    return shape


def _filters(model: nn.Module, shape: tuple[int, int, int]) -> torch.Tensor:
    pixels = torch.randn((1, *shape), generator=torch_generator(0, "filters"), dtype=torch.float64)
    with evaluation_copy(model, torch.zeros_like(pixels), pixels) as (copied, zeros, pixels):
        at_zero, at_pixels = (_first_outputs(copied, x.requires_grad_()) for x in (zeros, pixels))
        units = torch.eye(at_zero.shape[1], dtype=at_zero.dtype, device=at_zero.device)
        (filters,) = torch.autograd.grad(at_zero[0], zeros, units, is_grads_batched=True)
        filters = filters[:, 0].detach()
        # One direction of chance is enough: a map that is not affine agrees with its derivative there almost never.
        along = filters.flatten(1) @ pixels.detach().flatten()
        found = (at_pixels - at_zero).detach()[0]
        scale = along.abs().max() + at_pixels.detach().abs().max()
    if (found - along).abs().max() > torch.finfo(found.dtype).eps ** 0.5 * scale:
        raise InputError(
            "model: what its first dense layer sees is not linear in the pixels, so its weights are no image filters"
        )
    return filters


class _FirstLayerRan(Exception):
    """Ends a forward pass as soon as the first layer has answered."""


def _first_outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what the first layer with a matrix gives for one image, shape (1, units)."""
    size = x.numel()
    entered: list[nn.Module] = []
    answers: list[torch.Tensor] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        if not entered:
            entered.append(module)
            seen = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], torch.Tensor) else None
            if seen != (1, size):
                raise InputError(
                    f"model: expected a first layer that is dense over all {size} pixels, "
                    f"found {type(module).__name__} on an input of shape {seen}"
                    " (a model of flat pixels is nn.Sequential(nn.Flatten(), model))"
                )

    def answer(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if module is entered[0]:
            answers.append(output)
            raise _FirstLayerRan

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Linear) or any(value.dim() > 1 for value in module.parameters(recurse=False)):
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(answer)]
    try:
        model(x)
    except _FirstLayerRan:
        pass
    except RuntimeError as error:
        raise InputError(
            f"image_shape = {tuple(x.shape[1:])}: the model does not take it: {_on_one_line(error)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not answers or answers[0].dim() != 2 or not answers[0].requires_grad:
        raise InputError("model: expected a dense first layer, differentiable by the pixels, found none")
    return answers[0]


def _initial_filters(
    model: nn.Module, initial: nn.Module | Mapping[str, torch.Tensor], now: torch.Tensor
) -> torch.Tensor:
    """Return the filters at the initialization, of the same shape as they are now."""
    if not isinstance(initial, nn.Module):
        state, initial = initial, copy.deepcopy(model)
        try:
            initial.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"initial: not a state dict of the model: {_on_one_line(error)}") from error
    filters = _filters(initial, _image_shape(initial, now.shape[1:]))
    if filters.shape != now.shape:
        raise InputError(f"initial: expected filters of shape {tuple(now.shape)}, found {tuple(filters.shape)}")
    return filters


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unpermuted(filters: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    size = math.prod(filters.shape[1:])
    permutation = torch.as_tensor(permutation, device=filters.device)
    if permutation.shape != (size,) or not torch.equal(
        permutation.sort().values, torch.arange(size, device=filters.device)
    ):
        raise InputError(f"permutation: expected each of 0 to {size - 1} once, in a tensor of shape ({size},)")
    undone = torch.empty_like(filters).flatten(1)
    undone[:, permutation] = filters.flatten(1)
    return undone.reshape(filters.shape)
