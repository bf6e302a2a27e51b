"""Layers that leave their initialization to a parametrization, activations and normalizations by name."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.models import bfloat16
from mlptheory.models.parametrization import LayerRule, Role, layer_rule

NORMALIZATIONS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_GROUPS = 8


class Dense(nn.Linear):
    """x -> W x + b, drawn by `initialize_layer` and not on construction."""

    def __init__(self, fan_in: int, fan_out: int, rule: LayerRule) -> None:
        super().__init__(fan_in, fan_out)
        self.rule = rule

    def reset_parameters(self) -> None:
        """Draw nothing: nn.Linear would draw from the global generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, fan_in) to (N, fan_out)."""
        # Only where autocast would cast the inputs too, as training does: a model in bfloat16 is torch's own elsewhere.
        is_cast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if is_cast and self.weight.dtype == torch.bfloat16 and x.dim() == 2:
            return bfloat16.linear(x.to(torch.bfloat16), self.weight, self.bias)
        return super().forward(x)


class Convolution(nn.Conv2d):
    """A convolution, 3x3 with padding 1 unless said, drawn by `initialize_layer` and not on construction."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        rule: LayerRule,
        *,
        kernel_size: int = 3,
        padding: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(channels_in, channels_out, kernel_size, stride=stride, padding=padding, bias=bias)
        self.rule = rule

    def reset_parameters(self) -> None:
        """Draw nothing: nn.Conv2d would draw from the global generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H', W')."""
        stride = _stride_that_acts(x, self.stride[0])
        return F.conv2d(x, self.weight, self.bias, stride=stride, padding=self.padding)


class _Scaled(nn.Module):
    """Parameters with forward scales.

    Not an nn.Linear or nn.Conv2d, so that a tool which takes those at their word cannot miss the scales.
    """

    def __init__(self, weight_shape: tuple[int, ...], rule: LayerRule) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(weight_shape[0]))
        self.rule = rule

    def extra_repr(self) -> str:
        scales = f"weight_scale={self.rule.weight_scale:.4g}, bias_scale={self.rule.bias_scale:.4g}"
        return f"{tuple(self.weight.shape)}, {scales}"

    def scaled_bias(self) -> torch.Tensor:
        return self.bias if self.rule.bias_scale == 1 else self.bias * self.rule.bias_scale


class ScaledDense(_Scaled):
    """x -> s_W W x + s_b b."""

    def __init__(self, fan_in: int, fan_out: int, rule: LayerRule) -> None:
        super().__init__((fan_out, fan_in), rule)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, fan_in) to (N, fan_out)."""
        return F.linear(x * self.rule.weight_scale, self.weight, self.scaled_bias())


class ScaledConvolution(_Scaled):
    """x -> s_W K * x + s_b b, 3x3 with padding 1."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, rule: LayerRule) -> None:
        super().__init__((channels_out, channels_in, 3, 3), rule)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, ceil(H / stride), ceil(W / stride))."""
        scaled = x * self.rule.weight_scale
        return F.conv2d(scaled, self.weight, self.scaled_bias(), stride=_stride_that_acts(x, self.stride), padding=1)


def _stride_that_acts(x: torch.Tensor, stride: int) -> tuple[int, int]:
    """Return a convolution's strides, 1 along a side of one pixel, where with half the kernel as padding none acts.

    There torch's bfloat16 gradient of the weights reads memory that nobody wrote (2.13 on a CPU, width 1, stride 2).
    """
    height, width = x.shape[2:]
    return stride if height > 1 else 1, stride if width > 1 else 1


def dense(fan_in: int, fan_out: int, role: Role, parametrization: str, width_ratio: float) -> nn.Module:
    """Return a dense layer: an nn.Linear wherever the forward scales are 1."""
    rule = layer_rule(parametrization, role, fan_in, width_ratio)
    return (Dense if rule.weight_scale == rule.bias_scale == 1 else ScaledDense)(fan_in, fan_out, rule)


def convolution(
    channels_in: int, channels_out: int, stride: int, role: Role, parametrization: str, width_ratio: float
) -> nn.Module:
    """Return a 3x3 convolution: an nn.Conv2d wherever the forward scales are 1."""
    rule = layer_rule(parametrization, role, 9 * channels_in, width_ratio)
    kind = Convolution if rule.weight_scale == rule.bias_scale == 1 else ScaledConvolution
    return kind(channels_in, channels_out, stride, rule)


def initialize_layer(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw a layer's weight, then its bias if it has one, by its rule.

    Always in float32 on the CPU, so that neither the device nor the dtype changes the draw; on the meta device
    nothing is drawn.
    """
    rule: LayerRule = layer.rule
    for parameter, size in ((layer.weight, rule.weight_size), (layer.bias, rule.bias_size)):
        if parameter is None or parameter.is_meta:
            continue
        draw = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
        if rule.law == "normal":
            draw.normal_(0, size, generator=generator)
        else:
            draw.uniform_(-size, size, generator=generator)
        with torch.no_grad():
            parameter.copy_(draw)


def activation(name: str) -> nn.Module:
    """Return the exact (erf) GELU, the ReLU or the tanh."""
    return {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}[name]()


def feature_norm(name: str, features: int) -> nn.Module:
    """Return a normalization of (N, features), with trained scale and shift."""
    kinds = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
    return kinds[name](features) if name in kinds else nn.Identity()


def channel_norm(name: str, channels: int) -> nn.Module:
    """Return a normalization of (N, channels, H, W); "layer" is GroupNorm with up to 8 equal groups."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels) if name == "layer" else nn.Identity()
