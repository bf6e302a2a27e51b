"""NNGP and NTK of S-MLP, B-MLP and plain MLP of infinite width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from mlptheory.base.configuration import require_boolean, require_number
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.measures.convention import convention
from mlptheory.measures.evaluation_copy import check_examples, exact_arithmetic
from mlptheory.measures.infinite_width.gaussian import GAUSSIAN_MOMENTS, GaussianMoments
from mlptheory.measures.infinite_width.moments import DenseLimit, Moments, Points, activate, layer_norm
from mlptheory.models import ModelConfig
from mlptheory.models.layers import feature_norm
from mlptheory.models.parametrization import NTK_BIAS_STD, NTK_WEIGHT_STD

_PARAMETRIZATIONS = ("ntk", "standard")
_STANDARD_STD = 1 / math.sqrt(3)
_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class InfiniteKernels:
    r"""Kernels of one logit of an MLP of infinite width.

    Attributes
    ----------
    nngp : Tensor of shape (N1, N2)
        Covariance of the logit over initializations.
    ntk : Tensor of shape (N1, N2) or None
        Θ; None in the standard parametrization, where it grows like the width and has no limit.
    ntk_per_width : Tensor of shape (N1, N2) or None
        Θ/m, with m the width in the model's name; None in the NTK parametrization, where its limit is 0.
    convention : str
        What the kernels are of.
    """

    nngp: torch.Tensor
    ntk: torch.Tensor | None
    ntk_per_width: torch.Tensor | None
    convention: str


@convention(
    "kernels of one logit (the full ones are these times the identity over logits), summed over its parameters and "
    "divided by nothing but, in the standard parametrization, by the width m of the residual stream; biases and, "
    "unless told otherwise, LayerNorm's scale and shift count as trained"
)
def infinite_kernels(
    model_name: str,
    x1: torch.Tensor,
    x2: torch.Tensor | None = None,
    *,
    parametrization: Literal["ntk", "standard"] = "ntk",
    activation: Literal["gelu", "relu"] | None = None,
    norm: Literal["layer", "none"] = "layer",
    variant: Literal["paper", "authors"] = "paper",
    skip: bool | None = None,
    weight_std: float | None = None,
    bias_std: float | None = None,
    layernorm_affine: bool = True,
) -> InfiniteKernels:
    r"""Return the NNGP and neural tangent kernels of an S-MLP, B-MLP or MLP as its width goes to infinity.

    Of a layer's coordinates, mean μ, covariance K and tangent kernel Θ are followed (Jacot, Gabriel & Hongler 2018,
    "Neural tangent kernel"; Lee et al. 2019):

    .. math::
        \text{dense, NTK:} \quad & K \leftarrow \sigma_w^2 (K + \mu \mu') + \sigma_b^2, \quad
        \Theta \leftarrow \sigma_w^2 (K + \mu \mu') + \sigma_b^2 + \sigma_w^2 \Theta \\
        \text{dense, standard:} \quad & K \leftarrow \sigma_w^2 (K + \mu \mu'), \quad
        \tfrac1m \Theta \leftarrow \tfrac{n}{m} (K + \mu \mu') + \sigma_w^2 \tfrac1m \Theta \\
        \text{activation:} \quad & \mu \leftarrow E[\sigma(u)], \quad
        K \leftarrow E[\sigma(u) \sigma(u')] - \mu \mu', \quad \Theta \leftarrow E[\sigma'(u) \sigma'(u')]\, \Theta \\
        \text{LayerNorm:} \quad & \hat K = K / \sqrt{(v + \varepsilon)(v' + \varepsilon)}, \quad
        \Theta \leftarrow \Theta / \sqrt{(v + \varepsilon)(v' + \varepsilon)} \;[\, + \hat K + 1], \quad
        \mu \leftarrow 0 \\
        \text{skip:} \quad & \mu, K, \Theta \text{ of stream and branch add}

    with :math:`(u, u')` Gaussian of covariance K, :math:`v = K(x, x)`, n the fan-in and ε that of the models'
    LayerNorm. Subtracting a layer's mean changes K and leaves Θ, because it is one direction of many. A LayerNorm's
    trained scale and shift add the bracket; where an activation stands between it and the next matrix
    (``variant="authors"``), they add :math:`E[(1 + u u') \sigma'(u) \sigma'(u')]` behind that activation.

    In the standard parametrization (PyTorch's default initialization) weights have variance
    :math:`\sigma_w^2 / n` and biases :math:`\sigma_b^2 / n` with :math:`\sigma_w^2 = \sigma_b^2 = 1/3`: the biases
    vanish but for the first layer's, whose fan-in d stays, and to Θ/m only hidden matrices and the head contribute.
    There k of an inverted bottleneck weighs its second matrix k times; in the NTK parametrization it is of no
    consequence.

    The law of the weights matters by its variance alone, with one exception: in the plain MLP and the authors' variant
    an activation acts on the first layer itself, and with uniform weights that is Gaussian only for many input
    dimensions. The kernels are those of Gaussian weights; a uniform first layer's excess kurtosis, left out, is
    :math:`-1.2 \sum_i x_i^4 / (\sum_i x_i^2)^2`.

    Parameters
    ----------
    model_name : str
        As `mlptheory.models.build` takes it, such as "B-6/Wi-512"; its depth and expansion matter, not its width.
    x1 : Tensor of shape (N1, ...)
        Inputs, (N, C, H, W) or flattened.
    x2 : Tensor of shape (N2, ...), optional
        x1 if None; then the kernels are symmetric to the last bit.
    parametrization : str
        "ntk" or "standard".
    activation, norm, variant, skip
        As in `ModelConfig`; a batch normalization has no such limit, and tanh no closed form.
    weight_std, bias_std : float, optional
        σ_w and σ_b; None: 1 and 0.1 in the NTK parametrization, 1/√3 both in the standard one, as in the models.
    layernorm_affine : bool
        Whether LayerNorm's scale and shift are trained; they are at 1 and 0.

    Returns
    -------
    InfiniteKernels
        float64, on the device of x1. Time is linear in N1 N2 and in the depth; memory, next to the results, constant.

    Raises
    ------
    InputError
        For options that no such model has, inputs that are not finite or do not match, or kernels that overflow.

    Examples
    --------
    One ReLU layer without normalization and biases is the arc-cosine kernel, 1/2 where x = x' of mean square 1:

    >>> kernels = infinite_kernels("S-1/Wi-64", torch.tensor([[1.0, 1.0]]), norm="none", bias_std=0.0)
    >>> kernels.nngp.item(), kernels.ntk.item()
    (0.5, 1.5)
    """
    config = _checked(model_name, parametrization, activation, norm, variant, skip)
    require_boolean("layernorm_affine", layernorm_affine)
    weight_std, bias_std = _stds(parametrization, weight_std, bias_std)
    if x2 is None:
        one, two = _flattened("x1", x1), None
    else:
        one, two = _flattened("x1", x1), _flattened("x2", x2)
        if one.shape[1] != two.shape[1]:
            raise InputError(f"x2: expected {one.shape[1]} numbers an example as in x1, found {two.shape[1]}")
    with exact_arithmetic(one.device), torch.no_grad():
        dimensions = one.shape[1]
        inputs = one if two is None else torch.cat([one, two.to(one.device)])
        distinct, which = inputs.unique(dim=0, return_inverse=True)
        rows, columns = which[: len(one)], which if two is None else which[len(one) :]
        network = _Network(config, dimensions, weight_std, bias_std, layernorm_affine)
        parts = [
            network.kernels(distinct, some, columns) for some in rows.split(max(1, _PAIRS_AT_ONCE // len(columns)))
        ]
        nngp, tangent = (torch.cat(part) for part in zip(*parts, strict=True))
        if two is None:
            nngp, tangent = ((kernel + kernel.T) / 2 for kernel in (nngp, tangent))
    if not (torch.isfinite(nngp).all() and torch.isfinite(tangent).all()):
        raise InputError(f"{model_name}: kernels overflow at weight_std = {weight_std!r}, bias_std = {bias_std!r}")
    is_ntk = parametrization == "ntk"
    return InfiniteKernels(
        nngp=nngp,
        ntk=tangent if is_ntk else None,
        ntk_per_width=None if is_ntk else tangent,
        convention=infinite_kernels.convention,
    )


class _Network:
    """The layers of a model of infinite width."""

    def __init__(
        self, config: ModelConfig, dimensions: int, weight_std: float, bias_std: float, layernorm_affine: bool
    ) -> None:
        self.config = config
        self.activation: GaussianMoments = GAUSSIAN_MOMENTS[config.activation]
        self.dimensions = dimensions
        self.is_ntk = config.parametrization == "ntk"
        self.weight_variance, self.bias_variance = weight_std**2, bias_std**2
        self.eps = getattr(feature_norm(config.norm, 1), "eps", None)
        # In the standard parametrization, what a scale and a shift add is finite, while all else grows like the width.
        self.affine_tangent = float(layernorm_affine and self.is_ntk)

    def kernels(
        self, distinct: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the NNGP and the tangent kernel of the logit."""
        parsed = self.config.parsed
        block = self._bottleneck if parsed.family == "B" else self._standard
        z = self._embedding()(self._inputs(distinct, rows, columns))
        if parsed.family == "MLP":
            z = activate(z, self.activation)
            blocks = parsed.depth - 1
        else:
            blocks = parsed.depth - (parsed.family == "S" and self.config.variant == "authors")
        for _ in range(blocks):
            z = z + block(z) if self.config.skip else block(z)
        logit = self._hidden()(z)
        return logit.covariance, logit.tangent

    def _inputs(self, distinct: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> Moments:
        """Return an input's numbers as a layer's coordinates: second moments about 0, nothing trained."""
        covariance = distinct[rows] @ distinct[columns].T / self.dimensions
        return Moments(
            points=Points(rows, columns, rows[:, None] == columns[None]),
            mean=distinct.new_zeros(len(distinct)),
            variance=distinct.square().sum(dim=1) / self.dimensions,
            covariance=covariance,
            tangent=torch.zeros_like(covariance),
        )

    def _standard(self, z: Moments) -> Moments:
        if self.config.variant == "authors":
            return self._hidden()(activate(self._norm(z), self.activation))
        return activate(self._hidden()(self._norm(z)), self.activation)

    def _bottleneck(self, z: Moments) -> Moments:
        expanded = self._hidden()(self._norm(z))
        return self._hidden(self.config.parsed.expansion)(activate(expanded, self.activation))

    def _norm(self, z: Moments) -> Moments:
        return z if self.eps is None else layer_norm(z, self.eps, self.affine_tangent)

    def _embedding(self) -> DenseLimit:
        if self.is_ntk:
            return self._hidden()
        return DenseLimit(self.weight_variance, self.bias_variance / self.dimensions, 0.0, 0.0)

    def _hidden(self, expansion: int = 1) -> DenseLimit:
        """Return a layer whose fan-in is `expansion` times the width."""
        if self.is_ntk:
            return DenseLimit(self.weight_variance, self.bias_variance, self.weight_variance, self.bias_variance)
        return DenseLimit(self.weight_variance, 0.0, float(expansion), 0.0)


def _checked(
    model_name: str, parametrization: str, activation: str | None, norm: str, variant: str, skip: bool | None
) -> ModelConfig:
    """Return the model's configuration, all choices written out, if it has a limit of infinite width here."""
    if parametrization not in _PARAMETRIZATIONS:
        raise unknown_name("parametrization", parametrization, _PARAMETRIZATIONS)
    config = ModelConfig(
        name=model_name, parametrization=parametrization, activation=activation, norm=norm, variant=variant, skip=skip
    ).resolved()
    if config.parsed.family not in ("S", "B", "MLP"):
        raise invalid(
            "model_name", model_name, "an S-MLP, B-MLP or MLP, like 'S-6/Wi-1024', 'B-6/Wi-512' or 'MLP-2/Wi-200'"
        )
    if config.activation not in GAUSSIAN_MOMENTS:
        raise invalid("activation", config.activation, "'gelu' or 'relu', whose Gaussian means have a closed form")
    if norm == "batch":
        raise invalid("norm", norm, "'layer' or 'none': with batches normalized, no kernel is one of two examples")
    return config


def _stds(parametrization: str, weight_std: float | None, bias_std: float | None) -> tuple[float, float]:
    defaults = (NTK_WEIGHT_STD, NTK_BIAS_STD) if parametrization == "ntk" else (_STANDARD_STD, _STANDARD_STD)
    weight_std = defaults[0] if weight_std is None else weight_std
    bias_std = defaults[1] if bias_std is None else bias_std
    require_number("weight_std", weight_std, 0, low_open=True)
    require_number("bias_std", bias_std, 0)
    return weight_std, bias_std


def _flattened(argument: str, examples: torch.Tensor) -> torch.Tensor:
    """Return inputs (N, d) in float64, on their device if it has that."""
    check_examples(argument, examples)
    if examples.dim() < 2:
        raise InputError(f"{argument}: expected (N, C, H, W) or (N, d), found {tuple(examples.shape)}")
    device = "cpu" if examples.device.type == "mps" else examples.device
    return examples.detach().to(device, torch.float64).flatten(1)
