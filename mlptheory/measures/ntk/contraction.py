r"""The kernel of one block of examples against another, piece by piece.

An outer piece with factors :math:`a_p` and :math:`g_p` contributes
:math:`\sum_{pq} (a_p(x) \cdot a_q(x') + s_p s_q)(g_p(x) \cdot g_q(x'))`, with :math:`s` the scale of the bias and 0
without one: for a dense layer, the Gram matrix of its inputs times that of the gradients at its outputs, entry by
entry. Where forming the gradients themselves is cheaper, as for convolutions, and for all other parameters, it is the
Gram matrix of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mlptheory.measures.ntk.capture import Pass, watched_pass
from mlptheory.measures.ntk.jacobian import Jacobian
from mlptheory.measures.ntk.structure import Piece, Structure
from mlptheory.measures.ntk.witness import Witness, witness

REST = "rest"


class CallsDifferError(Exception):
    """A pass called other layers than the structure knows."""


@dataclass
class Block:
    """Some examples, ready to be differentiated.

    Attributes
    ----------
    structure : Structure
    watched : Pass
    inputs : Tensor of shape (N, ...)
    jacobian : Jacobian
        Of the parameters without a rule.
    """

    structure: Structure
    watched: Pass
    inputs: torch.Tensor
    jacobian: Jacobian

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def classes(self) -> int:
        """Number of outputs of an example."""
        return self.watched.outputs.shape[1]

    def cotangents(self, outputs: str) -> Iterator[torch.Tensor]:
        """Yield the weights of the outputs: all ones for "sum", else one output at a time."""
        like = self.watched.outputs.detach()
        if outputs == "sum":
            yield torch.ones_like(like)
            return
        for index in range(self.classes):
            cotangent = torch.zeros_like(like)
            cotangent[:, index] = 1
            yield cotangent

    def factors(self, cotangent: torch.Tensor, paired: set[Piece]) -> dict[Piece | str, torch.Tensor]:
        """Return right factors of the paired pieces, gradients of the others and of the rest."""
        factors: dict[Piece | str, torch.Tensor] = {}
        gradients = self.watched.gradients(cotangent) if self.watched.outputs.requires_grad else self._zeros()
        for piece in self.structure.pieces:
            make = piece.right if piece in paired else piece.gradient
            factors[piece] = make(self.watched, gradients)
        if self.structure.rest:
            factors[REST] = self.jacobian.rows(self.inputs, cotangent)
        return factors

    def _zeros(self) -> list[torch.Tensor]:
        return [self.watched.outputs.new_zeros(call.shape) for call in self.watched.calls]


def make_block(
    model: nn.Module,
    structure: Structure,
    jacobian: Jacobian,
    inputs: torch.Tensor,
    beside: Witness | None = None,
    label: Callable[[int], str] = "example {}".format,
) -> Block:
    """Run the model on some examples, and hold the pass to one of a few of them.

    Parameters
    ----------
    model : nn.Module
    structure : Structure
    jacobian : Jacobian
    inputs : Tensor of shape (N, ...)
    beside : Witness, optional
        Made if None, unless there is but one example.
    label : callable
        Takes a position to what an error calls the example.

    Raises
    ------
    CallsDifferError
        If other layers are called, in another order or with other examples, than the structure has, or a parameter has
        an effect in another way.
    InputError
        If an example's outputs depend on the others.
    """
    if beside is None and len(inputs) > 1:
        beside = witness(model, inputs, label)
    watched = watched_pass(model, inputs, label)
    in_order = beside is None or beside.confirms(model, watched)
    if structure.pieces and not (structure.fits(watched) and in_order):
        raise CallsDifferError
    return Block(structure, watched, inputs, jacobian)


def pairs_pay(piece: Piece, rows: Pass, columns: Pass, outputs: str) -> bool:
    """Tell whether Gram matrices of an outer piece's factors take fewer operations than its gradients would."""
    if not piece.outer:
        return False
    (n, p, fan_in), (m, q, _) = piece.left(rows).shape, piece.left(columns).shape
    fan_out = rows.calls[piece.uses[0][0]].rule.module.weight.shape[0]
    return grams_are_cheaper((n, m), (p, q), (fan_in, fan_out), rows.outputs.shape[1], outputs)


