"""The bytes that a kernel will take, from the shapes of a small pass, and the blocks that fit a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.measures.ntk.capture import Pass, watched_pass
from mlptheory.measures.ntk.contraction import cotangents_and_products, grams_are_cheaper
from mlptheory.measures.ntk.structure import Piece, Structure

GIB = 2**30


@dataclass(frozen=True)
class PieceSize:
    """What the memory and the time of one piece depend on.

    Attributes
    ----------
    outer : bool
    positions : int
        Rows that one example has in the factors of an outer piece.
    fan_in, fan_out : int
        Columns of the left and of the right factors.
    numel : int
        Of its parameters.
    """

    outer: bool
    positions: int
    fan_in: int
    fan_out: int
    numel: int

    def is_paired(self, rows: int, columns: int, classes: int, outputs: str) -> bool:
        """Tell whether a block of this size is computed from Gram matrices of factors, not from gradients."""
        positions = (self.positions, self.positions)
        return self.outer and grams_are_cheaper(
            (rows, columns), positions, (self.fan_in, self.fan_out), classes, outputs
        )


@dataclass(frozen=True)
class Footprint:
    """What the bytes that a kernel takes depend on.

    Attributes
    ----------
    copy : int
        The model's copy.
    check : int
        Gradients of single pieces, while the structure is held to autograd's.
    input : int
        An example's input.
    graph : int
        Of an example in a block: what its graph holds and its left factors.
    backward : int
        Of an example in a block: the gradients of one output that all layers are handed, and those on their way.
    rest : int
        Parameters without a structure.
    pieces : tuple of PieceSize
    classes : int
    outputs : str
    item : int
        Bytes of a number.
    result_per_pair : int
        Of the kernel itself; 0 if it is not held.
    """

    copy: int
    check: int
    input: int
    graph: int
    backward: int
    rest: int
    pieces: tuple[PieceSize, ...]
    classes: int
    outputs: str
    item: int
    result_per_pair: int

    def peak(self, n: int, m: int, chunk: int, symmetric: bool) -> int:
        """Return the bytes at the peak for an (n, m) kernel in blocks of `chunk` examples."""
        rows, columns = min(chunk, n), min(chunk, m)
        single, same = rows == n and columns == m, symmetric and chunk >= n
        examples = rows if same else rows + columns
        cotangents, products = cotangents_and_products(self.classes, self.outputs)
        entries = products if self.outputs == "full" else 1
        paired = [piece for piece in self.pieces if piece.is_paired(rows, columns, self.classes, self.outputs)]
        squares = [piece.positions**2 for piece in paired]
        largest = max(squares, default=0)
        formed = (sum(piece.numel for piece in self.pieces if piece not in paired) + self.rest) * self.item
        # For one block at a time, and one output, the rest takes a pass of its own, and its gradients are there twice
        # while they are put in one row.
        at_a_time = max(rows, 0 if same else columns)
        making = self.graph + self.rest * self.item if self.rest else 0
        if self.outputs == "full":
            right = sum(piece.positions * piece.fan_out for piece in paired) * self.item
            factors = examples * (formed + right) * cotangents + at_a_time * (formed + self.backward + making)
            # Beside the sum two products of one output with the others, with several positions weighted ones too.
            summing = entries + 2 * largest + (2 if largest <= 1 else 4) * self.classes * max(1, largest)
            after = entries
        else:
            factors = examples * (formed + self.backward) + at_a_time * making
            summing = sum(squares) + 1
            after = max(sum(squares) + largest + 1, 4 + largest if symmetric else 0)
        block, pairs = examples * self.graph, rows * columns * self.item
        working = max(block + factors + pairs * summing, block + pairs * after)
        result, last = n * m * self.result_per_pair, rows * columns * entries * self.item
        # A single block is the result. Of several, the one before is held until the next is there.
        held = working if single else working + result + last
        inputs = (n if symmetric else n + m) * self.input
        return self.copy + inputs + max(held, self.check)


def probing_pass(model: nn.Module, examples: torch.Tensor, label: Callable[[int], str]) -> tuple[Pass, dict[int, int]]:
    """Run the model on a few examples; return the pass, and the bytes that it holds by their address.

    Parameters, which are there anyway, count for nothing.
    """
    held: dict[int, torch.Tensor] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        # Detached: an operation that saves its own output would hold itself, in a cycle that no collector sees.
        held[saved.untyped_storage().data_ptr()] = saved.detach()
        return held[saved.untyped_storage().data_ptr()]

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        watched = watched_pass(model, examples, label)
    found = {pointer: saved.untyped_storage().nbytes() for pointer, saved in held.items()}
    there = (*model.parameters(), *model.buffers())
    return watched, found | {value.untyped_storage().data_ptr(): 0 for value in there}


def footprint(model: nn.Module, structure: Structure, watched: Pass, held: dict[int, int], outputs: str) -> Footprint:
    """Return what the bytes of a kernel depend on, from a pass of a few examples and what it holds.

    Parameters
    ----------
    model : nn.Module
        The copy that is measured.
    structure : Structure
    watched : Pass
    held : dict of int to int
        Bytes by address, from `probing_pass`.
    outputs : str
    """
    item, (n, classes) = watched.outputs.element_size(), watched.outputs.shape
    shapes = [call.shape.numel() // n * item for call in watched.calls]
    pieces = tuple(piece_size(model, piece, watched) for piece in structure.pieces)
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    return Footprint(
        copy=sum(sizes),
        check=_check_numbers(pieces) * item,
        input=watched.inputs.numel() // n * item,
        graph=(sum(held.values()) + _left_bytes(watched, structure, set(held))) // n,
        backward=sum(shapes) + 2 * max(shapes, default=0),
        rest=sum(model.get_parameter(name).numel() for name in structure.rest),
        pieces=pieces,
        classes=classes,
        outputs=outputs,
        item=item,
        result_per_pair=(classes**2 if outputs == "full" else 1) * item,
    )


def _check_numbers(pieces: Sequence[PieceSize]) -> int:
    """Return how many numbers are held while the pieces are checked, one after the other.

    Autograd's gradient of a piece, beside that of the piece before; of one without factors also its own, and both
    flattened.
    """
    own = [piece.numel * (1 if piece.outer else 4) for piece in pieces]
    return max((a + b for a, b in zip([0, *own], own, strict=False)), default=0)


def piece_size(model: nn.Module, piece: Piece, watched: Pass) -> PieceSize:
    """Return the sizes of a piece in a pass."""
    numel = sum(model.get_parameter(name).numel() for name in piece.parameters)
    if not piece.outer:
        return PieceSize(False, 1, 0, 0, numel)
    _, positions, fan_in = piece.left(watched).shape
    fan_out = watched.calls[piece.uses[0][0]].rule.module.weight.shape[0]
    return PieceSize(True, positions, fan_in, fan_out, numel)


def _left_bytes(watched: Pass, structure: Structure, counted: set[int]) -> int:
    """Return the bytes of left factors and of inputs of layers that are not among those already counted."""
    total = 0
    for piece in structure.pieces:
        for index, role in piece.uses:
            tensors = [watched.calls[index].inputs] + ([watched.left(index)] if role == "weight" else [])
            for tensor in tensors:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in counted:
                    counted.add(storage.data_ptr())
                    total += storage.nbytes()
    return total


def choose_chunk(needs: Footprint, n: int, m: int, symmetric: bool, chunk: int | None, memory_gib: float) -> int:
    """Return the largest number of examples a block whose peak is within the limit, evened out over the blocks.

    Raises
    ------
    InputError
        If not even one example a block is; with the numbers.
    """
    limit = memory_gib * GIB
    largest = max(n, m)
    low = chunk or 1
    if needs.peak(n, m, low, symmetric) > limit:
        peak, result = needs.peak(n, m, low, symmetric) / GIB, n * m * needs.result_per_pair / GIB
        raise InputError(
            f"memory_gib = {memory_gib:g}: a kernel of {n} x {m} examples takes {peak:.3g} GiB in blocks of {low} "
            f"(the kernel itself {result:.3g} GiB, the model's copy {needs.copy / GIB:.3g} GiB); "
            "expected a larger limit, fewer examples, or outputs = 'trace' or 'sum'"
        )
    if chunk is not None:
        return min(chunk, largest)
    high = largest
    while low < high:
        middle = (low + high + 1) // 2
        if needs.peak(n, m, middle, symmetric) <= limit:
            low = middle
        else:
            high = middle - 1
    return -(-largest // -(-largest // low))


def block_pairs(n: int, m: int, chunk: int, symmetric: bool) -> list[tuple[slice, list[slice]]]:
    """Return the blocks of rows, each with those of columns it is set against; of a symmetric kernel the upper half."""
    rows = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]
    columns = [slice(start, min(start + chunk, m)) for start in range(0, m, chunk)]
    return [(row, columns[index:] if symmetric else columns) for index, row in enumerate(rows)]
