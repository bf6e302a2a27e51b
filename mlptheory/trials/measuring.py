"""What registered measures share: the registry, what they are given, and ways to the images and the model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError
from mlptheory.base.random import uniform
from mlptheory.base.registry import Registry
from mlptheory.data import Batch, Dataset, Loader, pixel_permutation
from mlptheory.measures import HessianEigenvalues, hessian_top_eigenvalues
from mlptheory.measures.evaluation_copy import evaluation_copy
from mlptheory.training import DataConfig, Examples, Recipe
from mlptheory.training.device import autocast
from mlptheory.training.losses import objective
from mlptheory.training.setting import Setting

_AT_ONCE = 256


@dataclass(frozen=True)
class MeasureContext:
    """What a registered measure is given.

    Attributes
    ----------
    model : nn.Module or None
        The trial's trained model.
    parents : sequence of nn.Module
        The parents' models, in order.
    parent_predictions : sequence of ndarray of int
        Classes that the parents predict for the test set, where the trial has no recipe of its own.
    examples : Examples
        Data of the trial's recipe, or of its first parent's.
    recipe : Recipe or None
        The trial's recipe, or its first parent's, with the precision that was used in place of "auto".
    data_root : str or None
        Where official dataset files are looked for first.
    """

    model: nn.Module | None
    parents: Sequence[nn.Module]
    parent_predictions: Sequence[np.ndarray]
    examples: Examples
    recipe: Recipe | None = None
    data_root: str | None = None

    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Return the two models of a measure of pairs: two parents, or the trained model and its parent."""
        models = [*([self.model] if self.model is not None else []), *self.parents]
        if len(models) != 2:
            raise InputError(f"measure: expected two models to compare, found {len(models)}")
        return models[0], models[1]


measures: Registry = Registry("measure")


def trained_model(context: MeasureContext, measure: str) -> tuple[nn.Module, Recipe]:
    """Return the trained model and its recipe; raise `InputError` naming the measure where there are none."""
    if context.model is None or context.recipe is None:
        raise InputError(f"measure = {measure!r}: expected a trial with a recipe")
    return context.model, context.recipe


def initial_model(context: MeasureContext, measure: str) -> nn.Module:
    """Return the model as it was before the first step: from its recipe's seed, or from its parent's weights."""
    model, recipe = trained_model(context, measure)
    start_weights = None
    if recipe.start != "initialization":
        if not context.parents:
            raise InputError(f"measure = {measure!r}: expected a parent, whose weights the trial started from")
        start_weights = context.parents[0].state_dict()
    device = str(next(model.parameters()).device)
    return Setting(recipe, context.examples, device, recipe.precision, start_weights).initial_model()


def permutation_of_inputs(recipe: Recipe, examples: Examples, measure: str) -> torch.Tensor | None:
    """Return which entry of the image each input of the network is; None where they are in their own order.

    The image is what comes after resizing, so a permutation before that has no such order and is refused.
    """
    data, (_, height, width) = recipe.data, examples.train.image_shape
    if data.pixel_permutation is None:
        return None
    if data.permute == "before" and (height, width) != (examples.image_size,) * 2:
        raise InputError(
            f"measure = {measure!r}: data.permute = 'before', data.image_size = {data.image_size}: expected a "
            "permutation after the resizing, as inputs resized from permuted images have no places in the image"
        )
    shape = (examples.train.image_shape[0], examples.image_size, examples.image_size)
    return pixel_permutation(data.pixel_permutation, shape)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def objective_value(model: nn.Module, batch: Batch, recipe: Recipe) -> float:
    """Return the training objective of a batch in float64, labels smoothed, nothing augmented or dropped."""
    with evaluating(model), evaluation_copy(model, batch.inputs, batch.targets) as (copied, inputs, targets):
        return float(objective(recipe)(copied(inputs), targets).item())


def top_of_hessian(model: nn.Module, batch: Batch, recipe: Recipe) -> HessianEigenvalues:
    """Return the top of the Hessian of the training objective, labels smoothed, nothing augmented or dropped."""
    with evaluating(model):
        return hessian_top_eigenvalues(model, objective(recipe), batch.inputs, batch.targets)


def converged_value(found: HessianEigenvalues) -> float:
    """Return the largest eigenvalue found; NaN if Lanczos did not converge."""
    return found.values[0] if found.converged else math.nan


def training_examples(model: nn.Module, examples: Examples, recipe: Recipe, count: int) -> Batch:
    """Return so many training examples, all if there are fewer, as evaluation would see them.

    Which ones follows from the seed of the split alone: the same for every run on the same training set, and nested.
    """
    part = drawn_examples(examples.train, count, recipe.data.split_seed)
    return next(plain_loader(model, part, examples, recipe.data, batch_size=len(part)).batches(epoch=0))


def drawn_examples(dataset: Dataset, count: int, split_seed: int) -> Dataset:
    """Return so many examples of a dataset, all if there are fewer, drawn by the seed of the split; nested."""
    require_integer("examples", count, 1)
    draws = uniform(split_seed, "measured examples", 0, np.arange(len(dataset)), 1)[:, 0]
    return dataset.select(torch.from_numpy(np.argsort(draws, kind="stable")[:count]))


def plain_loader(model: nn.Module, dataset: Dataset, examples: Examples, data: DataConfig, batch_size: int) -> Loader:
    """Return a loader as evaluation's: in the dataset's order, nothing augmented, where and in what the model is."""
    parameter = next(model.parameters())
    return Loader(
        dataset,
        batch_size=batch_size,
        normalization=examples.normalization,
        image_size=data.image_size,
        pixel_permutation=data.pixel_permutation,
        permute=data.permute,
        shuffle=False,
        device=parameter.device,
        dtype=parameter.dtype,
    )


@torch.no_grad()
def logits_of_test_images(model: nn.Module, examples: Examples, data: DataConfig) -> torch.Tensor:
    """Return the model's logits of all test images, in the dtype of its weights whatever the precision of training."""
    loader = plain_loader(model, examples.test, examples, data, batch_size=min(2048, len(examples.test)))
    with autocast("float32", str(loader.device)):
        return torch.cat([model(batch.inputs) for batch in loader.batches(epoch=0)])


def features_and_logits(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a model's head is given for images, (N, m), and its logits, in float64 where the device has it."""
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module):
        raise InputError(f"features: expected a model with a head, {type(model).__name__} has none of that name")
    seen: list[torch.Tensor] = []
    with evaluating(model), evaluation_copy(model, images) as (copied, x), torch.no_grad():
        copied.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].flatten(1)))
        # A network's intermediates need not fit into memory for all images at once.
        parts = x.split(_AT_ONCE)
        logits = torch.cat([copied(part) for part in parts])
    if len(seen) != len(parts):
        raise InputError(f"features: expected a head that is called once, found {len(seen) / len(parts):g} calls")
    return torch.cat(seen), logits