def grams_are_cheaper(
    examples: tuple[int, int], positions: tuple[int, int], fans: tuple[int, int], classes: int, outputs: str
) -> bool:
    """Tell the same from the sizes: examples and positions of rows and columns, fan-in and fan-out."""
    (n, m), (p, q), (fan_in, fan_out) = examples, positions, fans
    cotangents, products = cotangents_and_products(classes, outputs)
    pairs = n * p * m * q * (fan_in + products * fan_out)
    formed = (n * p + m * q) * cotangents * fan_in * fan_out + n * m * products * fan_in * fan_out
    return pairs <= formed


def cotangents_and_products(classes: int, outputs: str) -> tuple[int, int]:
    """Return how many backward passes a block takes, and how many Gram matrices of their results."""
    cotangents = 1 if outputs == "sum" else classes
    return cotangents, cotangents**2 if outputs == "full" else cotangents


def block_kernels(rows: Block, columns: Block, outputs: str, by_layer: bool) -> dict[str, torch.Tensor]:
    """Return the kernel of two blocks of examples, by layer or in all under the key "".

    Parameters
    ----------
    rows, columns : Block
        The same object for a block against itself; the result is then symmetric to the last bit.
    outputs : str
        "full": shape (N, M, C, C); "trace" and "sum": (N, M).
    """
    paired = {piece for piece in rows.structure.pieces if pairs_pay(piece, rows.watched, columns.watched, outputs)}
    return (_full if outputs == "full" else _reduced)(rows, columns, outputs, by_layer, paired)


def _reduced(rows: Block, columns: Block, outputs: str, by_layer: bool, paired: set[Piece]) -> dict[str, torch.Tensor]:
    kernels = _Sums(lambda: rows.watched.outputs.new_zeros((len(rows), len(columns))), by_layer)
    grams: dict[Piece, torch.Tensor] = {}

    def add_output(row_weights: torch.Tensor, column_weights: torch.Tensor) -> None:
        # A scope of its own: no factor of an output is held while those of the next are made.
        left = rows.factors(row_weights, paired)
        right = left if rows is columns else columns.factors(column_weights, paired)
        for piece, factor in left.items():
            if piece in paired:
                a, b = factor.flatten(0, 1), right[piece].flatten(0, 1)
                grams[piece] = torch.mm(a, b.T) if piece not in grams else grams[piece].addmm_(a, b.T)
            else:
                for layer, a, b in _by_layer(rows, piece, factor, right[piece], by_layer):
                    kernels[layer].addmm_(a, b.T)

    for row_weights, column_weights in zip(rows.cotangents(outputs), columns.cotangents(outputs), strict=True):
        add_output(row_weights, column_weights)
    for piece in paired:
        product = grams.pop(piece).mul_(left_gram(piece, rows, columns))
        kernels[piece.layer].add_(_over_positions(product, len(rows), len(columns)))
    found = kernels.found()
    return {layer: _symmetric(kernel) for layer, kernel in found.items()} if rows is columns else found


