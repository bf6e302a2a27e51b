"""What the authors of "Scaling MLPs" write beside a checkpoint: which network its weights are of."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mlptheory.base import InputError, invalid
from mlptheory.base.configuration import require_choice, require_integer
from mlptheory.models.config import ModelConfig
from mlptheory.models.mlp import BMLP
from mlptheory.models.names import DEFAULT_EXPANSION
from mlptheory.models.strict_loading import read_json

CONFIG = "the authors' config, a JSON table with model, architecture, normalization, crop_resolution and num_classes"
_KINDS = ("BottleneckMLP", "MLP")
_NORMS = ("layer", "batch", "none")
_ACTIVATIONS = ("gelu", "relu")
_ARCHITECTURE = re.compile(r"[A-Za-z]+_(\d{1,9})-[A-Za-z]+_(\d{1,9})(?:-[A-Za-z]+_(\d{1,9}))?")


class Network(NamedTuple):
    """A network but for its weights.

    Attributes
    ----------
    config : ModelConfig
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
    """

    config: ModelConfig
    input_shape: tuple[int, int, int]
    num_classes: int


def configs_beside(weights: Path) -> list[Path]:
    """Return where the authors' code puts the config of a checkpoint: its download, and its training."""
    stem = weights.name.removesuffix("_weights")
    downloaded = [weights.with_name(f"{stem}_config")] if stem != weights.name else []
    return [*downloaded, weights.with_name("config.txt")]


def network_of(path: Path, state: dict[str, torch.Tensor], config: Any) -> Network:
    """Return the network that weights are of: by the config that is given, the one beside them, or their shapes."""
    if isinstance(config, Mapping):
        return _configured("config", config)
    if config is not None and not isinstance(config, (str, os.PathLike)):
        raise invalid("config", config, "a path or a table")
    candidates = [Path(config)] if config is not None else [file for file in configs_beside(path) if file.exists()]
    if candidates:
        return _configured(str(candidates[0]), read_json(candidates[0], CONFIG))
    return _derived(path, state)


def _configured(where: str, plain: Mapping[str, Any]) -> Network:
    """Read what a config says of the network, as the authors' factory reads it."""
    for name in ("model", "architecture", "normalization", "crop_resolution", "num_classes"):
        if name not in plain:
            raise InputError(f"{where}: no {name!r}: expected {CONFIG}")
    require_choice(f"{where}: model", plain["model"], _KINDS)
    require_choice(f"{where}: normalization", plain["normalization"], _NORMS)
    # Both are options of their factory that only some of their configs write down.
    plain = {"act": "gelu", "num_channels": 3, **plain}
    require_choice(f"{where}: act", plain["act"], _ACTIVATIONS)
    for name in ("crop_resolution", "num_classes", "num_channels"):
        require_integer(f"{where}: {name}", plain[name], 1)
    architecture = plain["architecture"]
    match = _ARCHITECTURE.fullmatch(architecture) if isinstance(architecture, str) else None
    if match is None:
        raise invalid(f"{where}: architecture", architecture, "a depth and a width, as in 'B_12-Wi_1024'")
    depth, width, expansion = (None if number is None else int(number) for number in match.groups())
    if 0 in (depth, width, expansion):
        raise invalid(f"{where}: architecture", architecture, "numbers of at least 1")
    model_config = _model_config(plain["model"], depth, width, expansion, plain["normalization"], plain["act"])
    shape = (plain["num_channels"], plain["crop_resolution"], plain["crop_resolution"])
    return Network(model_config, shape, plain["num_classes"])


def _model_config(kind: str, depth: int, width: int, expansion: int | None, norm: str, act: str) -> ModelConfig:
    if kind == "MLP":
        # Their S-MLP takes no notice of the expansion and the activation.
        return ModelConfig(name=f"S-{depth}/Wi-{width}", norm=norm, variant="authors")
    tail = "" if expansion in (None, DEFAULT_EXPANSION) else f"/E-{expansion}"
    return ModelConfig(name=f"B-{depth}/Wi-{width}{tail}", norm=norm, activation=act)


def _derived(path: Path, state: dict[str, torch.Tensor]) -> Network:
    """Find the network from keys and shapes; what is inconsistent beyond that is refused with all other differences."""

    def unclear(reason: str) -> InputError:
        found = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()) or "nothing"
        return InputError(f"{path}: {reason}, and there is no config beside it: expected {CONFIG} (holds {found})")

    def shape(name: str) -> tuple[int, int]:
        if name not in state or state[name].dim() != 2 or 0 in state[name].shape:
            raise unclear(f"no matrix {name}")
        return tuple(state[name].shape)

    width, pixels = shape("linear_in.weight")
    num_classes = shape("linear_out.weight")[0]
    resolution = math.isqrt(pixels // 3)
    if 3 * resolution**2 != pixels:
        raise unclear(f"{pixels} inputs are no square image in 3 channels")
    blocks, layers = (_how_many(state, f"{group}.") for group in ("blocks", "layers"))
    if bool(blocks) == bool(layers):
        raise unclear("neither a B-MLP nor an S-MLP by its keys")
    if "layernorms.0.weight" not in state:
        raise unclear("no layernorms.0.weight")
    norm = "batch" if "layernorms.0.running_mean" in state else "layer"
    if blocks:
        hidden = shape("blocks.0.block.0.weight")[0]
        if hidden % width:
            raise unclear(f"{hidden} hidden units are no multiple of the width {width}")
        config = _model_config("BottleneckMLP", blocks, width, hidden // width, norm, "gelu")
    else:
        config = _model_config("MLP", layers + 1, width, None, norm, "gelu")
    return Network(config, (3, resolution, resolution), num_classes)


def _how_many(state: dict[str, torch.Tensor], group: str) -> int:
    """Return how many different names follow a prefix."""
    return len({name.removeprefix(group).partition(".")[0] for name in state if name.startswith(group)})


def their_config(model: BMLP, dataset: str) -> dict[str, Any]:
    """Return what the authors' code needs to know of a model, in the order in which it is written."""
    channels, resolution, _ = model.input_shape
    depth, width, expansion = model.parsed.depth, model.parsed.width, model.parsed.expansion
    tail = "" if expansion == DEFAULT_EXPANSION else f"-E_{expansion}"
    plain = {
        "model": "BottleneckMLP",
        "architecture": f"B_{depth}-Wi_{width}{tail}",
        "normalization": model.config.norm,
        "crop_resolution": resolution,
        "dataset": dataset,
        "num_classes": model.num_classes,
    }
    return plain if channels == 3 else {**plain, "num_channels": channels}
