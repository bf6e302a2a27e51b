"""Measures and observers that trials can name: each binds a pure measure to what a trial has at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.base.registry import Registry
from mlptheory.data import Loader, teacher_probabilities
from mlptheory.measures import excess_loss, prediction_agreement, weight_distance, weight_norm
from mlptheory.training import DataConfig, Examples, Recipe, TrainingState, observers
from mlptheory.training.device import autocast


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
        Classes that the parents predict for the test set.
    examples : Examples
        Data of the trial's recipe, or of its first parent's.
    recipe : Recipe or None
        The trial's recipe, or its first parent's, with the precision that was used in place of "auto".
    """

    model: nn.Module | None
    parents: Sequence[nn.Module]
    parent_predictions: Sequence[np.ndarray]
    examples: Examples
    recipe: Recipe | None = None

    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Return the two models of a measure of pairs: two parents, or the trained model and its parent."""
        models = [*([self.model] if self.model is not None else []), *self.parents]
        if len(models) != 2:
            raise InputError(f"measure: expected two models to compare, found {len(models)}")
        return models[0], models[1]


measures: Registry = Registry("measure")


@measures.register("weight_norm")
def measure_weight_norm(context: MeasureContext) -> Mapping[str, float]:
    """Euclidean norm of all parameters of the trained model."""
    if context.model is None:
        raise InputError("measure = 'weight_norm': expected a trial with a recipe")
    return {"weight_norm": weight_norm(context.model)}


@measures.register("weight_distance")
def measure_weight_distance(context: MeasureContext) -> Mapping[str, float]:
    """Euclidean distance between two models' parameters."""
    return {"weight_distance": weight_distance(*context.pair())}


@measures.register("prediction_agreement")
def measure_prediction_agreement(context: MeasureContext) -> Mapping[str, float]:
    """Share of test examples that two parents give the same class."""
    if len(context.parent_predictions) != 2:
        raise InputError(f"measure = 'prediction_agreement': expected two parents, found {len(context.parents)}")
    return {"prediction_agreement": prediction_agreement(*context.parent_predictions)}


@measures.register("excess_loss")
def measure_excess_loss(context: MeasureContext) -> Mapping[str, float]:
    """By how much the model's expected loss on the test images of "teacher" exceeds the teacher's own, in nats."""
    test, recipe = context.examples.test, context.recipe
    if context.model is None or recipe is None:
        raise InputError("measure = 'excess_loss': expected a trial with a recipe")
    if recipe.data.name != "teacher":
        raise InputError(f"measure = 'excess_loss': expected the dataset 'teacher', found {recipe.data.name!r}")
    logits = _test_logits(context.model, context.examples, recipe.data)
    return {"excess_loss": excess_loss(teacher_probabilities(test.images), logits)}


@torch.no_grad()
def _test_logits(model: nn.Module, examples: Examples, data: DataConfig) -> torch.Tensor:
    """Return the model's logits of all test images, in the dtype of its weights whatever the precision of training."""
    parameter = next(model.parameters())
    loader = Loader(
        examples.test,
        batch_size=min(2048, len(examples.test)),
        normalization=examples.normalization,
        image_size=data.image_size,
        pixel_permutation=data.pixel_permutation,
        permute=data.permute,
        shuffle=False,
        device=parameter.device,
        dtype=parameter.dtype,
    )
    with autocast("float32", str(parameter.device)):
        return torch.cat([model(batch.inputs) for batch in loader.batches(epoch=0)])


@observers.register("weights")
def observe_weights(state: TrainingState) -> Mapping[str, float]:
    """Norm of the weights, and their distance from initialization."""
    return {
        "weight_norm": weight_norm(state.model),
        "distance_from_initialization": weight_distance(state.model, state.initial_parameters()),
    }
