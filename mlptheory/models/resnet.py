r"""The convolutional baselines: ResNet-18 and ResNet-152 (He, Zhang, Ren & Sun 2016, "Deep Residual Learning")."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import invalid
from mlptheory.models.config import ModelConfig
from mlptheory.models.layers import Convolution, activation, dense
from mlptheory.models.module import ImageModel
from mlptheory.models.names import ParsedName
from mlptheory.models.parametrization import LayerRule

SMALL = 64
"""Height and width up to which the stem keeps small images large."""

_WIDTH = 64


class _NormalizedConvolution(nn.Module):
    """BatchNorm of a convolution without a bias, which it would take away again."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        fan_out = kernel_size**2 * channels_out
        rule = LayerRule("normal", weight_size=math.sqrt(2 / fan_out), bias_size=0.0)
        self.convolution = Convolution(
            channels_in, channels_out, stride, rule, kernel_size=kernel_size, padding=padding, bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(z))


class _Block(nn.Module):
    """sigma(z + branch(z)), with a projection of z where its shape changes."""

    def __init__(self, branch: list[_NormalizedConvolution], channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.ModuleList(branch)
        changes = stride > 1 or channels_in != channels_out
        self.shortcut = _NormalizedConvolution(channels_in, channels_out, 1, stride, 0) if changes else nn.Identity()
        self.activations = nn.ModuleList(activation("relu") for _ in branch)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        branch = z
        for layer, sigma in zip(self.branch[:-1], self.activations[:-1], strict=True):
            branch = sigma(layer(branch))
        return self.activations[-1](self.branch[-1](branch) + self.shortcut(z))


class _ResNet(ImageModel):
    """Stem, four stages of blocks that double the channels and halve the image, mean over positions, linear head."""

    blocks_per_stage: tuple[int, int, int, int]
    expansion: int
    small_stem: tuple[int, int]

    def __init__(
        self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int, *, seed: int | None = 0
    ) -> None:
        super().__init__(config, input_shape, num_classes)
        channels, *size = self.input_shape
        self.pools = max(size) > SMALL
        kernel_size, padding = (7, 3) if self.pools else self.small_stem
        smallest = kernel_size - 2 * padding
        if min(size) < smallest:
            raise invalid("image_size", tuple(size), f"at least {smallest} for {config.name!r}")
        self.stem = _NormalizedConvolution(channels, _WIDTH, kernel_size, 2 if self.pools else 1, padding)
        self.activation = activation("relu")
        self.blocks = nn.ModuleList(self._blocks())
        self.head = dense(self.expansion * 8 * _WIDTH, num_classes, "output", "standard", 1.0)
        self._initialize_from(seed)

    def _blocks(self) -> Iterator[_Block]:
        channels_in = _WIDTH
        for stage, count in enumerate(self.blocks_per_stage):
            width = _WIDTH * 2**stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                branch = self._branch(channels_in, width, stride)
                yield _Block(branch, channels_in, self.expansion * width, stride)
                channels_in = self.expansion * width

    @staticmethod
    @abstractmethod
    def _branch(channels_in: int, width: int, stride: int) -> list[_NormalizedConvolution]:
        """Return the layers of one block's residual branch."""

    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        self._check_input(x)
        z = self.activation(self.stem(x))
        if self.pools:
            z = F.max_pool2d(z, kernel_size=3, stride=2, padding=1)
        if record is not None:
            record["stem"] = z
        for index, block in enumerate(self.blocks):
            z = block(z)
            if record is not None:
                record[f"block{index}"] = z
        pooled = z.mean(dim=(2, 3))
        logits = self._scale_logits(self.head(pooled))
        if record is not None:
            record.update(pooled=pooled, logits=logits)
        return logits


class ResNet18(_ResNet):
    r"""Eight blocks of two 3x3 convolutions, with 64, 128, 256 and 512 channels.

    .. math:: z_l = \sigma\bigl(s_l(z_{l-1}) + \operatorname{BN}(K_l' * \sigma(\operatorname{BN}(K_l * z_{l-1})))\bigr)

    with ReLU, and :math:`s_l` the identity or, where the shape changes, a normalized 1x1 convolution (He et al.'s
    option B); no convolution has a bias. Convolutions start from :math:`N(0, 2 / (k^2 c_\text{out}))` with c_out
    channels out and kernels of k x k, the normalizations' scales from 1 and shifts from 0, the head from
    :math:`U(\pm 1/\sqrt{512})`, all as torchvision's do.

    Images above 64 pixels meet He et al.'s stem, 7x7 with stride 2 and max-pooling. Those up to 64, which it would
    shrink to nothing, meet the 3x3 convolution with stride 1 and without pooling that He et al. have on CIFAR. Bachmann
    et al. (2023) train at the original resolution and do not tell the stem; the 75.6 % on CIFAR-100 and 69.7 % on
    ImageNet of their Table 1 are close to what others publish for these two stems, 75.61 %
    (``weiaicunzai/pytorch-cifar100``) and 69.758 % (torchvision).

    Parameters
    ----------
    config : ModelConfig
        Of the name "ResNet-18".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> from mlptheory.models import build, count_macs, count_parameters
    >>> with torch.device("meta"):
    ...     model = build("ResNet-18", image_size=224, num_classes=1000)
    >>> count_parameters(model), count_macs(model, (3, 224, 224))
    (11689512, 1814073344)
    """

    family = "ResNet-18"
    blocks_per_stage = (2, 2, 2, 2)
    expansion = 1
    small_stem = (3, 1)

    @staticmethod
    def _branch(channels_in: int, width: int, stride: int) -> list[_NormalizedConvolution]:
        return [_NormalizedConvolution(channels_in, width, 3, stride, 1), _NormalizedConvolution(width, width, 3, 1, 1)]


class ResNet152(_ResNet):
    r"""Fifty bottlenecks, 1x1, 3x3 and 1x1 convolutions, the last four times as wide.

    Everything else is as in `ResNet18`, but for the stem of images of up to 64 pixels: a 7x7 convolution with stride 1,
    no padding and no pooling after it, so that 64x64 becomes 58x58. Table 7 of Bachmann et al. (2023) has a ResNet-152
    without the first stride and the first pooling, and gives 13.07 G operations at 64x64. Without padding there are
    13.02 G multiply-accumulates, and 13.07 G if normalization and pooling count as in fvcore; with the padding of 3
    there are 14.92 G. A block's stride is that of its 3x3 convolution, as in torchvision.

    Parameters
    ----------
    config : ModelConfig
        Of the name "ResNet-152".
    input_shape : tuple of int
        (C, H, W), with H and W of at least 7.
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Raises
    ------
    InputError
        If the images are smaller.

    Examples
    --------
    >>> from mlptheory.models import build, count_macs, count_parameters
    >>> with torch.device("meta"):
    ...     model = build("ResNet-152", image_size=64, num_classes=1000)
    >>> count_parameters(model), count_macs(model, (3, 64, 64))
    (60192808, 13023718144)
    """

    family = "ResNet-152"
    blocks_per_stage = (3, 8, 36, 3)
    expansion = 4
    small_stem = (7, 0)

    @staticmethod
    def _branch(channels_in: int, width: int, stride: int) -> list[_NormalizedConvolution]:
        return [
            _NormalizedConvolution(channels_in, width, 1, 1, 0),
            _NormalizedConvolution(width, width, 3, stride, 1),
            _NormalizedConvolution(width, 4 * width, 1, 1, 0),
        ]


def build_resnet18(
    parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int
) -> ResNet18:
    """Build a ResNet-18 whose parameters are not drawn yet."""
    return ResNet18(config, input_shape, num_classes, seed=None)


def build_resnet152(
    parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int
) -> ResNet152:
    """Build a ResNet-152 whose parameters are not drawn yet."""
    return ResNet152(config, input_shape, num_classes, seed=None)
