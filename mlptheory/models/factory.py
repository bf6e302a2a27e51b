"""From a name to a model."""

from __future__ import annotations

import operator
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from mlptheory.base import invalid, unknown_name
from mlptheory.base.random import key, torch_generator
from mlptheory.models.config import ModelConfig
from mlptheory.models.names import RESNETS, models


def build(
    name: str,
    *,
    image_size: int | tuple[int, int],
    channels: int = 3,
    num_classes: int,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a model by name, initialized by the seed.

    Parameters
    ----------
    name : str
        "S-6/Wi-1024", "B-12/Wi-1024", "B-6/Wi-512/E-2", "MLP-2/Wi-200", "CNN-3/Wi-32", "Linear", "ResNet-18",
        "ResNet-152", or a registered name.
    image_size : int or (int, int)
        Height and width.
    channels : int
        Of the images.
    num_classes : int
        Number of logits.
    seed : int
        Of the initialization, and of nothing else; the global random state is left alone.
    **options
        Any other field of `ModelConfig`: norm, activation, dropout, skip, parametrization, output_scale,
        base_width, variant; norm is "batch" for ResNets, which have no other.

    Returns
    -------
    nn.Module
        float32, in training mode, on the current default device; takes (N, C, H, W) floats. On the meta device
        (``with torch.device("meta")``) it costs no memory and holds no numbers.

    Raises
    ------
    InputError
        For a malformed or unknown name, an unknown option, or a bad value.

    Examples
    --------
    >>> model = build("B-3/Wi-256", image_size=8, channels=1, num_classes=10)
    >>> model(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    allowed = [field.name for field in fields(ModelConfig) if field.name != "name"]
    for option in options:
        if option not in allowed:
            raise unknown_name("model option", option, allowed)
    own = {"norm": "batch"} if name in RESNETS else {}
    config = ModelConfig(name=name, **{**own, **options})
    return model_from_config(config, image_size=image_size, channels=channels, num_classes=num_classes, seed=seed)


def model_from_config(
    config: ModelConfig, *, image_size: int | tuple[int, int], channels: int, num_classes: int, seed: int
) -> nn.Module:
    """Build the model that a configuration describes.

    A builder from the registry is called as ``builder(parsed, config, input_shape, num_classes)``. If what it
    returns has a method ``initialize(generator)``, that draws the parameters; otherwise they are those drawn on
    construction, when the global generator is seeded and afterwards restored.

    Parameters
    ----------
    config : ModelConfig
        Name and options.
    image_size : int or (int, int)
        Height and width, in pixels.
    channels : int
        Of the images.
    num_classes : int
        Number of logits.
    seed : int
        Of the initialization.

    Returns
    -------
    nn.Module
        As `build` returns it: takes floats of shape (N, channels, H, W), gives logits of shape (N, num_classes).

    Raises
    ------
    InputError
        If a size is not an integer of at least 1, or the seed is not an integer.

    Examples
    --------
    >>> config = ModelConfig(name="S-2/Wi-16", norm="none")
    >>> model = model_from_config(config, image_size=(8, 6), channels=1, num_classes=10, seed=0)
    >>> model(torch.zeros(5, 1, 8, 6)).shape
    torch.Size([5, 10])
    """
    sizes = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sizes) != 2:
        raise invalid("image_size", image_size, "an integer, or a height and a width")
    input_shape = (_count("channels", channels), *(_count("image_size", size) for size in sizes))
    num_classes = _count("num_classes", num_classes)
    seed = _integer("seed", seed, "an integer")
    parsed = config.parsed
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(seed, "initialization") >> 1)
        model = models[parsed.family](parsed, config, input_shape, num_classes)
    if hasattr(model, "initialize"):
        model.initialize(torch_generator(seed, "initialization"))
    return model


def _count(argument: str, value: Any) -> int:
    allowed = "an integer of at least 1"
    number = _integer(argument, value, allowed)
    if number < 1:
        raise invalid(argument, value, allowed)
    return number


def _integer(argument: str, value: Any, allowed: str) -> int:
    """Take NumPy's integers too, but no booleans."""
    if isinstance(value, bool):
        raise invalid(argument, value, allowed)
    try:
        return operator.index(value)
    except TypeError:
        raise invalid(argument, value, allowed) from None


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained numbers, each shared parameter once.

    Parameters
    ----------
    model : nn.Module
        Any; on the meta device too.

    Returns
    -------
    int
        Elements of all parameters that require a gradient.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     count_parameters(build("B-12/Wi-1024", image_size=64, num_classes=11230))
    124843998
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
