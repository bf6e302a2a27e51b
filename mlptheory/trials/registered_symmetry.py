"""The registered measure of symmetry: how far the trained network is from invariant under flips and shifts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from mlptheory.base.configuration import require_choice, require_integer
from mlptheory.base.errors import invalid
from mlptheory.data import apply_operator, flip_matrix, shift_matrix
from mlptheory.measures import invariance_error
from mlptheory.measures.evaluation_copy import exact_arithmetic
from mlptheory.trials.measuring import (
    MeasureContext,
    features_and_logits,
    measures,
    permutation_of_inputs,
    plain_loader,
    trained_model,
)


@measures.register("invariance")
def measure_invariance(
    context: MeasureContext, shift: int = 1, shift_mode: str = "zero", examples: int = 2000
) -> Mapping[str, float]:
    """How far logits and features are from invariant under flips and shifts of test images: 1 is no relation, 0 exact.

    `mlptheory.measures.invariance_error`: as ``flip_error_logits`` and ``flip_error_features`` under the mirror of left
    and right, as ``shift_error_logits`` and ``shift_error_features`` the mean of the four errors under shifts by so
    many pixels up, down, left and right. Features are what the head is given. Images are moved as normalized and
    resized, before any pixel permutation, so that they move in the image whatever order the network sees it in.

    Parameters
    ----------
    context : MeasureContext
    shift : int
        In pixels of the network's input; less than its side.
    shift_mode : {"zero", "cyclic"}
        What comes in at the edge: the channel's mean, or what went out at the other.
    examples : int
        The first so many test images; all, if there are fewer. At least 2.

    Raises
    ------
    InputError
        If the shift leaves nothing of the image, the permutation came before a resizing, or the model has no head.
    """
    model, recipe = trained_model(context, "invariance")
    side = context.examples.image_size
    require_integer("examples", examples, 2)
    require_integer("shift", shift, 1)
    require_choice("shift_mode", shift_mode, ("zero", "cyclic"))
    if shift >= side:
        raise invalid("shift", shift, f"less than {side} pixels, the side of the network's input")
    permutation = permutation_of_inputs(recipe, context.examples, "invariance")
    in_place = replace(recipe.data, pixel_permutation=None)
    test = context.examples.test
    part = test.select(torch.arange(min(examples, len(test))))
    images = next(plain_loader(model, part, context.examples, in_place, batch_size=len(part)).batches(epoch=0)).inputs
    flip = flip_matrix(side).to(images)
    shifts = [shift_matrix(offset, side, shift_mode).to(images) for offset in (-shift, shift)]
    moves = {
        "flip": [(None, flip)],
        "shift": [*((matrix, None) for matrix in shifts), *((None, matrix) for matrix in shifts)],
    }

    def answers(seen: torch.Tensor) -> dict[str, torch.Tensor]:
        if permutation is not None:
            seen = seen.flatten(1)[:, permutation.to(seen.device)].view_as(seen)
        features, logits = features_and_logits(model, seen)
        return {"logits": logits, "features": features}

    own = answers(images)
    found = {}
    for kind, matrices in moves.items():
        with exact_arithmetic(images.device):
            moved = [answers(apply_operator(images, rows, columns)) for rows, columns in matrices]
        for name in own:
            errors = [_error(own[name], each[name]) for each in moved]
            found[f"{kind}_error_{name}"] = sum(errors) / len(errors)
    return found


def _error(own: torch.Tensor, moved: torch.Tensor) -> float:
    """Return the invariance error of a function whose values on images and moved images are known."""
    return invariance_error(nn.Identity(), lambda _: moved, own)
