r"""The MLP of the textbooks, and S-MLP and B-MLP of Bachmann, Anagnostidis & Hofmann (2023), "Scaling MLPs"."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import nn

from mlptheory.models.config import ModelConfig
from mlptheory.models.dropout import KeyedDropout
from mlptheory.models.layers import activation, dense, feature_norm
from mlptheory.models.module import ImageModel
from mlptheory.models.names import ParsedName


class _InputBlock(nn.Module):
    """sigma(W x), dropped out."""

    def __init__(self, inputs: int, width: int, config: ModelConfig, width_ratio: float) -> None:
        super().__init__()
        self.linear = dense(inputs, width, "input", config.parametrization, width_ratio)
        self.activation = activation(config.activation)
        self.dropout = _dropout(config.dropout, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.activation(self.linear(x)))


class _StandardBlock(nn.Module):
    """sigma(W norm(z)), dropped out; the authors' order is W sigma(norm(z))."""

    def __init__(self, width: int, config: ModelConfig, width_ratio: float) -> None:
        super().__init__()
        self.norm = feature_norm(config.norm, width)
        self.linear = dense(width, width, "hidden", config.parametrization, width_ratio)
        self.activation = activation(config.activation)
        self.dropout = _dropout(config.dropout, width)
        self.activation_first = config.variant == "authors"
        self.skip = config.skip

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if self.activation_first:
            branch = self.linear(self.dropout(self.activation(self.norm(z))))
        else:
            branch = self.dropout(self.activation(self.linear(self.norm(z))))
        return z + branch if self.skip else branch


class _BottleneckBlock(nn.Module):
    """W_c sigma(W_e norm(z)), with the k times wider activation dropped out."""

    def __init__(self, width: int, expansion: int, config: ModelConfig, width_ratio: float) -> None:
        super().__init__()
        hidden = expansion * width
        self.norm = feature_norm(config.norm, width)
        self.expand = dense(width, hidden, "hidden", config.parametrization, width_ratio)
        self.activation = activation(config.activation)
        self.dropout = _dropout(config.dropout, hidden)
        self.contract = dense(hidden, width, "hidden", config.parametrization, width_ratio)
        self.skip = config.skip

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        branch = self.contract(self.dropout(self.activation(self.expand(self.norm(z)))))
        return z + branch if self.skip else branch


def _dropout(p: float, features: int) -> nn.Module:
    return KeyedDropout(p, features) if p else nn.Identity()


