"""The registered measures of feature learning: what training added to the matrices, AGOP, and moved coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.measures import feature_alignment, weight_change_spectrum
from mlptheory.measures.evaluation_copy import evaluation_copy
from mlptheory.trials.measuring import (
    MeasureContext,
    evaluating,
    initial_model,
    measures,
    trained_model,
    training_examples,
)

LAYERS = ("embedding", "hidden", "head")
"""The first layer, the mean over all between, and the last one."""


@measures.register("weight_change")
def measure_weight_change(context: MeasureContext) -> Mapping[str, float]:
    """How training changed the matrices: rank and relative size of ΔW = W − W₀ of the first, middle and last layers.

    `mlptheory.measures.weight_change_spectrum`: as ``embedding_change_stable_rank`` and so on the stable and the
    effective rank, and ``_frobenius`` and ``_spectral``, ‖ΔW‖/‖W₀‖ in these norms; of ``hidden`` the mean over all
    matrices between the first layer and the head.
    """
    model, _ = trained_model(context, "weight_change")
    changes = weight_change_spectrum(model, initial_model(context, "weight_change"))
    found = {}
    for layer, names in _layers(model, changes, "weight_change").items():
        own = [changes[name] for name in names]
        found[f"{layer}_change_stable_rank"] = _mean(each.stable_rank for each in own)
        found[f"{layer}_change_effective_rank"] = _mean(each.effective_rank for each in own)
        found[f"{layer}_change_frobenius"] = _mean(each.relative_frobenius for each in own)
        found[f"{layer}_change_spectral"] = _mean(each.relative_spectral for each in own)
    return found


@measures.register("feature_alignment")
def measure_feature_alignment(context: MeasureContext, examples: int = 100) -> Mapping[str, float]:
    """How the layers' WᵀW go with the root of the average gradient outer product on fixed training examples.

    `mlptheory.measures.feature_alignment`, Pearson's correlation of the entries: of the trained net
    ``embedding_agop``, ``hidden_agop``, with ``_initial`` of the net before its first step, and with ``_change`` for
    W − W₀ in place of W. The last layer is left out: its AGOP is WᵀW to any power of the same vectors, trained or not.
    """
    model, recipe = trained_model(context, "feature_alignment")
    before = initial_model(context, "feature_alignment")
    batch = training_examples(model, context.examples, recipe, examples)
    names = [name for name in weight_change_spectrum(model, before) if name != "head"]
    layers = _layers(model, names, "feature_alignment")
    found = {}
    for suffix, net, initial in (("", model, None), ("_initial", before, None), ("_change", model, before)):
        with evaluating(net):
            seen = feature_alignment(net, batch.inputs, layers=names, initial=initial)
        for layer in ("embedding", "hidden"):
            found[f"{layer}_agop{suffix}"] = _mean(seen[name].pearson for name in layers[layer])
    return found


@measures.register("coordinates")
def measure_coordinates(context: MeasureContext, examples: int = 100) -> Mapping[str, float]:
    """How far training moved the coordinates on fixed training examples: root mean squares over examples and units.

    Of what the model calls its intermediates, after the last step less before the first: ``coordinate_embedding``, the
    first layer's outputs; ``coordinate_stream``, those of the last block; ``coordinate_logits``.
    """
    model, recipe = trained_model(context, "coordinates")
    before = initial_model(context, "coordinates")
    batch = training_examples(model, context.examples, recipe, examples)
    last, first = (_intermediates(net, batch.inputs) for net in (model, before))
    blocks = [name for name in last if name.startswith("block")]
    if "embedding" not in last or not blocks:
        raise InputError(f"measure = 'coordinates', model.name = {recipe.model.name!r}: expected an MLP with blocks")
    named = {"embedding": "embedding", "stream": blocks[-1], "logits": "logits"}
    return {
        f"coordinate_{name}": (last[place] - first[place]).square().mean().sqrt().item()
        for name, place in named.items()
    }


@torch.no_grad()
def _intermediates(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with evaluating(model), evaluation_copy(model, images) as (copied, x), torch.no_grad():
        return copied.intermediates(x)


def _layers(model: nn.Module, names: Iterable[str], measure: str) -> dict[str, list[str]]:
    """Return the names of a model's matrices as first, middle and last."""
    first = getattr(model, "first_layer", None)
    found = {"embedding": [], "hidden": [], "head": []}
    for name in names:
        found["embedding" if name == first else "head" if name == "head" else "hidden"].append(name)
    if not found["embedding"] or not found["hidden"]:
        raise InputError(f"measure = {measure!r}: expected an MLP with hidden matrices, found {', '.join(names)}")
    return found


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
