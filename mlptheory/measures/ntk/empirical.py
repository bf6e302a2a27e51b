"""The empirical neural tangent kernel of any torch module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from mlptheory.base.configuration import require_integer, require_number
from mlptheory.base.errors import InputError, unknown_name
from mlptheory.measures.convention import convention, stamped
from mlptheory.measures.evaluation_copy import check_examples, evaluation_copy, trained_parameters
from mlptheory.measures.ntk.capture import Pass
from mlptheory.measures.ntk.contraction import Block, CallsDifferError, block_kernels, make_block
from mlptheory.measures.ntk.cost import Footprint, block_pairs, choose_chunk, footprint, probing_pass
from mlptheory.measures.ntk.jacobian import Jacobian
from mlptheory.measures.ntk.structure import EXAMPLES, Structure, structure_of, without_structure
from mlptheory.measures.ntk.witness import Witness, alone, spread

OUTPUTS = ("full", "trace", "sum")
MEMORY_GIB = 4.0
CONVENTION = (
    "J Jᵀ over all parameters that require a gradient, as the model holds them (in its own parametrization: standard, "
    "NTK or any other), not divided by width, examples or outputs; 'trace' sums over outputs, 'sum' is the kernel of "
    "the summed output"
)


def convention_of(model: nn.Module, outputs: str) -> str:
    """Return the convention of a model's kernel, with its parametrization by name where the model says it."""
    name = getattr(getattr(model, "config", None), "parametrization", None)
    said = f"parametrization {name!r}" if isinstance(name, str) else "the module's own parametrization"
    return f"outputs = {outputs!r}, {said}: {CONVENTION}"


