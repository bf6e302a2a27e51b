"""The labels of a .beton file: one for each image, or all that are right (ReaL)."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable

import numpy as np

from mlptheory.base import DamagedFileError, InputError
from mlptheory.data.beton_layout import INT, JSON, BetonLayout
from mlptheory.data.ffcv_decoding import memory_of
from mlptheory.data.ffcv_library import compiling_for, memory_read


def read_labels(layout: BetonLayout) -> np.ndarray | list[list[int]]:
    """Read the labels of a .beton file.

    Parameters
    ----------
    layout : BetonLayout

    Returns
    -------
    ndarray of int64, shape (N,), or list of lists of int
        One label each, or lists of all that are right. In a field of arrays negative numbers fill up the row, as
        a field has one length for all; an array of one number is one label.

    Raises
    ------
    InputError
        If they are no integers, or not lists of them; where one is expected, if it is negative.
    DamagedFileError
        If they cannot be decoded.
    """
    if layout.kinds["label"] == INT:
        return _single(layout, layout.entry("label").copy())
    try:
        found = _decoded(layout)
        rows = _parsed(found) if layout.kinds["label"] == JSON else found
    except (ValueError, IndexError, KeyError, TypeError, AssertionError, SyntaxError) as error:
        raise DamagedFileError(f"{layout.path}: labels that cannot be decoded ({error})") from error
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
            raise InputError(
                f"path = {str(layout.path)!r}: labels of {rows.dtype} of shape {rows.shape[1:]}: expected a list of "
                f"integers"
            )
        if rows.shape[1] == 1:
            return _single(layout, rows[:, 0].astype(np.int64))
        return [[label for label in row if label >= 0] for row in rows.tolist()]
    for example, row in enumerate(rows):
        if not isinstance(row, list) or not all(type(label) is int and label >= 0 for label in row):
            raise InputError(
                f"path = {str(layout.path)!r}: example {example} has label {reprlib.repr(row)}: expected a list of "
                f"integers of at least 0"
            )
    return rows


def _single(layout: BetonLayout, labels: np.ndarray) -> np.ndarray:
    if labels.min() < 0:
        first = int(np.argmax(labels < 0))
        raise InputError(
            f"path = {str(layout.path)!r}: example {first} has label {labels[first]}: expected an integer of at least 0"
        )
    return labels


def _decoded(layout: BetonLayout) -> np.ndarray:
    """Decode the field with FFCV's own decoder."""
    import torch
    from ffcv.pipeline.state import State
    from ffcv.reader import Reader

    field = Reader(layout.path).handlers["label"]
    entries = layout.entry("label")
    if layout.kinds["label"] == JSON:
        layout.require(layout.size_of(entries["ptr"]) == entries["size"], "has a label of another length")
    else:
        expected = np.dtype(field.dtype).itemsize * int(np.prod(field.shape))
        layout.require(layout.size_of(entries) == expected, "has a label of another length")
    decoder = field.get_decoder_class()()
    decoder.accept_field(field)
    decoder.accept_globals(entries, memory_read())
    state = State(jit_mode=True, device=torch.device("cpu"), dtype=np.dtype("u1"), shape=None)
    _, wanted = decoder.declare_state_and_memory(state)
    found = np.zeros((layout.samples, *wanted.shape), wanted.dtype)
    return _compiled(type(decoder))(np.arange(layout.samples), found, entries, memory_of(layout))


@functools.cache
def _compiled(decoder: type) -> Callable:
    from ffcv.pipeline.compiler import Compiler

    with compiling_for(1):
        operation = decoder()
        operation.accept_globals(None, memory_read())
        return Compiler.compile(operation.generate_code())


def _parsed(texts: np.ndarray) -> list:
    from ffcv.fields import JSONField

    # One number stands for the list of it.
    return [[value] if type(value) is int else value for value in JSONField.unpack(texts)]
