"""What the built-in models share: the shape they take, seeded initialization, named intermediates."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from mlptheory.base import InputError, invalid
from mlptheory.base.random import torch_generator
from mlptheory.models.config import ModelConfig
from mlptheory.models.layers import NORMALIZATIONS, initialize_layer


class ImageModel(nn.Module, ABC):
    """A model of images that was built from a `ModelConfig`.

    Attributes
    ----------
    config : ModelConfig
        With the architecture's own choices written out.
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    width_ratio : float
        Width over base width, which muP depends on.
    first_layer : str or None
        Name of the one layer that sees the images; None where the family does not tell.

    Raises
    ------
    InputError
        If the configuration's name is of another family.
    """

    family: str
    first_layer: str | None = None

    def __init__(self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.config = config.resolved()
        self.parsed = config.parsed
        if self.parsed.family != self.family:
            raise invalid("model", config.name, f"a name of the family {self.family!r} for {type(self).__name__}")
        self.input_shape = tuple(input_shape)
        self.num_classes = num_classes
        self.width_ratio = 1.0 if self.parsed.width is None else self.parsed.width / config.base_width

    def initialize(self, generator: torch.Generator) -> None:
        """Draw all parameters, layer by layer in the order of the forward pass, weight before bias.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU; the only source of randomness.
        """
        for module in self.modules():
            if isinstance(module, NORMALIZATIONS):
                module.reset_parameters()
            elif hasattr(module, "rule"):
                initialize_layer(module, generator)

    def _initialize_from(self, seed: int | None) -> None:
        if seed is not None:
            self.initialize(torch_generator(seed, "initialization"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W)."""
        return self._run(x, None)

    def intermediates(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named activations of a forward pass, in order.

        Parameters
        ----------
        x : Tensor of shape (N, C, H, W)

        Returns
        -------
        dict of str to Tensor
            ``"embedding"`` (S-MLP and B-MLP) or ``"stem"`` (ResNets), ``"block0"``, ``"block1"``, ..., ``"pooled"``
            (CNNs and ResNets), ``"logits"``; the last equals the forward pass bit for bit.
        """
        record: dict[str, torch.Tensor] = {}
        self._run(x, record)
        return record

    @abstractmethod
    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        """Return the logits; write the named intermediates into `record` where there is one."""

    def _scale_logits(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.config.output_scale == 1 else logits * self.config.output_scale

    def _check_input(self, x: torch.Tensor) -> None:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.input_shape:
            channels, height, width = self.input_shape
            raise InputError(
                f"input of shape {tuple(x.shape)}: {self.config.name} was built for (N, {channels}, {height}, {width})"
            )
        if not x.is_floating_point():
            raise InputError(f"input of dtype {x.dtype}: {self.config.name} takes floating-point images")
