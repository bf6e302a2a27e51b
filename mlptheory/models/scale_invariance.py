"""Which parameters a normalization makes the scale of irrelevant."""

from __future__ import annotations

from torch import nn

from mlptheory.models.cnn import CNN
from mlptheory.models.mlp import BMLP, MLP, SMLP
from mlptheory.models.module import ImageModel


def scale_invariant_parameters(model: nn.Module) -> tuple[str, ...]:
    r"""Return the names of parameters whose scale the function does not depend on.

    A layer's weight and bias, both times :math:`a > 0`, leave the function as it is, up to the normalization's epsilon,
    where nothing but positively homogeneous maps (a ReLU, dropout) lies between the layer and a normalization of each
    example by itself:

    - S-MLP: the embedding, and with ReLU every block's matrix but the last; in the authors' variant also with GELU.
    - B-MLP: none, as its skips carry the scale on; without them the embedding and each W_c but the last.
    - MLP: with ReLU every hidden layer but the last.
    - CNN: every convolution.

    Each such layer is scale-invariant by itself, so all of them are jointly. Batch normalization has none here: as it
    is evaluated, its statistics are fixed numbers.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    tuple of str
        In the order of ``model.named_parameters()``; empty for models that are not built in.

    Examples
    --------
    >>> from mlptheory.models import build
    >>> scale_invariant_parameters(build("S-2/Wi-16", image_size=8, num_classes=10))
    ('embedding.weight', 'embedding.bias', 'blocks.0.linear.weight', 'blocks.0.linear.bias')
    """
    layers = _scale_invariant_layers(model) if isinstance(model, ImageModel) and model.config.norm == "layer" else []
    return tuple(name for name, _ in model.named_parameters() if name.rpartition(".")[0] in layers)


def _scale_invariant_layers(model: ImageModel) -> list[str]:
    if isinstance(model, CNN):
        return [f"blocks.{index}.convolution" for index in range(len(model.blocks))]
    if isinstance(model, MLP):
        homogeneous = model.config.activation == "relu"
        return [f"blocks.{index}.linear" for index in range(len(model.blocks) - 1) if homogeneous]
    if not isinstance(model, (SMLP, BMLP)) or model.config.skip or not len(model.blocks):
        return []
    before_norms = range(len(model.blocks) - 1)
    if isinstance(model, BMLP):
        return ["embedding", *(f"blocks.{index}.contract" for index in before_norms)]
    linear_last = model.config.variant == "authors"
    homogeneous = linear_last or model.config.activation == "relu"
    return ["embedding", *(f"blocks.{index}.linear" for index in before_norms if homogeneous)]
