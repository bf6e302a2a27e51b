"""Names of models: families with a depth and a width, in the notation of Bachmann et al. (2023)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlptheory.base import InputError, Registry, invalid, nearest_names

models = Registry("model")
"""Families ("B" stands for every "B-{depth}/Wi-{width}") and full names, each mapped to its builder."""

models.register_lazily(
    "S", "mlptheory.models.mlp:build_smlp", summary="S-6/Wi-1024: S-MLP, 6 blocks of width 1024, one matrix each"
)
models.register_lazily(
    "B", "mlptheory.models.mlp:build_bmlp", summary="B-6/Wi-1024[/E-4]: B-MLP, inverted bottlenecks of expansion 4"
)
models.register_lazily(
    "MLP", "mlptheory.models.mlp:build_mlp", summary="MLP-2/Wi-200: the plain MLP, 2 hidden layers of width 200"
)
models.register_lazily(
    "CNN", "mlptheory.models.cnn:build_cnn", summary="CNN-3/Wi-32: 3 convolutions, 32 channels doubled at each stride"
)
models.register_lazily(
    "Linear", "mlptheory.models.linear:build_linear", summary="Linear: softmax regression, no hidden layer"
)
models.register_lazily(
    "ResNet-18", "mlptheory.models.resnet:build_resnet18", summary="ResNet-18: residual blocks of two 3x3 convolutions"
)
models.register_lazily(
    "ResNet-152", "mlptheory.models.resnet:build_resnet152", summary="ResNet-152: residual bottlenecks, as in Table 7"
)

BUILT_IN_FAMILIES = ("S", "B", "MLP", "CNN")
RESNETS = ("ResNet-18", "ResNet-152")
BUILT_IN_FULL_NAMES = ("Linear", *RESNETS)
PATTERN = (
    "S-{depth}/Wi-{width}, B-{depth}/Wi-{width}[/E-{expansion}], MLP-{depth}/Wi-{width}, CNN-{depth}/Wi-{width}, "
    "Linear, ResNet-18 or ResNet-152"
)
DEFAULT_EXPANSION = 4

_STRICT = re.compile(r"([A-Za-z][A-Za-z0-9]*)-([0-9]{1,9})/Wi-([0-9]{1,9})(?:/E-([0-9]{1,9}))?")
_LOOSE = re.compile(r"\s*([a-z]+)\W?_?(\d+)[\W_]+w(?:i|idth)?\W?_?(\d+)(?:[\W_]+e\W?_?(\d+))?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedName:
    """What a model's name says.

    Attributes
    ----------
    name : str
        The name as given.
    family : str
        "S", "B", "MLP", "CNN" or a registered one; the whole name for a model that has no other, such as "Linear".
    depth : int or None
        Number of blocks (MLP: of hidden layers); None for a full name.
    width : int or None
        Hidden units of the stream (B-MLP: of the residual stream; CNN: channels of the first block).
    expansion : int or None
        k, the hidden units of a bottleneck per unit of the stream; None where the family has none.
    """

    name: str
    family: str
    depth: int | None = None
    width: int | None = None
    expansion: int | None = None


def parse_name(name: str) -> ParsedName:
    """Read a model's name.

    Parameters
    ----------
    name : str
        ``S-{depth}/Wi-{width}``, ``B-{depth}/Wi-{width}[/E-{expansion}]``, ``MLP-{depth}/Wi-{width}``,
        ``CNN-{depth}/Wi-{width}``, ``Linear``, ``ResNet-18``, ``ResNet-152``, the same with a registered family, or a
        registered full name.

    Returns
    -------
    ParsedName

    Raises
    ------
    InputError
        If the name fits no pattern, its family is unknown, or one of its numbers is 0.

    Examples
    --------
    >>> parse_name("B-6/Wi-512/E-2")
    ParsedName(name='B-6/Wi-512/E-2', family='B', depth=6, width=512, expansion=2)
    >>> parse_name("B-6/Wi-512").expansion
    4
    """
    if not isinstance(name, str):
        raise invalid("model", name, f"a name like {PATTERN}")
    if name in models and name not in BUILT_IN_FAMILIES:
        return ParsedName(name=name, family=name)
    match = _STRICT.fullmatch(name)
    if match is None or match[1] not in models or match[1] in BUILT_IN_FULL_NAMES:
        raise _malformed(name, match)
    family = match[1]
    depth, width = int(match[2]), int(match[3])
    expansion = int(match[4]) if match[4] else None
    for quantity, value in (("depth", depth), ("width", width), ("expansion", expansion)):
        if value == 0:
            raise invalid("model", name, f"a {quantity} of at least 1 in {_pattern()}")
    if family in ("S", "MLP", "CNN") and expansion is not None:
        raise invalid("model", name, f"no expansion, which only B-MLPs have: {_pattern()}")
    if family == "B" and expansion is None:
        expansion = DEFAULT_EXPANSION
    return ParsedName(name=name, family=family, depth=depth, width=width, expansion=expansion)


def _pattern() -> str:
    others = [name for name in models if name not in (*BUILT_IN_FAMILIES, *BUILT_IN_FULL_NAMES)]
    return PATTERN + (f", or with a registered name: {', '.join(others)}" if others else "")


def _malformed(name: str, match: re.Match[str] | None) -> InputError:
    """Build the error, with the name that was probably meant."""
    meant = _suggestions(name)
    hint = f"; did you mean {' or '.join(repr(near) for near in meant)}?" if meant else ""
    problem = f"unknown family {match[1]!r}" if match else "malformed name"
    return InputError(f"model = {name!r}: {problem}{hint} (expected {_pattern()})")


def _suggestions(name: str) -> list[str]:
    loose = _LOOSE.fullmatch(name)
    if loose is None:
        return nearest_names(name, [known for known in models if known not in BUILT_IN_FAMILIES])
    known = [family for family in models if family not in BUILT_IN_FULL_NAMES]
    # A family of one letter is close to nothing in difflib's eyes, so the letters it contains decide.
    families = [family for family in known if family.casefold() == loose[1].casefold()]
    families = families or [family for family in known if loose[1].casefold().startswith(family.casefold())]
    families = families or nearest_names(loose[1], known)
    tail = f"-{int(loose[2])}/Wi-{int(loose[3])}" + (f"/E-{int(loose[4])}" if loose[4] else "")
    return [family + tail for family in families]
