r"""What a layer's parameters have for a gradient, in terms of the layer's input and the gradient at its output.

A dense layer or a convolution gives its weight, for one example, a sum over positions of outer products,
:math:`\sum_p g_p a_p^\top`, with :math:`a_p` its input there (for a convolution, the patch) and :math:`g_p` the
gradient at its output; its bias gets :math:`\sum_p g_p`. A normalization gives its scale
:math:`\sum_p g_p \odot \hat x_p`, its shift :math:`\sum_p g_p`. A rule holds for a module whose forward pass is its
class's own and whose weight is a parameter, not computed from others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.models.layers import Dense, ScaledConvolution, ScaledDense


class Rule(ABC):
    """How one kind of layer turns inputs and output gradients into gradients of its parameters.

    Attributes
    ----------
    outer : bool
        Whether the weight's gradient is a sum of outer products.
    bias_scale : float
        What the bias is multiplied by in the forward pass.
    """

    outer: bool
    bias_scale: float = 1.0

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @abstractmethod
    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what stands to the left: (N, P, fan-in) for an outer product, else the normalized input."""

    @abstractmethod
    def right(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient at the output, (N, P, fan-out) for an outer product."""

    @abstractmethod
    def weight_gradient(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return each example's gradient of the weight, of shape (N, numel)."""

    @abstractmethod
    def bias_gradient(self, right: torch.Tensor) -> torch.Tensor:
        """Return each example's gradient of the bias, of shape (N, numel)."""


class _Outer(Rule):
    outer = True

    def weight_gradient(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.bmm(right.transpose(1, 2), left).flatten(1)

    def bias_gradient(self, right: torch.Tensor) -> torch.Tensor:
        return right.sum(dim=1) * self.bias_scale


class DenseRule(_Outer):
    """nn.Linear on (N, ..., fan-in)."""

    weight_scale = 1.0

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (N, P, fan-in); P counts what stands between the first axis and the last."""
        rows = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        return rows if self.weight_scale == 1 else rows * self.weight_scale

    def right(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return (N, P, fan-out)."""
        return gradient.reshape(len(gradient), -1, gradient.shape[-1])


class ScaledDenseRule(DenseRule):
    """Our dense layer with forward scales."""

    def __init__(self, module: ScaledDense) -> None:
        super().__init__(module)
        self.weight_scale, self.bias_scale = module.rule.weight_scale, module.rule.bias_scale


class ConvolutionRule(_Outer):
    """nn.Conv2d on (N, C, H, W), of one group, padded with zeros."""

    weight_scale = 1.0

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the patches, (N, positions, C · kernel height · kernel width)."""
        options = {"dilation": self.module.dilation, "padding": self.module.padding, "stride": self.module.stride}
        return self._patches(inputs, self.module.kernel_size, **options)

    def _patches(self, inputs: torch.Tensor, kernel_size: tuple[int, int], **options) -> torch.Tensor:
        patches = F.unfold(inputs, kernel_size, **options).transpose(1, 2)
        return patches if self.weight_scale == 1 else patches * self.weight_scale

    def right(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return (N, positions, channels)."""
        return gradient.flatten(2).transpose(1, 2)


class ScaledConvolutionRule(ConvolutionRule):
    """Our 3x3 convolution with forward scales."""

    def __init__(self, module: ScaledConvolution) -> None:
        super().__init__(module)
        self.weight_scale, self.bias_scale = module.rule.weight_scale, module.rule.bias_scale

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the patches, (N, positions, 9 C)."""
        return self._patches(inputs, (3, 3), padding=1, stride=self.module.stride)


class _Elementwise(Rule):
    outer = False

    def right(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient

    def weight_gradient(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self._summed(left * right)

    def bias_gradient(self, right: torch.Tensor) -> torch.Tensor:
        return self._summed(right)

    @abstractmethod
    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all positions that share a scale; (N, numel)."""


class LayerNormRule(_Elementwise):
    """nn.LayerNorm on (N, ..., *normalized_shape)."""

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized."""
        return F.layer_norm(inputs, self.module.normalized_shape, eps=self.module.eps)

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        size = self.module.weight.numel()
        return values.reshape(len(values), -1, size).sum(dim=1)


class _ChannelRule(_Elementwise):
    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        return values.flatten(2).sum(dim=2) if values.dim() > 2 else values


class BatchNormRule(_ChannelRule):
    """Batch normalization in evaluation mode, on (N, C) or (N, C, ...)."""

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized by the running statistics."""
        module = self.module
        return F.batch_norm(inputs, module.running_mean, module.running_var, training=False, eps=module.eps)


class GroupNormRule(_ChannelRule):
    """nn.GroupNorm on (N, C, ...)."""

    def left(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized group by group."""
        return F.group_norm(inputs, self.module.num_groups, eps=self.module.eps)


_RULES: dict[type[nn.Module], type[Rule]] = {
    nn.Linear: DenseRule,
    Dense: DenseRule,
    ScaledDense: ScaledDenseRule,
    nn.Conv2d: ConvolutionRule,
    ScaledConvolution: ScaledConvolutionRule,
    nn.LayerNorm: LayerNormRule,
    nn.BatchNorm1d: BatchNormRule,
    nn.BatchNorm2d: BatchNormRule,
    nn.GroupNorm: GroupNormRule,
}


_HARMLESS = {"reset_parameters", "extra_repr"}


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule of a module; None if there is none for it."""
    for kind, rule in _RULES.items():
        if isinstance(module, kind) and _computes_as(module, kind):
            return rule(module) if _is_plain(module) else None
    return None


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Tell whether nothing of what a kind of layer computes is overridden, in a subclass or on the module itself."""
    bases = type(module).__mro__
    added = {name for base in bases[: bases.index(kind)] for name in vars(base)}
    overridden = {name for name in added if not name.startswith("__")} | added & {"__getattr__", "__getattribute__"}
    shadowed = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return overridden <= _HARMLESS and not shadowed and vars(module).keys().isdisjoint({"weight", "bias"})


def _is_plain(module: nn.Module) -> bool:
    """Tell whether weight and bias are parameters (or the bias absent), in a layout that the rule knows."""
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        return False
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return not (isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None)
