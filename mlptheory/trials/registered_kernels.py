"""The registered measure and observer of the tangent kernel: how far it is from its limit, how training moves it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError
from mlptheory.base.random import generator
from mlptheory.measures import (
    effective_rank,
    empirical_ntk,
    infinite_kernels,
    kernel_distance,
    kernel_spectrum,
    label_alignment,
    weight_distance,
    weight_norm,
)
from mlptheory.training import Recipe, TrainingState, observers
from mlptheory.trials.measuring import (
    MeasureContext,
    evaluating,
    initial_model,
    measures,
    trained_model,
    training_examples,
)


@measures.register("tangent_kernel")
def measure_tangent_kernel(context: MeasureContext, examples: int = 100, permutations: int = 10) -> Mapping[str, float]:
    """How the tangent kernel on fixed training examples changed, and how far from that of infinite width it began.

    Of `mlptheory.measures.empirical_ntk` on so many training examples, Θ₀ before the first step and Θ after the last,
    traces over outputs: ``kernel_change`` ‖Θ − Θ₀‖/‖Θ₀‖ in Frobenius norm and ``kernel_distance``, with
    ``relative_weight_change`` ‖θ − θ₀‖/‖θ₀‖ over all parameters; ``label_alignment`` and ``kernel_rank`` (effective)
    of Θ, both also with ``_initial`` of Θ₀. The alignment is centered, with the labels that the net was trained on;
    ``permuted_alignment`` is its mean over permutations of these; both are NaN where the kernel tells no examples apart
    (that of a dead net), or all have one label. ``kernel_deviation`` is ‖Θ₀ − Θ_∞ ⊗ I‖/‖Θ_∞ ⊗ I‖ over
    all pairs of outputs, with Θ_∞ of `infinite_kernels` (in the standard parametrization Θ_∞ is the width times the
    limit of Θ/m); NaN under μP, which has no such kernel here.

    Parameters
    ----------
    context : MeasureContext
    examples : int
        The same for every net on the same training set.
    permutations : int
        Of the labels; keyed by the seed of the split, and so the same for every net.
    """
    model, recipe = trained_model(context, "tangent_kernel")
    require_integer("permutations", permutations, 1)
    before = initial_model(context, "tangent_kernel")
    batch = training_examples(model, context.examples, recipe, examples)
    whole = tangent_kernel(before, batch.inputs, outputs="full")
    first, last = whole.diagonal(dim1=2, dim2=3).sum(-1), tangent_kernel(model, batch.inputs)
    found = {
        "kernel_deviation": _deviation(whole, limit_kernels(recipe, batch.inputs)),
        "kernel_change": ((last - first).norm() / first.norm()).item(),
        "kernel_distance": kernel_distance(first, last),
        "relative_weight_change": weight_distance(model, before) / weight_norm(before),
    }
    for suffix, kernel in (("_initial", first), ("", last)):
        found[f"label_alignment{suffix}"] = _alignment(kernel, batch.targets)
        found[f"permuted_alignment{suffix}"] = _permuted_alignment(
            kernel, batch.targets, recipe.data.split_seed, permutations
        )
        found[f"kernel_rank{suffix}"] = effective_rank(kernel_spectrum(kernel).clamp(min=0))
    return found


@observers.register("kernel")
def observe_kernel(state: TrainingState, examples: int = 100) -> Mapping[str, float]:
    """How the tangent kernel on fixed training examples moves: distance, velocity, label alignment and effective rank.

    Of the kernel's trace over outputs: ``kernel_distance`` from that before the first step; ``kernel_velocity``, the
    distance from that of the last look per epoch between (`mlptheory.measures.kernel_velocity`: compare it at the same
    spacing only), and the same as ``kernel_velocity_first`` at the first look; ``label_alignment``, centered;
    ``kernel_rank``.
    """
    batch = training_examples(state.model, state.examples, state.recipe, examples)
    now, memory = tangent_kernel(state.model, batch.inputs), state.memory
    is_first = "first" not in memory
    if is_first:
        before = copy.deepcopy(state.model)
        before.load_state_dict(dict(state.initial_parameters()), strict=False)
        memory["first"] = memory["last"] = now if state.step == 0 else tangent_kernel(before, batch.inputs)
        memory["epoch"] = torch.zeros((), dtype=torch.int64)
    found = {
        "kernel_distance": kernel_distance(memory["first"], now),
        "label_alignment": _alignment(now, batch.targets),
        "kernel_rank": effective_rank(kernel_spectrum(now).clamp(min=0)),
    }
    between = state.epoch - int(memory["epoch"])
    if between > 0:
        found["kernel_velocity"] = kernel_distance(memory["last"], now) / between
        if int(memory["epoch"]) == 0:
            found["kernel_velocity_first"] = found["kernel_velocity"]
        memory["last"], memory["epoch"] = now, torch.tensor(state.epoch)
    return found


def tangent_kernel(
    model: nn.Module, x1: torch.Tensor, x2: torch.Tensor | None = None, *, outputs: str = "trace"
) -> torch.Tensor:
    """Return the empirical tangent kernel of a model as evaluation sees it, in float64 where the device has it."""
    dtype = torch.float32 if x1.device.type == "mps" else torch.float64
    with evaluating(model):
        return empirical_ntk(model, x1.to(dtype), None if x2 is None else x2.to(dtype), outputs=outputs, dtype=dtype)


def limit_kernels(
    recipe: Recipe, x1: torch.Tensor, x2: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return NNGP and tangent kernel of one logit, as a recipe's initial model has them near infinite width.

    In the standard parametrization the tangent kernel is the model's width times the limit of Θ/m. None under μP, which
    has none here.
    """
    config = recipe.model
    if config.parametrization == "mup":
        return None
    found = infinite_kernels(
        config.name,
        x1,
        x2,
        parametrization=config.parametrization,
        activation=config.activation,
        norm=config.norm,
        variant=config.variant,
        skip=config.skip,
    )
    tangent = found.ntk if found.ntk is not None else config.parsed.width * found.ntk_per_width
    return config.output_scale**2 * found.nngp, config.output_scale**2 * tangent


def _deviation(whole: torch.Tensor, limits: tuple[torch.Tensor, torch.Tensor] | None) -> float:
    """Return how far a kernel over all pairs of outputs is from the same limit for each and none between them."""
    if limits is None:
        return math.nan
    classes = whole.shape[2]
    of_limit = limits[1].to(whole)[:, :, None, None] * torch.eye(classes).to(whole)
    return ((whole - of_limit).norm() / of_limit.norm()).item()


def _alignment(kernel: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the centered alignment, NaN where it has no direction: a dead net is a result, and no reason to stop."""
    try:
        return label_alignment(kernel, labels)
    except InputError:
        return math.nan


def _permuted_alignment(kernel: torch.Tensor, labels: torch.Tensor, seed: int, permutations: int) -> float:
    """Return the mean alignment of a kernel with permuted labels."""
    found = []
    for draw in range(permutations):
        order: np.ndarray = generator(seed, "permuted labels", draw).permutation(len(labels))
        found.append(_alignment(kernel, labels[torch.from_numpy(order).to(labels.device)]))
    return math.fsum(found) / permutations
