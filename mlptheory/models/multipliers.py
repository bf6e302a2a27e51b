"""Learning-rate multipliers, parameter by parameter, that a parametrization prescribes."""

from __future__ import annotations

from torch import nn

from mlptheory.models.layers import NORMALIZATIONS
from mlptheory.models.module import ImageModel
from mlptheory.models.parametrization import optimizer_column


def lr_multipliers(model: nn.Module, optimizer: str) -> dict[str, float]:
    """Return the factor by which each parameter's learning rate differs from the run's.

    All are 1 under the standard and NTK parametrizations and for models that are not built in; under muP they are
    those of Yang et al. (2022), Table 8, relative to the base width (see `mlptheory.models.parametrization`).
    Decoupled weight decay should shrink a parameter by the run's lr x decay, not by the multiplied lr's, or it fades
    with the width.

    Parameters
    ----------
    model : nn.Module
    optimizer : str
        "sgd", "adamw" or "lion"; the last two share their multipliers, as both normalize each coordinate.

    Returns
    -------
    dict of str to float
        One entry per parameter, by name, in the order of ``model.named_parameters()``.

    Raises
    ------
    InputError
        For another optimizer.

    Examples
    --------
    >>> from mlptheory.models import build
    >>> model = build("B-1/Wi-64", image_size=8, num_classes=10, parametrization="mup", base_width=16)
    >>> multipliers = lr_multipliers(model, "lion")
    >>> multipliers["embedding.weight"], multipliers["blocks.0.expand.weight"], multipliers["head.weight"]
    (1.0, 0.25, 1.0)
    """
    column = optimizer_column(optimizer)
    multipliers = {name: 1.0 for name, _ in model.named_parameters()}
    if not isinstance(model, ImageModel):
        return multipliers
    of_norms = model.width_ratio if model.config.parametrization == "mup" and column == 0 else 1.0
    for path, module in model.named_modules():
        if isinstance(module, NORMALIZATIONS):
            factors = {"weight": of_norms, "bias": of_norms}
        elif hasattr(module, "rule"):
            factors = {"weight": module.rule.weight_lr[column], "bias": module.rule.bias_lr[column]}
        else:
            continue
        # A convolution before a normalization may have no bias.
        factors = {f"{path}.{name}": factor for name, factor in factors.items()}
        multipliers.update({name: factor for name, factor in factors.items() if name in multipliers})
    return multipliers
