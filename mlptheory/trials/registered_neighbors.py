"""The registered measure of nearest neighbors: what features tell of the classes with nothing trained on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from mlptheory.base.configuration import require_integer
from mlptheory.data import Dataset, Normalization
from mlptheory.measures import nearest_neighbor_accuracy
from mlptheory.training import Examples, Recipe, prepare_examples
from mlptheory.trials.measuring import (
    MeasureContext,
    drawn_examples,
    features_and_logits,
    initial_model,
    measures,
    plain_loader,
    trained_model,
)


@measures.register("neighbors")
def measure_neighbors(context: MeasureContext, k: int = 1, examples: int = 2000) -> Mapping[str, float]:
    """Accuracy of the nearest-neighbor classifier by true labels, training images against test images.

    `mlptheory.measures.nearest_neighbor_accuracy` by Euclidean distance between what the head is given,
    ``neighbor_accuracy``; the same with the weights before the first step, ``neighbor_accuracy_initial``; and between
    the images, resized but not normalized, ``neighbor_accuracy_pixels``. The labels are the dataset's, also where the
    recipe trains on labels that are noisy or shuffled.

    Parameters
    ----------
    context : MeasureContext
    k : int
        Neighbors that vote.
    examples : int
        So many training and so many test images, all if there are fewer; drawn by the seed of the split, so that every
        net with the same training images is measured on the same ones.

    Raises
    ------
    InputError
        If there are fewer training images than neighbors, the model has no head, or it started from a parent that is
        not at hand.
    """
    model, recipe = trained_model(context, "neighbors")
    require_integer("examples", examples, 1)
    before = initial_model(context, "neighbors")
    seed = recipe.data.split_seed
    train = drawn_examples(_with_true_labels(context, recipe), examples, seed)
    test = drawn_examples(context.examples.test, examples, seed)

    def inputs(examples: Examples) -> list[torch.Tensor]:
        loaders = [plain_loader(model, part, examples, recipe.data, batch_size=len(part)) for part in (train, test)]
        return [next(loader.batches(epoch=0)).inputs for loader in loaders]

    images = inputs(context.examples)
    features = {
        "": [features_and_logits(model, x)[0] for x in images],
        "_initial": [features_and_logits(before, x)[0] for x in images],
        # Of whole numbers, distances that are equal are equal to the last bit, and the earlier neighbor is the nearer.
        "_pixels": inputs(replace(context.examples, normalization=_in_bytes(train.image_shape[0]))),
    }
    return {
        f"neighbor_accuracy{of}": nearest_neighbor_accuracy(of_train, train.labels, of_test, test.labels, k=k)
        for of, (of_train, of_test) in features.items()
    }


def _with_true_labels(context: MeasureContext, recipe: Recipe) -> Dataset:
    """Return the training images of a recipe with the labels of the dataset."""
    data = recipe.data
    if not (data.label_noise or data.shuffle_labels):
        return context.examples.train
    return prepare_examples(replace(data, label_noise=0.0, shuffle_labels=False), recipe.seed, context.data_root).train


def _in_bytes(channels: int) -> Normalization:
    """Return the normalization that leaves pixels from 0 to 255."""
    return Normalization(mean=(0.0,) * channels, std=(1 / 255,) * channels)
