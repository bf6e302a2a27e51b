"""The registered measure of test accuracy on images that are augmented: what a network does with moved images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mlptheory.base.configuration import from_plain
from mlptheory.base.errors import invalid
from mlptheory.base.random import key
from mlptheory.data import Augmentation, Loader
from mlptheory.training.device import autocast
from mlptheory.trials.measuring import MeasureContext, evaluating, measures, trained_model

_AT_ONCE = 2048


@measures.register("accuracy_under")
def measure_accuracy_under(context: MeasureContext, name: str, **augmentation: Any) -> Mapping[str, float]:
    """Test accuracy on test images that are each cropped, flipped or shifted once: ``accuracy_under_{name}``.

    The draws are keyed by the recipe's `data.split_seed` and the image's place in the test set, and by nothing else:
    every network sees the same images. In the precision of the run, as the test accuracy, which it is where the
    augmentation does nothing. Where pixels are permuted before the augmentation, it is the permuted images that move,
    as in training.

    Parameters
    ----------
    context : MeasureContext
    name : str
        Ends the name of the result; letters, digits and underscores.
    **augmentation
        The fields of `mlptheory.data.Augmentation` but those of MixUp, which leaves an image no label of its own.
        Noise `as_noise` depends on which images share a batch; here 2048 in the order of the test set do.

    Raises
    ------
    InputError
        If the name is no name, a field is unknown or wrong, or there is MixUp.
    """
    model, recipe = trained_model(context, "accuracy_under")
    if not isinstance(name, str) or not f"_{name}".isidentifier() or not name:
        raise invalid("accuracy_under.name", name, "letters, digits and underscores")
    moved = from_plain(Augmentation, augmentation, "accuracy_under")
    if moved.mixup:
        raise invalid("accuracy_under.mixup", moved.mixup, "0, as a mixed image has no label of its own")
    test, parameter = context.examples.test, next(model.parameters())
    loader = Loader(
        test,
        batch_size=min(_AT_ONCE, len(test)),
        seed=key(recipe.data.split_seed, "accuracy under"),
        augmentation=moved,
        normalization=context.examples.normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        permute=recipe.data.permute,
        shuffle=False,
        device=parameter.device,
        dtype=parameter.dtype,
    )
    device = str(parameter.device)
    best = min(5, test.num_classes)
    correct = 0
    with evaluating(model), torch.no_grad(), autocast("float32", device):
        for batch in loader.batches(epoch=0):
            with autocast(recipe.precision, device):
                logits = model(batch.inputs)
            # As `evaluate` finds them, so that equal logits are decided alike.
            guesses = logits.topk(best, dim=1).indices[:, 0]
            correct += int((guesses == batch.targets).sum())
    return {f"accuracy_under_{name}": correct / len(test)}
