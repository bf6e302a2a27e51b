"""The registered measure of the first layer's filters: how local they are, beside references of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch

from mlptheory.base.configuration import require_boolean, require_integer
from mlptheory.base.errors import InputError
from mlptheory.base.random import key
from mlptheory.measures import (
    first_layer_filters,
    gaussian_surrogates,
    inverse_participation_ratio,
    local_norm_share,
    shuffled_pixels,
    spatial_spread,
)
from mlptheory.trials.measuring import (
    MeasureContext,
    initial_model,
    measures,
    permutation_of_inputs,
    trained_model,
)

Statistic = Callable[[torch.Tensor], torch.Tensor]


@measures.register("first_layer")
def measure_first_layer(
    context: MeasureContext, window: int | None = None, toroidal: bool = False, draws: int = 10
) -> Mapping[str, float]:
    """How local the first layer's filters are, on the plane of the image, beside those of references.

    Of three sets of filters, ``weights`` W, ``change`` W − W₀ and ``initial`` W₀ with W₀ the weights before the first
    step, these means over filters: ``{set}_ipr``, `mlptheory.measures.inverse_participation_ratio`; ``{set}_spread``,
    `spatial_spread`, in squared pixels; ``{set}_local_share``, `local_norm_share` of a window × window square. Each
    also with ``_gaussian``, the same of as many `gaussian_surrogates` of these filters, and the two that know places
    with ``_shuffled``, the same of their `shuffled_pixels`; both are means over draws. A pixel permutation of the
    recipe's is undone. Units that did not move have no W − W₀ and are left out, as is any filter of zeros: NaN if all
    are.

    Parameters
    ----------
    context : MeasureContext
    window : int, optional
        Of the local share, in pixels; a quarter of the input's side, at least 2, if None.
    toroidal : bool
        Whether opposite edges touch, for spread and local share.
    draws : int
        Of each reference; keyed by the recipe's seed, so that nets with different seeds have different ones.

    Raises
    ------
    InputError
        If the model has no first layer that is dense over all pixels, the permutation came before a resizing, or the
        model started from a parent that is not at hand.
    """
    model, recipe = trained_model(context, "first_layer")
    require_integer("draws", draws, 1)
    require_boolean("toroidal", toroidal)
    window = max(2, context.examples.image_size // 4) if window is None else window
    permutation = permutation_of_inputs(recipe, context.examples, "first_layer")
    before = initial_model(context, "first_layer")
    filters_of = partial(first_layer_filters, permutation=permutation)
    try:
        sets = {
            "weights": filters_of(model),
            "change": filters_of(model, initial=before),
            "initial": filters_of(before),
        }
    except InputError as error:
        raise InputError(f"measure = 'first_layer', model.name = {recipe.model.name!r}: {error}") from error
    statistics: dict[str, Statistic] = {
        "ipr": inverse_participation_ratio,
        "spread": partial(spatial_spread, toroidal=toroidal),
        "local_share": partial(local_norm_share, window=window, toroidal=toroidal),
    }
    found: dict[str, float] = {}
    for name, filters in sets.items():
        seeds = [key(recipe.seed, f"references of {name}", draw) for draw in range(draws)]
        found |= {f"{name}_{quantity}": value for quantity, value in _beside_references(filters, statistics, seeds)}
    return found


def _beside_references(
    filters: torch.Tensor, statistics: Mapping[str, Statistic], seeds: Sequence[int]
) -> Iterator[tuple[str, float]]:
    """Yield each statistic's mean over the filters that are not zero, then over those of references by the seeds."""
    moved = filters[filters.flatten(1).any(dim=1)]
    spatial = {name: statistic for name, statistic in statistics.items() if name != "ipr"}
    if not len(moved):
        seeds = ()
    yield from _means(statistics, "", [moved] if len(moved) else [])
    yield from _means(statistics, "_gaussian", (gaussian_surrogates(moved, len(moved), seed) for seed in seeds))
    yield from _means(spatial, "_shuffled", (shuffled_pixels(moved, seed) for seed in seeds))


def _means(
    statistics: Mapping[str, Statistic], suffix: str, several: Iterable[torch.Tensor]
) -> Iterator[tuple[str, float]]:
    """Yield means over filters and sets of them; NaN if there is none."""
    rows = [[statistic(filters).mean().item() for statistic in statistics.values()] for filters in several]
    for index, name in enumerate(statistics):
        yield f"{name}{suffix}", math.fsum(row[index] for row in rows) / len(rows) if rows else math.nan