def _full(rows: Block, columns: Block, outputs: str, by_layer: bool, paired: set[Piece]) -> dict[str, torch.Tensor]:
    n, m, classes = len(rows), len(columns), rows.classes
    kernels = _Sums(lambda: rows.watched.outputs.new_zeros((classes, n, classes, m)), by_layer)
    left = _stacked(rows, outputs, paired)
    right = left if rows is columns else _stacked(columns, outputs, paired)
    for piece in list(left):
        row_factors = left.pop(piece)
        column_factors = row_factors if rows is columns else right.pop(piece)
        gram = left_gram(piece, rows, columns) if piece in paired else None
        for c in range(classes):
            # Of a symmetric kernel half is enough.
            first = c if rows is columns else 0
            if gram is None:
                for layer, a, b in _by_layer(rows, piece, row_factors, column_factors, by_layer):
                    product = torch.mm(a[c], b[first:].flatten(0, 1).T)
                    kernels[layer][c, :, first:] += product.view(n, classes - first, m)
                continue
            a, b = row_factors[c].flatten(0, 1), column_factors[first:].flatten(0, 2)
            product = torch.mm(a, b.T).view(len(a), classes - first, -1)
            target = kernels[piece.layer][c, :, first:]
            if gram.shape == (n, m):
                target.addcmul_(product, gram[:, None])
            else:
                weighted = (product * gram[:, None]).view(n, -1, classes - first, m, gram.shape[1] // m)
                target += weighted.sum(dim=(1, 4))
    found = kernels.found()
    if rows is columns:
        for kernel in found.values():
            _mirror(kernel)
    return {layer: kernel.permute(1, 3, 0, 2) for layer, kernel in found.items()}


def _stacked(block: Block, outputs: str, paired: set[Piece]) -> dict[Piece | str, torch.Tensor]:
    """Return the factors of all outputs, the output along a new first axis."""
    stacked: dict[Piece | str, torch.Tensor] = {}
    for index, cotangent in enumerate(block.cotangents(outputs)):
        for piece, factor in block.factors(cotangent, paired).items():
            if piece not in stacked:
                stacked[piece] = factor.new_empty((block.classes, *factor.shape))
            stacked[piece][index] = factor
            del factor
    return stacked


def left_gram(piece: Piece, rows: Block, columns: Block) -> torch.Tensor:
    """Return what the Gram matrix of a paired piece's output gradients is multiplied by, (N P, M Q)."""
    a, b = piece.left(rows.watched).flatten(0, 1), piece.left(columns.watched).flatten(0, 1)
    gram = torch.mm(a, b.T)
    if piece.has_bias:
        scales = (
            piece.bias_scales(rows.watched).repeat(len(rows)),
            piece.bias_scales(columns.watched).repeat(len(columns)),
        )
        gram.addr_(*scales)
    return gram


def _over_positions(product: torch.Tensor, n: int, m: int) -> torch.Tensor:
    return product if product.shape == (n, m) else product.view(n, -1, m, product.shape[1] // m).sum(dim=(1, 3))


def _symmetric(kernel: torch.Tensor) -> torch.Tensor:
    """Return a square matrix with its upper triangle mirrored."""
    return kernel.triu() + kernel.triu(diagonal=1).T


def _mirror(kernel: torch.Tensor) -> None:
    """Fill the lower half of a kernel (C, N, C, N) from the upper one, in place."""
    for c in range(len(kernel)):
        own = kernel[c, :, c]
        own.copy_(_symmetric(own))
        kernel[c + 1 :, :, c] = kernel[c, :, c + 1 :].permute(1, 2, 0)


def _by_layer(
    block: Block, piece: Piece | str, a: torch.Tensor, b: torch.Tensor, by_layer: bool
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield the gradients of a piece; those of the rest module by module, if that is asked for."""
    if piece is not REST:
        yield piece.layer, a, b
    elif not by_layer:
        yield "", a, b
    else:
        sizes = block.jacobian.sizes
        for name, x, y in zip(block.structure.rest, a.split(sizes, dim=-1), b.split(sizes, dim=-1), strict=True):
            yield name.rpartition(".")[0], x, y


class _Sums(dict):
    """A running sum for every layer, or one for all of them."""

    def __init__(self, zeros: Callable[[], torch.Tensor], by_layer: bool) -> None:
        super().__init__()
        self._zeros, self._by_layer = zeros, by_layer

    def __missing__(self, layer: str) -> torch.Tensor:
        if layer and not self._by_layer:
            return self[""]
        self[layer] = self._zeros()
        return self[layer]

    def found(self) -> dict[str, torch.Tensor]:
        return dict(self) if self else {"": self._zeros()}
