"""What a file of weights has to be: of the kind it claims, with a model's tensors, no more and no fewer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlptheory.base import DamagedFileError, InputError, invalid
from mlptheory.models.config import ModelConfig
from mlptheory.models.factory import model_from_config
from mlptheory.models.module import ImageModel

SAFETENSORS = "a safetensors file"
ZIP = "a zip archive, as torch.save writes them"
PICKLE = "a pickle"

_TITLE = re.compile(rb"<title[^>]*>([^<]{1,80})", re.IGNORECASE)


def kind_of(content: bytes) -> str:
    """Say what a file is, by how it begins.

    Examples
    --------
    >>> kind_of(b"<!DOCTYPE html><title>Quota exceeded</title>")
    "an HTML page (title 'Quota exceeded')"
    """
    # Eight bytes with the length of the header, a table in JSON. First, as a length may look like anything else.
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < 100_000_000:
        return SAFETENSORS
    text = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        return "an empty file"
    if text[:1] == b"<":
        title = _TITLE.search(text)
        named = f" (title {' '.join(title[1].decode(errors='replace').split())!r})" if title else ""
        return f"an HTML page{named}"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file that it points to"
    if content.startswith(b"PK\x03\x04"):
        return ZIP
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    return "a text in JSON" if text[:1] in (b"{", b"[") else "of no kind that is known here"


def read_file(path: Path, expected: str, most: int = -1) -> bytes:
    """Return a file's content, or the most bytes that are wanted; where it cannot be read, say what it should be."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): expected {expected}") from error


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """Return the table in a JSON file; anything else is refused by what it is."""
    content = read_file(path, expected)
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        found = kind_of(content)
        reason = "broken" if found == "a text in JSON" else found
        raise DamagedFileError(f"{path}: {reason} ({error}): expected {expected}") from error
    if not isinstance(plain, dict):
        raise DamagedFileError(f"{path}: a {type(plain).__name__} in JSON: expected {expected}")
    return plain


def describe(model: ImageModel) -> str:
    """Return a model's name, input and classes as part of a sentence."""
    return f"{model.config.name} for images of {model.input_shape} and {model.num_classes} classes"


def refuse_other_tensors(where: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise unless two state dicts have the same keys and shapes; every difference is named, with its shapes.

    Parameters
    ----------
    where : str
        Begins the message: the file, and what was expected of it.
    found, expected : mapping of str to Tensor
        Those expected may be on the meta device; only shapes, and whether they are floating-point, count.

    Raises
    ------
    InputError
        On one line, with all missing and unexpected keys and all other shapes.
    """
    differences = [f"missing {name} {tuple(expected[name].shape)}" for name in expected if name not in found]
    differences += [f"unexpected {name} {tuple(found[name].shape)}" for name in sorted(found.keys() - expected.keys())]
    for name in (name for name in expected if name in found):
        shape, wanted = tuple(found[name].shape), tuple(expected[name].shape)
        if shape != wanted:
            differences.append(f"{name} has shape {shape}, expected {wanted}")
        elif found[name].is_floating_point() != expected[name].is_floating_point():
            kind = "a floating-point one" if expected[name].is_floating_point() else "integers"
            differences.append(f"{name} {shape} has dtype {found[name].dtype}, expected {kind}")
    if differences:
        raise InputError(f"{where}: {'; '.join(differences)}")


def refuse_unless_as_built(model: nn.Module) -> None:
    """Raise unless a model's tensors are those of the configuration it carries.

    Raises
    ------
    InputError
        For a model that was not built by name, for one whose layers were exchanged afterwards, or without numbers.
    """
    if not isinstance(model, ImageModel):
        raise InputError(
            f"model: a {type(model).__name__}: expected a model built by mlptheory.models.build "
            "(of one in a wrapper, give what it wraps)"
        )
    found = model.state_dict()
    on_meta = [name for name, tensor in found.items() if tensor.is_meta]
    if on_meta:
        raise InputError(f"model: {on_meta[0]} is on the meta device: expected a model that holds numbers")
    expected = without_numbers(model.config, model.input_shape, model.num_classes).state_dict()
    refuse_other_tensors(f"model: not {describe(model)} as it was built", found, expected)


def without_numbers(config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a model on the meta device, where it costs no memory, to be compared or filled."""
    channels, *size = input_shape
    try:
        with torch.device("meta"):
            return model_from_config(config, image_size=tuple(size), channels=channels, num_classes=num_classes, seed=0)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{config.name} for images of {input_shape} cannot be built ({reason})") from error


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device, once it has proved that it can hold a tensor."""
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise invalid("device", device, f"one that torch can use here ({reason})") from error
