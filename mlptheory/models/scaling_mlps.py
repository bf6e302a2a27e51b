"""Checkpoints in the format of the authors of "Scaling MLPs" (Bachmann, Anagnostidis & Hofmann 2023)."""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from mlptheory.base import InputError, invalid
from mlptheory.base.files import writable_folder, write_atomically
from mlptheory.models.mlp import BMLP, SMLP
from mlptheory.models.scaling_mlps_config import CONFIG, configs_beside, network_of, their_config
from mlptheory.models.strict_loading import (
    PICKLE,
    ZIP,
    describe,
    kind_of,
    read_file,
    read_json,
    refuse_other_tensors,
    refuse_unless_as_built,
    usable_device,
    without_numbers,
)

_STATE = "a state dict that torch.save wrote, names to tensors"
_WRAPPERS = ("module.", "_orig_mod.")
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


def load_scaling_mlps(
    weights: str | os.PathLike[str],
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    device: str | torch.device = "cpu",
) -> BMLP | SMLP:
    r"""Read a checkpoint of the authors' code, strictly.

    Their B-MLP is ours. Their S-MLP, :math:`z_l = W_l \operatorname{GELU}(\operatorname{LN}(z_{l-1})) + b_l` with
    L - 1 matrices for depth L, is that of ``variant="authors"``. Images are flattened in (C, H, W) order in both.
    What acts in training only, such as dropout, is not taken over.

    Parameters
    ----------
    weights : path-like
        What their ``torch.save(model.state_dict(), path)`` wrote. Only tensors are read from it: a pickle that would
        call anything else is refused before it does. ``module.`` or ``_orig_mod.`` before every key, from a wrapper,
        is taken off.
    config : path-like or mapping, optional
        Their config: model, architecture ("B_12-Wi_1024", with an optional third part for the expansion),
        normalization, crop_resolution, num_classes; and, from their later code, act and num_channels where they
        are not gelu and 3. Other entries are about training and not looked at. By default the file beside the
        weights: ``NAME_config`` for ``NAME_weights``, or ``config.txt``. Where there is neither, depth, width,
        expansion, classes and normalization follow from keys and shapes, and the rest is taken to be as in the
        paper: GELU, and square images in 3 channels.
    device : str or torch.device
        Where the weights go, wherever they were saved from.

    Returns
    -------
    BMLP or SMLP
        In evaluation mode, each tensor in the dtype it was saved in.

    Raises
    ------
    InputError
        Naming the file, what was found and what was expected: an HTML page, a Git LFS pointer, a pickle that calls
        code, a damaged file; a config that lacks something or says what their code does not know; keys that are
        missing or unexpected and shapes that differ, all of them.

    Warns
    -----
    UserWarning
        For an S-MLP: in the authors' first release it had no nonlinearity at all, and its files look the same.

    Examples
    --------
    >>> import tempfile
    >>> from mlptheory.models import build
    >>> model = build("B-2/Wi-16", image_size=8, num_classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_scaling_mlps(f"{folder}/epoch_1", model, dataset="cifar10")
    ...     loaded = load_scaling_mlps(f"{folder}/epoch_1")
    >>> x = torch.ones(2, 3, 8, 8)
    >>> torch.equal(loaded(x), model(x))
    True
    """
    path, device = Path(weights), usable_device(device)
    state = _without_wrappers(_read_state(path))
    network = network_of(path, state, config)
    model = without_numbers(*network)
    theirs = _in_their_tree(model)
    refuse_other_tensors(f"{path}: not the weights of {describe(model)}", state, theirs.state_dict())
    if isinstance(model, SMLP):
        warnings.warn(
            f"{path}: an S-MLP, read as the authors' code now has it; files of its first release, which had no "
            "nonlinearity, look the same",
            stacklevel=2,
        )
    # A copy of each: tensors of one file may share their memory, and a slice would keep the whole.
    copies = {name: tensor.detach().to(device, copy=True).contiguous() for name, tensor in state.items()}
    theirs.load_state_dict(copies, assign=True)
    return model.eval()