@dataclass(frozen=True)
class Prepared:
    """A copy of a model, and examples, of which a kernel can be computed block by block."""

    model: nn.Module
    x1: torch.Tensor
    x2: torch.Tensor | None
    outputs: str
    structure: Structure
    jacobian: Jacobian
    classes: int
    needs: Footprint
    chunk: int
    few: Witness

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of examples."""
        return len(self.x1), len(self.x1 if self.x2 is None else self.x2)

    def pairs(self) -> list[tuple[slice, list[slice]]]:
        """Return the blocks of rows and of columns that are computed."""
        return block_pairs(*self.shape, self.chunk, self.x2 is None)

    def block(self, part: slice, second: bool = False) -> Block:
        """Run the model on a part of x1, or of x2."""
        second = second and self.x2 is not None
        inputs, of = (self.x2, " of x2") if second else (self.x1, "")
        # The pass that showed the structure will do where the block is all examples, and more than those.
        whole = not second and part == slice(0, len(inputs)) and len(inputs) > len(self.few.positions)
        few = self.few if whole else None
        return make_block(
            self.model, self.structure, self.jacobian, inputs[part], few, lambda k: f"example {part.start + k}{of}"
        )

    def kernels(self, by_layer: bool = False) -> Iterator[tuple[slice, slice, dict[str, torch.Tensor]]]:
        """Yield rows, columns and the kernel there, by layer or in all under ""."""
        for rows, columns in self.pairs():
            row_block = self.block(rows)
            for part in columns:
                same = self.x2 is None and part == rows
                yield (
                    rows,
                    part,
                    block_kernels(
                        row_block, row_block if same else self.block(part, second=True), self.outputs, by_layer
                    ),
                )


@contextlib.contextmanager
def prepared(
    model: nn.Module,
    x1: torch.Tensor,
    x2: torch.Tensor | None,
    outputs: str,
    chunk: int | None,
    dtype: torch.dtype | None,
    memory_gib: float,
    structured: bool = True,
    resident: bool = True,
) -> Iterator[Prepared]:
    """Check the arguments of a kernel and yield what it is computed from.

    The kernel itself counts towards the limit of memory if it is `resident`.
    """
    check_examples("x1", x1)
    if x2 is not None:
        check_examples("x2", x2)
        if x2.shape[1:] != x1.shape[1:]:
            raise InputError(
                f"x2: expected examples of shape {tuple(x1.shape[1:])} as in x1, found {tuple(x2.shape[1:])}"
            )
    if outputs not in OUTPUTS:
        raise unknown_name("outputs", outputs, OUTPUTS)
    if chunk is not None:
        require_integer("chunk", chunk, 1)
    require_number("memory_gib", memory_gib, 0, low_open=True)
    first = next(iter(trained_parameters(model).values()))
    if dtype is None:
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    batches = (x1,) if x2 is None else (x1, x2)
    with evaluation_copy(model, *batches, dtype=dtype) as (copied, *inputs):
        a, b = inputs[0], inputs[1] if x2 is not None else None
        positions = spread(len(a), EXAMPLES)
        watched, held = probing_pass(copied, a[positions], lambda k: f"example {positions[k]}")
        one = alone(copied, watched)
        _refuse_constant(watched)
        structure = structure_of(copied, watched, one) if structured else without_structure(copied)
        needs = footprint(copied, structure, watched, held, outputs)
        if not resident:
            needs = replace(needs, result_per_pair=0)
        largest = choose_chunk(needs, len(x1), len(x1 if x2 is None else x2), x2 is None, chunk, memory_gib)
        jacobian = Jacobian(copied, structure.rest, a)
        classes, few = watched.outputs.shape[1], Witness.of(watched, positions)
        del watched, one, held
        yield Prepared(copied, a, b, outputs, structure, jacobian, classes, needs, largest, few)


def _refuse_constant(watched: Pass) -> None:
    if not watched.outputs.requires_grad:
        raise InputError(
            "model: the outputs hang on no parameter that requires a gradient; "
            "expected a forward pass without torch.no_grad() or detach() around all of it"
        )


@convention(CONVENTION)
def empirical_ntk(
    model: nn.Module,
    x1: torch.Tensor,
    x2: torch.Tensor | None = None,
    outputs: str = "full",
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    memory_gib: float = MEMORY_GIB,
) -> torch.Tensor:
    r"""Return the empirical neural tangent kernel.

    .. math:: \Theta_{cc'}(x, x') = \sum_\theta \frac{\partial f_c(x)}{\partial \theta}
              \frac{\partial f_{c'}(x')}{\partial \theta}

    over all parameters that require a gradient (a shared one counts once), as the model holds them: of a model in
    standard parametrization it is the kernel of gradient descent with one learning rate for all parameters; of one in
    NTK parametrization (Jacot, Gabriel & Hongler 2018) the forward scales are part of it. Nothing is divided by the
    width, the number of examples or of outputs.

    It is exact. Of dense layers, convolutions and normalizations it is put together from Gram matrices of the layers'
    inputs and of the gradients at their outputs (Novak, Sohl-Dickstein & Schoenholz 2022, "Fast finite width neural
    tangent kernel"), without a Jacobian; before that, autograd's graph is searched for other uses of the layers'
    parameters, and each layer's gradient so formed is held to autograd's on an example. Parameters for which they
    differ, and all others, go by single examples' gradients.

    Parameters
    ----------
    model : nn.Module
        Its outputs have shape (N, ...), and each is a function of its own example. Handed back as it came.
    x1 : Tensor of shape (N1, ...)
    x2 : Tensor of shape (N2, ...), optional
        x1 if None; the kernel is then symmetric to the last bit.
    outputs : str
        "full": every pair of outputs; "trace": :math:`\sum_c \Theta_{cc}`, not divided by C; "sum": the kernel of
        :math:`\sum_c f_c`.
    chunk : int, optional
        Examples a block. If None, the most that the memory allows. The result depends on it by rounding only.
    dtype : torch.dtype, optional
        torch.float32 or torch.float64, in which all is computed; that of the model's parameters if None, and float32
        for those of less precision.
    memory_gib : float
        Limit of all that is allocated, the kernel and a copy of the model included.

    Returns
    -------
    Tensor of shape (N1, N2, C, C) for "full", else (N1, N2)
        On the model's device, with its convention as an attribute. In memory the full kernel is (C, N1, C, N2), a
        permuted view: `kernel.permute(2, 0, 3, 1).reshape(C * N1, C * N2)` is its matrix, without a copy.

    Raises
    ------
    InputError
        If there are no examples, one is not finite, x1 or x2 is not in float32 or float64, or x2 has another shape; if
        outputs depend on other examples (batch normalization in training mode) or on chance (dropout); if no parameter
        requires a gradient; if the limit of memory cannot be met, with the numbers.

    Examples
    --------
    A linear model's kernel is the Gram matrix of its inputs, plus 1 for the bias:

    >>> empirical_ntk(nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [3.0, 0.0]]), outputs="trace")
    tensor([[ 6.,  4.],
            [ 4., 10.]])
    """
    found = _kernels(model, x1, x2, outputs, chunk, dtype, memory_gib, by_layer=False)
    return stamped(found[""], convention_of(model, outputs))


@convention(CONVENTION + "; one kernel for each module that owns parameters, which add up to the whole")
def empirical_ntk_by_layer(
    model: nn.Module,
    x1: torch.Tensor,
    x2: torch.Tensor | None = None,
    outputs: str = "full",
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    memory_gib: float = MEMORY_GIB,
) -> dict[str, torch.Tensor]:
    """Return what each layer contributes to the empirical neural tangent kernel.

    The parameters are those of `empirical_ntk`; the memory holds a kernel for each layer.

    Returns
    -------
    dict of str to Tensor
        By the name of the module that owns the parameters, in the order of the model; a shared parameter belongs to the
        module that comes first. Shapes are those of `empirical_ntk`, and they add up to it.

    Raises
    ------
    InputError
        As `empirical_ntk`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> kernels = empirical_ntk_by_layer(model, torch.eye(2), outputs="trace")
    >>> list(kernels), torch.allclose(sum(kernels.values()), empirical_ntk(model, torch.eye(2), outputs="trace"))
    (['0', '2'], True)
    """
    found = _kernels(model, x1, x2, outputs, chunk, dtype, memory_gib, by_layer=True)
    text = f"{convention_of(model, outputs)}; the part of one layer"
    return {layer: stamped(found[layer], text) for layer, _ in model.named_modules() if layer in found}


def _kernels(
    model: nn.Module,
    x1: torch.Tensor,
    x2: torch.Tensor | None,
    outputs: str,
    chunk: int | None,
    dtype: torch.dtype | None,
    memory_gib: float,
    by_layer: bool,
) -> dict[str, torch.Tensor]:
    """Return the kernel by layer, or in all under the key ""."""
    for structured in (True, False):
        with prepared(model, x1, x2, outputs, chunk, dtype, memory_gib, structured) as work:
            try:
                return _assembled(work, by_layer)
            except CallsDifferError:
                # The model calls other layers for other examples: no structure fits all of them.
                continue
    raise AssertionError("a pass without structure fits every model")


def _assembled(work: Prepared, by_layer: bool) -> dict[str, torch.Tensor]:
    n, m = work.shape
    is_full = work.outputs == "full"
    whole: dict[str, torch.Tensor] = {}
    for rows, columns, kernels in work.kernels(by_layer):
        for layer, kernel in kernels.items():
            if kernel.shape[:2] == (n, m):
                whole[layer] = kernel
                continue
            if layer not in whole:
                # In memory as the blocks are, which are copied the faster.
                shape = (work.classes, n, work.classes, m)
                whole[layer] = kernel.new_empty(shape).permute(1, 3, 0, 2) if is_full else kernel.new_empty((n, m))
            whole[layer][rows, columns] = kernel
            if work.x2 is None and rows != columns:
                whole[layer][columns, rows] = kernel.transpose(0, 1).transpose(-1, -2) if is_full else kernel.T
    return whole
