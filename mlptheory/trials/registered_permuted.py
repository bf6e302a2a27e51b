"""The registered measure of permuted training: the trial's recipe on images and on permuted images, in lockstep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mlptheory.base.configuration import require_integer
from mlptheory.training import train_permuted
from mlptheory.trials.measuring import MeasureContext, measures, trained_model

WRONG_PERMUTATIONS = 1_000_000
"""From the seed of a permutation to that of one that is not it."""


@measures.register("permuted_training")
def measure_permuted_training(
    context: MeasureContext, steps: int, equalized: bool = False, wrong: bool = False
) -> Mapping[str, float]:
    """Largest deviations over so many steps of the trial's recipe on permuted images from that on the images.

    The permutation's seed is the recipe's; that of the wrong one, where there is one, comes 10^6 after. Sign flips are
    Lion's, in all steps together, out of so many updates of single weights.
    """
    model, recipe = trained_model(context, "permuted_training")
    require_integer("steps", steps, 1)
    found = train_permuted(
        replace(recipe, budget=replace(recipe.budget, amount=steps, unit="steps")),
        permutation=recipe.seed,
        wrong=recipe.seed + WRONG_PERMUTATIONS if wrong else None,
        equalized=equalized,
        examples=context.examples,
        device=str(next(model.parameters()).device),
    )
    values: dict[str, float] = {}
    for name, deviation in (("permuted", found.transported), ("wrong", found.wrong)):
        if deviation is None:
            continue
        values[f"{name}_weight_deviation"] = float(deviation.weights.max())
        values[f"{name}_logit_deviation"] = float(deviation.logits.max())
        if deviation.flips is not None:
            values[f"{name}_sign_flips"] = float(deviation.flips.sum())
            values["sign_updates"] = float(deviation.coordinates * len(deviation.flips))
    return values