def export_scaling_mlps(
    weights: str | os.PathLike[str],
    model: nn.Module,
    config: str | os.PathLike[str] | None = None,
    *,
    dataset: str,
    crop_resolution: int | None = None,
) -> None:
    """Write a B-MLP in the authors' format: a state dict by torch.save, and a JSON config.

    A checkpoint that was loaded from their format is written again with the same keys in the same order and the same
    bits; under the same file name, and from the CPU, by the same version of PyTorch, it is the same file.

    Parameters
    ----------
    weights : path-like
        The file to write; its folder is created if need be.
    model : BMLP
        In the standard parametrization with GELU, skips and an output scale of 1, on square images. Its dropout does
        not matter, and is not written down.
    config : path-like, optional
        The config to write. By default ``NAME_config`` for ``NAME_weights``, else ``config.txt`` in the same folder,
        where the authors' code looks for it; one that is there already and says anything else is not overwritten.
    dataset : str
        What the model was trained on, in the authors' spelling: imagenet21, imagenet, cifar10, cifar100, ...
    crop_resolution : int, optional
        Height and width of the images; by default, and necessarily, those of the model.

    Raises
    ------
    InputError
        Naming every option of the model for which their format has no place; if the model is not as it was built.

    Examples
    --------
    >>> import tempfile
    >>> from mlptheory.models import build
    >>> model = build("B-2/Wi-16/E-2", image_size=8, num_classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_scaling_mlps(f"{folder}/small_weights", model, dataset="cifar10")
    ...     print((Path(folder) / "small_config").read_text())
    {
      "model": "BottleneckMLP",
      "architecture": "B_2-Wi_16-E_2",
      "normalization": "layer",
      "crop_resolution": 8,
      "dataset": "cifar10",
      "num_classes": 10
    }
    """
    _refuse_what_has_no_place(model)
    if not isinstance(dataset, str) or not dataset:
        raise invalid("dataset", dataset, "a name")
    resolution = model.input_shape[1]
    if crop_resolution is not None and crop_resolution != resolution:
        raise invalid("crop_resolution", crop_resolution, f"{resolution}, the size of the model's images")
    path = Path(weights)
    writable_folder("weights", path.parent)
    plain = their_config(model, dataset)
    config_path = Path(config) if config is not None else configs_beside(path)[0]
    writable_folder("config", config_path.parent)
    if config is None and config_path.exists() and read_json(config_path, CONFIG) != plain:
        raise InputError(f"{config_path}: is of something else already; name another file for this model's, config=...")
    state = _in_their_tree(model).state_dict()
    for name, tensor in state.items():
        state[name] = tensor.detach().to("cpu", copy=True).contiguous()
    write_atomically(path, _saved_as(path.name, state))
    write_atomically(config_path, json.dumps(plain, indent=2))


def _in_their_tree(model: BMLP | SMLP) -> nn.Module:
    """Hang a model's layers into the authors' tree of modules, whose state dict has their keys in their order."""
    theirs = nn.Module()
    theirs.linear_in = model.embedding
    theirs.linear_out = model.head
    if isinstance(model, BMLP):
        theirs.blocks = nn.ModuleList(nn.Module() for _ in model.blocks)
        for their_block, block in zip(theirs.blocks, model.blocks, strict=True):
            their_block.block = nn.Sequential(block.expand, block.activation, block.contract)
    else:
        theirs.layers = nn.ModuleList(block.linear for block in model.blocks)
    theirs.layernorms = nn.ModuleList(block.norm for block in model.blocks)
    return theirs


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    found = kind_of(read_file(path, _STATE, most=4096))
    if found not in (ZIP, PICKLE):
        raise InputError(f"{path}: {found}: expected {_STATE}")
    try:
        with path.open("rb") as file:
            if found == ZIP:
                _check_sums(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        found = f"a pickle that calls {forbidden[1].rstrip('.')}, which was not run" if forbidden else "a broken pickle"
        raise InputError(f"{path}: {found}: expected {_STATE}") from error
    # Bytes that are not what they seem can make the reader fail in any way.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: damaged ({type(error).__name__}: {reason}): expected {_STATE}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}: expected {_STATE}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name!r} is a {type(value).__name__}: expected {_STATE}")
        if value.layout != torch.strided:
            raise InputError(f"{path}: {name!r} has layout {value.layout}: expected dense tensors")
    return state


def _check_sums(file: BinaryIO) -> None:
    """Compare an archive with its checksums: torch does not, and a flipped bit would be a weight like any other."""
    with zipfile.ZipFile(file) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(f"{broken} does not match its checksum")
    file.seek(0)


def _without_wrappers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            return _without_wrappers({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state


def _refuse_what_has_no_place(model: nn.Module) -> None:
    refuse_unless_as_built(model)
    config = model.config
    if not isinstance(model, BMLP):
        raise invalid("model", config.name, "a B-MLP, as the authors' checkpoints are")
    wanted = {"parametrization": "standard", "output_scale": 1, "activation": "gelu", "skip": True}
    others = [f"{name} = {getattr(config, name)!r}" for name, value in wanted.items() if getattr(config, name) != value]
    if model.input_shape[1] != model.input_shape[2]:
        others.append(f"images of {model.input_shape[1]} x {model.input_shape[2]}")
    if others:
        raise InputError(
            f"model = {config.name!r}: the authors' format has no place for {', '.join(others)}: expected the standard "
            "parametrization, an output scale of 1, GELU, skips and square images"
        )


def _saved_as(name: str, state: dict[str, torch.Tensor]) -> bytes:
    """Return what torch.save writes into a file of this name, which becomes part of the content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        torch.save(state, path)
        return path.read_bytes()
