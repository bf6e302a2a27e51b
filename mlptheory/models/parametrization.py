r"""How initialization, forward scales and learning rates depend on width: standard, NTK and muP.

A layer with weight :math:`W`, bias :math:`b` and fan-in :math:`n` computes :math:`s_W W x + s_b b`. With
:math:`r` = width / base width:

========  ======  ==========================  ====================  ==================  ============  ===============
          layer   weight at the start         bias at the start     scales (s_W, s_b)   lr, SGD       lr, Adam, Lion
========  ======  ==========================  ====================  ==================  ============  ===============
standard  all     U(±1/√n)                    U(±1/√n)              1, 1                1             1
ntk       all     N(0, 1)                     N(0, 1)               σ_w/√n, σ_b         1             1
mup       input   U(±1/√n)                    U(±1/√n)              1, 1                W r, b r      1
mup       hidden  U(±1/√n)                    U(±1/√(n/r))          1, 1                W 1, b r      W 1/r, b 1
mup       output  U(±1/√(n/r))                U(±1/√(n/r))          1/r, 1              W r, b 1      1
========  ======  ==========================  ====================  ==================  ============  ===============

Standard is PyTorch's default law: weight variance :math:`1/(3n)`. NTK (Jacot, Gabriel & Hongler 2018) has
:math:`\sigma_w^2 = 1` and :math:`\sigma_b^2 = 0.01`; it prescribes nothing for Adam and Lion, whose steps move a
preactivation by about lr √n there. muP is Table 8 of Yang et al. (2022), "Tensor Programs V", relative to a base
width, so that at r = 1 it is the standard parametrization bit for bit. Scale and shift of a normalization act like
biases: r under SGD, 1 under Adam and Lion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlptheory.base import unknown_name

NTK_WEIGHT_STD = 1.0
NTK_BIAS_STD = 0.1
OPTIMIZERS = ("sgd", "adamw", "lion")

Role = Literal["input", "hidden", "output"]


@dataclass(frozen=True)
class LayerRule:
    """One row of the table, in numbers.

    Attributes
    ----------
    law : str
        "uniform": sizes are bounds; "normal": sizes are standard deviations.
    weight_size, bias_size : float
        Of the initial parameters.
    weight_scale, bias_scale : float
        Factors in the forward pass.
    weight_lr, bias_lr : tuple of (float, float)
        Multipliers of the learning rate for SGD, and for Adam and Lion.
    """

    law: Literal["uniform", "normal"]
    weight_size: float
    bias_size: float
    weight_scale: float = 1.0
    bias_scale: float = 1.0
    weight_lr: tuple[float, float] = (1.0, 1.0)
    bias_lr: tuple[float, float] = (1.0, 1.0)


def layer_rule(parametrization: str, role: Role, fan_in: int, width_ratio: float) -> LayerRule:
    """Return the rule of one layer.

    Parameters
    ----------
    parametrization : str
        "standard", "ntk" or "mup".
    role : str
        "input": fan-in fixed, fan-out grows with the width; "hidden": both grow; "output": only fan-in grows.
    fan_in : int
        Inputs per output unit.
    width_ratio : float
        Width over base width; used by muP only.

    Examples
    --------
    >>> layer_rule("mup", "output", 1024, 4.0).weight_scale
    0.25
    """
    if parametrization == "ntk":
        return LayerRule("normal", 1.0, 1.0, NTK_WEIGHT_STD / math.sqrt(fan_in), NTK_BIAS_STD)
    ratio = width_ratio if parametrization == "mup" else 1.0
    fan_in_at_base = fan_in if role == "input" else fan_in / ratio
    weight_fan_in = fan_in_at_base if role == "output" else fan_in
    return LayerRule(
        "uniform",
        weight_size=_kaiming_bound(weight_fan_in),
        bias_size=1 / math.sqrt(fan_in_at_base),
        weight_scale=1 / ratio if role == "output" else 1.0,
        weight_lr={"input": (ratio, 1.0), "hidden": (1.0, 1 / ratio), "output": (ratio, 1.0)}[role],
        bias_lr=(1.0, 1.0) if role == "output" else (ratio, 1.0),
    )


def optimizer_column(optimizer: str) -> int:
    """Return which entry of a rule's learning rates an optimizer takes: 0 for SGD, 1 for Adam and Lion."""
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS)
    return 0 if optimizer == "sgd" else 1


def _kaiming_bound(fan_in: float) -> float:
    # 1/sqrt(fan_in) in the order of operations of nn.Linear, so that the drawn bits agree too.
    gain = math.sqrt(2.0 / (1 + math.sqrt(5) ** 2))
    return math.sqrt(3.0) * (gain / math.sqrt(fan_in))
