"""The control with locality and weight sharing: a small convolutional net."""

from __future__ import annotations

import torch
from torch import nn

from mlptheory.models.config import ModelConfig
from mlptheory.models.dropout import KeyedDropout
from mlptheory.models.layers import activation, channel_norm, convolution, dense
from mlptheory.models.module import ImageModel
from mlptheory.models.names import ParsedName


class _ConvolutionBlock(nn.Module):
    """sigma(norm(K * z + b)), whole channels dropped out."""

    def __init__(self, convolution: nn.Module, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = channel_norm(config.norm, channels)
        self.activation = activation(config.activation)
        self.dropout = KeyedDropout(config.dropout, channels) if config.dropout else nn.Identity()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.activation(self.norm(self.convolution(z))))


class CNN(ImageModel):
    """Blocks of a 3x3 convolution, GroupNorm and GELU, then global average pooling and a linear head.

    Block i (from 0) has width x 2^i channels; every block but the first halves the image with stride 2 (rounding
    up, so images of any size will do). GroupNorm has up to 8 equal groups.

    Parameters
    ----------
    config : ModelConfig
        Of the family "CNN".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> model = CNN(ModelConfig(name="CNN-3/Wi-32"), (1, 8, 8), 10, seed=0)
    >>> [tuple(z.shape) for z in model.intermediates(torch.zeros(2, 1, 8, 8)).values()]
    [(2, 32, 8, 8), (2, 64, 4, 4), (2, 128, 2, 2), (2, 128), (2, 10)]
    """

    family = "CNN"
    first_layer = "blocks.0.convolution"

    def __init__(
        self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int, *, seed: int | None = 0
    ) -> None:
        super().__init__(config, input_shape, num_classes)
        parametrization, ratio = self.config.parametrization, self.width_ratio
        blocks, channels_in = [], self.input_shape[0]
        for index in range(self.parsed.depth):
            channels = self.parsed.width * 2**index
            stride, role = (1, "input") if index == 0 else (2, "hidden")
            layer = convolution(channels_in, channels, stride, role, parametrization, ratio)
            blocks.append(_ConvolutionBlock(layer, channels, self.config))
            channels_in = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = dense(channels_in, num_classes, "output", parametrization, ratio)
        self._initialize_from(seed)

    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        self._check_input(x)
        z = x
        for index, block in enumerate(self.blocks):
            z = block(z)
            if record is not None:
                record[f"block{index}"] = z
        pooled = z.mean(dim=(2, 3))
        logits = self._scale_logits(self.head(pooled))
        if record is not None:
            record.update(pooled=pooled, logits=logits)
        return logits


def build_cnn(parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> CNN:
    """Build a CNN whose parameters are not drawn yet."""
    return CNN(config, input_shape, num_classes, seed=None)
