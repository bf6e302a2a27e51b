"""A model as two files: its weights as safetensors, and what they are as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from mlptheory.base import DamagedFileError, InputError
from mlptheory.base.configuration import from_plain, to_plain
from mlptheory.base.files import sha256, writable_folder, write_atomically
from mlptheory.models.config import ModelConfig
from mlptheory.models.strict_loading import (
    SAFETENSORS,
    describe,
    kind_of,
    read_file,
    read_json,
    refuse_other_tensors,
    refuse_unless_as_built,
    usable_device,
    without_numbers,
)

WEIGHTS = "model.safetensors"
RECIPE = "model.json"
_FORMAT = "mlptheory model"
_VERSION = 1


@dataclass(frozen=True)
class _Weights:
    size: int
    sha256: str


@dataclass(frozen=True)
class _Recipe:
    format: str
    version: int
    model: ModelConfig
    input_shape: tuple[int, int, int]
    num_classes: int
    about: Any
    weights: _Weights


def save_model(folder: str | os.PathLike[str], model: nn.Module, *, about: Mapping[str, Any] | None = None) -> None:
    """Write a model as ``model.safetensors`` and ``model.json``.

    The JSON holds the format's version, every field of the model's configuration, the shape of its input, the number
    of classes, `about`, and size and SHA-256 of the weights. Each file is written beside, synced and renamed, the
    JSON last: of a save that was cut off, nothing can be loaded as if it were whole.

    Parameters
    ----------
    folder : path-like
        Created if need be; a model that is there is replaced.
    model : nn.Module
        As `build` returns it. Its weights are written in the dtype they have, from whatever device.
    about : mapping, optional
        Anything plain that a reader should know: the recipe, the data set, how images are normalized.

    Raises
    ------
    InputError
        If the model was not built by name, or is no longer what its configuration says (a head was exchanged: the
        keys and shapes are named); if `about` is not plain data; if the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from mlptheory.models import build
    >>> model = build("B-1/Wi-16", image_size=8, channels=1, num_classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(folder, model, about={"dataset": "digits", "mean": 0.31, "std": 0.37})
    ...     loaded = load_model(folder)
    >>> x = torch.zeros(2, 1, 8, 8)
    >>> torch.equal(loaded(x), model(x))
    True
    """
    refuse_unless_as_built(model)
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    )
    recipe = _Recipe(
        format=_FORMAT,
        version=_VERSION,
        model=model.config,
        input_shape=model.input_shape,
        num_classes=model.num_classes,
        about=about,
        weights=_Weights(size=len(weights), sha256=sha256(weights)),
    )
    try:
        text = json.dumps(to_plain(recipe), indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"about: expected plain data, finite numbers and texts in tables and lists ({error})"
        ) from error
    target = writable_folder("folder", folder)
    write_atomically(target / WEIGHTS, weights)
    write_atomically(target / RECIPE, text + "\n")


def load_model(folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> nn.Module:
    """Read a model that `save_model` wrote.

    Strict both ways: the weights must be the very bytes that were saved, and hold the model's tensors, no more and no
    fewer, in their shapes. No code from the files is run. The global random state is left alone.

    Parameters
    ----------
    folder : path-like
        Holds ``model.safetensors`` and ``model.json``.
    device : str or torch.device
        Where the weights go, wherever they were saved from.

    Returns
    -------
    nn.Module
        In evaluation mode, each tensor in the dtype it was saved in.

    Raises
    ------
    InputError
        Naming the file, what was found and what was expected: no such folder or file; a JSON that is broken, of a
        newer format or of an unknown model; weights that are not those the JSON speaks of (an HTML page, a pickle, a
        Git LFS pointer, a file that was cut off); keys that are missing or unexpected and shapes that differ, all of
        them; a device that is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     load_model(folder)
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: .../model.json: cannot be read (No such file or directory): expected ...
    """
    place, device = Path(folder), usable_device(device)
    if not place.is_dir():
        found = "is a file" if place.exists() else "is not there"
        raise InputError(f"folder = {str(folder)!r}: {found}: expected a folder with {RECIPE} and {WEIGHTS}")
    recipe = _read_recipe(place / RECIPE)
    weights = _read_weights(place / WEIGHTS, recipe.weights)
    with _said_of(place / RECIPE):
        model = without_numbers(recipe.model, recipe.input_shape, recipe.num_classes)
    refuse_other_tensors(
        f"{place / WEIGHTS}: not the weights of {describe(model)} ({RECIPE})", weights, model.state_dict()
    )
    model.load_state_dict({name: tensor.to(device) for name, tensor in weights.items()}, assign=True)
    return model.eval()


def _read_recipe(path: Path) -> _Recipe:
    plain = read_json(path, "what save_model wrote about a model")
    if plain.get("format") != _FORMAT:
        raise InputError(f"{path}: format = {plain.get('format')!r}: expected {_FORMAT!r}, as save_model writes it")
    version = plain.get("version")
    if type(version) is int and version > _VERSION:
        raise InputError(
            f"{path}: version = {version}: expected {_VERSION}; a newer mlptheory wrote this, and can read it"
        )
    if version != _VERSION:
        raise InputError(f"{path}: version = {version!r}: expected {_VERSION}")
    with _said_of(path):
        recipe = from_plain(_Recipe, plain)
        # from_plain would fill a gap with a default, and the next version's defaults may be others.
        gaps = [field.name for field in fields(ModelConfig) if field.name not in plain["model"]]
        if gaps:
            raise InputError(f"model.{gaps[0]}: required, but absent")
    return recipe


def _read_weights(path: Path, promised: _Weights) -> dict[str, torch.Tensor]:
    expected = f"{SAFETENSORS} of {promised.size} bytes, as {RECIPE} says"
    content = read_file(path, expected)
    digest, found = sha256(content), kind_of(content)
    if found != SAFETENSORS:
        raise DamagedFileError(f"{path}: {found}: expected {expected}")
    if len(content) != promised.size:
        cut = " (cut off)" if len(content) < promised.size else ""
        raise DamagedFileError(f"{path}: {len(content)} bytes{cut}: expected {expected}")
    if digest != promised.sha256:
        raise DamagedFileError(f"{path}: SHA-256 {digest}: expected {promised.sha256}, as {RECIPE} says")
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError) as error:
        raise DamagedFileError(f"{path}: broken ({error}): expected {SAFETENSORS}") from error


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Let errors about values name the file they are from."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