class _Blocks(ImageModel):
    """Blocks on vectors, linear head."""

    blocks: nn.ModuleList
    head: nn.Module

    def _through_blocks(self, z: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            z = block(z)
            if record is not None:
                record[f"block{index}"] = z
        logits = self._scale_logits(self.head(z))
        if record is not None:
            record["logits"] = logits
        return logits


class MLP(_Blocks):
    r"""The plain fully connected net: every layer but the head has an activation, the first one too.

    .. math:: z_1 = \sigma(W_1 \operatorname{vec}(x) + b_1), \quad
              z_l = \sigma(W_l \operatorname{LN}(z_{l-1}) + b_l) \text{ for } l = 2, \ldots, L, \quad
              f(x) = W_\text{head} z_L + b

    with vec in (C, H, W) order, L the depth in the name, W_1 of width x CHW, all other W_l of width x width, and ReLU
    unless the configuration says otherwise. ``norm="none"`` is the textbooks' net. An `SMLP` of as many blocks has a
    linear embedding before them, and a normalization before the first.

    Parameters
    ----------
    config : ModelConfig
        Of the family "MLP".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> model = MLP(ModelConfig(name="MLP-2/Wi-16", norm="none", activation="tanh"), (1, 8, 8), 10, seed=0)
    >>> [tuple(weight.shape) for name, weight in model.named_parameters() if name.endswith("weight")]
    [(16, 64), (16, 16), (10, 16)]
    """

    family = "MLP"
    first_layer = "blocks.0.linear"

    def __init__(
        self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int, *, seed: int | None = 0
    ) -> None:
        super().__init__(config, input_shape, num_classes)
        width = self.parsed.width
        self.blocks = nn.ModuleList(
            [
                _InputBlock(math.prod(self.input_shape), width, self.config, self.width_ratio),
                *(_StandardBlock(width, self.config, self.width_ratio) for _ in range(self.parsed.depth - 1)),
            ]
        )
        self.head = dense(width, num_classes, "output", self.config.parametrization, self.width_ratio)
        self._initialize_from(seed)

    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        self._check_input(x)
        return self._through_blocks(x.flatten(1), record)


class _MLP(_Blocks):
    """Embedding of the flattened image, blocks, linear head."""

    first_layer = "embedding"

    def __init__(
        self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int, *, seed: int | None = 0
    ) -> None:
        super().__init__(config, input_shape, num_classes)
        parametrization, width = self.config.parametrization, self.parsed.width
        self.embedding = dense(math.prod(self.input_shape), width, "input", parametrization, self.width_ratio)
        self.blocks = nn.ModuleList(self._block() for _ in range(self._number_of_blocks()))
        self.head = dense(width, num_classes, "output", parametrization, self.width_ratio)
        self._initialize_from(seed)

    @abstractmethod
    def _block(self) -> nn.Module:
        """Return one block."""

    def _number_of_blocks(self) -> int:
        return self.parsed.depth

    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        self._check_input(x)
        z = self.embedding(x.flatten(1))
        if record is not None:
            record["embedding"] = z
        return self._through_blocks(z, record)


class SMLP(_MLP):
    r"""The standard MLP, isotropic and without skips.

    .. math:: z_0 = W_\text{emb} \operatorname{vec}(x) + b, \quad
              z_l = \sigma(W_l \operatorname{LN}(z_{l-1}) + b_l), \quad f(x) = W_\text{head} z_L + b

    with vec in (C, H, W) order, all W_l of width x width, and ReLU unless the configuration says otherwise.
    ``variant="authors"`` is the authors' code, :math:`z_l = W_l \sigma(\operatorname{LN}(z_{l-1})) + b_l` with GELU
    and L - 1 blocks for depth L.

    Parameters
    ----------
    config : ModelConfig
        Of the family "S".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> model = SMLP(ModelConfig(name="S-2/Wi-16"), (1, 8, 8), 10, seed=0)
    >>> list(model.intermediates(torch.zeros(3, 1, 8, 8)))
    ['embedding', 'block0', 'block1', 'logits']
    """

    family = "S"

    def _block(self) -> nn.Module:
        return _StandardBlock(self.parsed.width, self.config, self.width_ratio)

    def _number_of_blocks(self) -> int:
        return self.parsed.depth - (self.config.variant == "authors")


class BMLP(_MLP):
    r"""The MLP with inverted bottlenecks, pre-LayerNorm and skips.

    .. math:: z_0 = W_\text{emb} \operatorname{vec}(x) + b, \quad
              z_l = z_{l-1} + W_l^c \sigma(W_l^e \operatorname{LN}(z_{l-1}) + b_l^e) + b_l^c, \quad
              f(x) = W_\text{head} z_L + b

    with vec in (C, H, W) order, W^e of k width x width, k = 4 unless the name says otherwise, GELU, and no
    normalization before the head. The authors' code is the same function.

    Parameters
    ----------
    config : ModelConfig
        Of the family "B".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> model = BMLP(ModelConfig(name="B-1/Wi-16/E-2"), (1, 8, 8), 10, seed=0)
    >>> tuple(model.blocks[0].expand.weight.shape)
    (32, 16)
    """

    family = "B"

    def _block(self) -> nn.Module:
        return _BottleneckBlock(self.parsed.width, self.parsed.expansion, self.config, self.width_ratio)


def build_mlp(parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> MLP:
    """Build a plain MLP whose parameters are not drawn yet."""
    return MLP(config, input_shape, num_classes, seed=None)


def build_smlp(parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> SMLP:
    """Build an S-MLP whose parameters are not drawn yet."""
    return SMLP(config, input_shape, num_classes, seed=None)


def build_bmlp(parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> BMLP:
    """Build a B-MLP whose parameters are not drawn yet."""
    return BMLP(config, input_shape, num_classes, seed=None)
