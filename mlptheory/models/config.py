"""What a model is, as plain data: its name and its options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mlptheory.base import invalid, unknown_name
from mlptheory.models.names import RESNETS, ParsedName, parse_name

Norm = Literal["layer", "batch", "none"]
Activation = Literal["gelu", "relu", "tanh"]
Parametrization = Literal["standard", "ntk", "mup"]
Variant = Literal["paper", "authors"]

# Of the options that act on hidden layers or on their width, those that a fixed architecture has.
_LINEAR = {
    "norm": ("layer", "none"),
    "activation": (None,),
    "dropout": (0,),
    "skip": (None, False),
    "parametrization": ("standard", "ntk"),
    "variant": ("paper",),
}
_RESNET = {
    "norm": ("batch",),
    "activation": (None, "relu"),
    "dropout": (0,),
    "skip": (None, True),
    "parametrization": ("standard",),
    "variant": ("paper",),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model but for its input, its classes and its seed.

    Attributes
    ----------
    name : str
        S-{depth}/Wi-{width}, B-{depth}/Wi-{width}[/E-{expansion}], MLP-{depth}/Wi-{width}, CNN-{depth}/Wi-{width},
        Linear, ResNet-18, ResNet-152, or a registered name.
    norm : str
        Normalization before each block (MLP: before each hidden layer but the first): layer, batch or none. A CNN's
        "layer" is GroupNorm. ResNets have "batch", after each convolution, and it has to be said.
    activation : str or None
        gelu, relu or tanh; None: relu for S-MLP (the paper's text), MLP and ResNets, gelu for the others and the
        authors' variant. ResNets have no other.
    dropout : float
        Probability, in [0, 1), that a hidden unit is dropped after its activation.
    skip : bool or None
        Residual connection around each block; None: B-MLP and ResNets have it, the others do not.
    parametrization : str
        standard (PyTorch's initialization), ntk or mup.
    output_scale : float
        Factor on the logits; large is lazy, small is rich.
    base_width : int
        muP: the width at which it equals the standard parametrization.
    variant : str
        paper, or authors: S-MLP as in the authors' code (LayerNorm, GELU, then the matrix; depth - 1 blocks).

    Raises
    ------
    InputError
        For a malformed or unknown name, a value out of range, or an option that the family does not have.

    Examples
    --------
    >>> config = ModelConfig(name="B-6/Wi-512", dropout=0.1)
    >>> config.parsed.depth, config.parsed.width, config.norm
    (6, 512, 'layer')
    """

    name: str = "B-3/Wi-256"
    norm: Norm = "layer"
    activation: Activation | None = None
    dropout: float = 0.0
    skip: bool | None = None
    parametrization: Parametrization = "standard"
    output_scale: float = 1.0
    base_width: int = 256
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        family = self.parsed.family
        _one_of("norm", self.norm, get_args(Norm))
        if self.activation is not None:
            _one_of("activation", self.activation, get_args(Activation))
        _one_of("parametrization", self.parametrization, get_args(Parametrization))
        _one_of("variant", self.variant, get_args(Variant))
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise invalid("dropout", self.dropout, "a probability in [0, 1)")
        if self.skip is not None and not isinstance(self.skip, bool):
            raise invalid("skip", self.skip, "True, False or None")
        if not _is_number(self.output_scale) or not 0 < self.output_scale < math.inf:
            raise invalid("output_scale", self.output_scale, "a finite number above 0")
        if not isinstance(self.base_width, int) or isinstance(self.base_width, bool) or self.base_width < 1:
            raise invalid("base_width", self.base_width, "an integer of at least 1")
        if family in ("CNN", "MLP") and self.skip:
            raise invalid("skip", self.skip, f"False or None for {self.name!r}, which has no residual connections")
        if family in ("CNN", "MLP") and self.variant != "paper":
            raise invalid(
                "variant", self.variant, f"'paper' for {self.name!r}: the authors' variant is of S- and B-MLP"
            )
        if family == "Linear":
            self._allow_only(_LINEAR, "which has no hidden layer")
        if family in RESNETS:
            self._allow_only(_RESNET, "whose architecture is He et al.'s")

    def _allow_only(self, allowed: Mapping[str, tuple[Any, ...]], reason: str) -> None:
        for option, values in allowed.items():
            if getattr(self, option) not in values:
                expected = " or ".join(map(repr, values))
                raise invalid(option, getattr(self, option), f"{expected} for {self.name!r}, {reason}")

    @property
    def parsed(self) -> ParsedName:
        """What the name says."""
        return parse_name(self.name)

    def resolved(self) -> ModelConfig:
        """Return the same model with the architecture's own choices written out where a field is None.

        Returns
        -------
        ModelConfig
            With `skip` set, and `activation` unless the model has no hidden layer.

        Examples
        --------
        >>> config = ModelConfig(name="S-6/Wi-1024").resolved()
        >>> config.activation, config.skip
        ('relu', False)
        """
        family = self.parsed.family
        relu = family in ("MLP", *RESNETS) or (family == "S" and self.variant == "paper")
        activation = None if family == "Linear" else self.activation or ("relu" if relu else "gelu")
        skip = family in ("B", *RESNETS) if self.skip is None else self.skip
        return dataclasses.replace(self, activation=activation, skip=skip)


def _one_of(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown_name(argument, value, allowed)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
