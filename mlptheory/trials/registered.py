"""Measures and observers that trials can name: each binds a pure measure to what a trial has at hand."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base.configuration import from_plain, require_integer, require_number
from mlptheory.base.errors import InputError
from mlptheory.base.random import uniform
from mlptheory.base.registry import Registry
from mlptheory.data import Batch, Dataset, Loader, teacher_probabilities
from mlptheory.measures import (
    HessianEigenvalues,
    chance_accuracy,
    excess_loss,
    gradient_noise_scale,
    hessian_top_eigenvalues,
    prediction_agreement,
    weight_distance,
    weight_norm,
)
from mlptheory.models import scale_invariant_parameters
from mlptheory.training import (
    DataConfig,
    Examples,
    Recipe,
    TestTimeAugmentation,
    TrainingState,
    evaluate,
    observers,
    train_permuted,
)
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
        Classes that the parents predict for the test set, where the trial has no recipe of its own.
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

WRONG_PERMUTATIONS = 1_000_000
"""From the seed of a permutation to that of one that is not it."""


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


@measures.register("chance_accuracy")
def measure_chance_accuracy(context: MeasureContext) -> Mapping[str, float]:
    """Accuracy that the model's predictions for the test set would have if they had nothing to do with the images."""
    model, recipe = _trained(context, "chance_accuracy")
    predictions = _test_logits(model, context.examples, recipe.data).argmax(dim=1).cpu().numpy()
    return {"chance_accuracy": chance_accuracy(predictions, context.examples.test.labels.numpy())}


@measures.register("test_time_augmentation")
def measure_test_time_augmentation(context: MeasureContext, **views: Any) -> Mapping[str, float]:
    """Test figures of answers averaged over views of each image; the fields of `TestTimeAugmentation` say which."""
    model, recipe = _trained(context, "test_time_augmentation")
    tta = from_plain(TestTimeAugmentation, views, "test_time_augmentation")
    found = evaluate(
        model,
        context.examples.test,
        normalization=context.examples.normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        permute=recipe.data.permute,
        precision=recipe.precision,
        tta=tta,
    )
    return {"tta_accuracy": found.top1, "tta_top5": found.top5, "tta_loss": found.loss}


@measures.register("permuted_training")
def measure_permuted_training(
    context: MeasureContext, steps: int, equalized: bool = False, wrong: bool = False
) -> Mapping[str, float]:
    """Largest deviations over so many steps of the trial's recipe on permuted images from that on the images.

    The permutation's seed is the recipe's; that of the wrong one, where there is one, comes 10^6 after. Sign flips are
    Lion's, in all steps together, out of so many updates of single weights.
    """
    model, recipe = _trained(context, "permuted_training")
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


@measures.register("hessian_top_eigenvalue")
def measure_hessian_top_eigenvalue(context: MeasureContext, examples: int = 256) -> Mapping[str, float]:
    """Largest eigenvalue of the training objective's Hessian on fixed training examples; NaN if not converged."""
    model, recipe = _trained(context, "hessian_top_eigenvalue")
    batch = _training_examples(model, context.examples, recipe, examples)
    return {"hessian_top_eigenvalue": _sharpness(_top_of_hessian(model, batch, recipe))}


@measures.register("gradient_noise_scale")
def measure_gradient_noise_scale(context: MeasureContext, examples: int = 256) -> Mapping[str, float]:
    """Noise scale of the training objective's gradient on fixed training examples, with its 95 % interval."""
    model, recipe = _trained(context, "gradient_noise_scale")
    batch = _training_examples(model, context.examples, recipe, examples)
    loss = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing, reduction="none")
    noise = gradient_noise_scale(model, loss, batch.inputs, batch.targets)
    return {"noise_scale": noise.noise_scale, "noise_scale_low": noise.low, "noise_scale_high": noise.high}


def _trained(context: MeasureContext, measure: str) -> tuple[nn.Module, Recipe]:
    if context.model is None or context.recipe is None:
        raise InputError(f"measure = {measure!r}: expected a trial with a recipe")
    return context.model, context.recipe


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def _objective_value(model: nn.Module, batch: Batch, recipe: Recipe) -> float:
    """Return the training objective of a batch, nothing augmented or dropped, whatever the precision of training."""
    with _evaluating(model), autocast("float32", str(batch.inputs.device)):
        logits = model(batch.inputs)
    return F.cross_entropy(logits, batch.targets, label_smoothing=recipe.label_smoothing).item()


def _top_of_hessian(model: nn.Module, batch: Batch, recipe: Recipe) -> HessianEigenvalues:
    """Return the top of the Hessian of the training objective: smoothed cross-entropy, nothing augmented or dropped."""
    loss = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    with _evaluating(model):
        return hessian_top_eigenvalues(model, loss, batch.inputs, batch.targets)


def _sharpness(found: HessianEigenvalues) -> float:
    return found.values[0] if found.converged else math.nan


def _training_examples(model: nn.Module, examples: Examples, recipe: Recipe, count: int) -> Batch:
    """Return so many training examples, all if there are fewer, as evaluation would see them.

    Which ones follows from the seed of the split alone: the same for every run on the same training set, and nested.
    """
    require_integer("examples", count, 1)
    everyone = np.arange(len(examples.train))
    draws = uniform(recipe.data.split_seed, "measured examples", 0, everyone, 1)[:, 0]
    chosen = np.argsort(draws, kind="stable")[:count]
    part = examples.train.select(torch.from_numpy(chosen))
    return next(_plain_loader(model, part, examples, recipe.data, batch_size=len(part)).batches(epoch=0))


def _plain_loader(model: nn.Module, dataset: Dataset, examples: Examples, data: DataConfig, batch_size: int) -> Loader:
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
def _test_logits(model: nn.Module, examples: Examples, data: DataConfig) -> torch.Tensor:
    """Return the model's logits of all test images, in the dtype of its weights whatever the precision of training."""
    loader = _plain_loader(model, examples.test, examples, data, batch_size=min(2048, len(examples.test)))
    with autocast("float32", str(loader.device)):
        return torch.cat([model(batch.inputs) for batch in loader.batches(epoch=0)])


@observers.register("weights")
def observe_weights(state: TrainingState) -> Mapping[str, float]:
    """Norm of the weights, and their distance from initialization."""
    return {
        "weight_norm": weight_norm(state.model),
        "distance_from_initialization": weight_distance(state.model, state.initial_parameters()),
    }


@observers.register("sharpness")
def observe_sharpness(state: TrainingState, remaining: float, examples: int = 256) -> Mapping[str, float]:
    """Largest eigenvalue of the training objective's Hessian, look by look, and at a given value of the objective.

    The target is where the share `remaining` of the way is left from the loss of chance to the smallest that smoothed
    labels allow. Objective and Hessian are over the same fixed training examples (smoothed cross-entropy, nothing
    augmented or dropped), after the first step and until the objective L is at the target. With L₁ > target ≥ L₂ at two
    successive looks, the value at the target is linear in L on the logarithm's scale: log λ = (1 - s) log λ₁ + s log λ₂
    with s = (L₁ - target)/(L₁ - L₂). λ is measured from where less than a quarter of the way from chance to the target
    is left; there is no value at the target if a look passes over all of that. NaN: Lanczos did not converge or, at the
    target, an eigenvalue is not positive.

    Norm-weighted is ‖W‖² λ with W all scale-invariant parameters, for models that have some. λ stays that of all
    parameters.
    """
    require_number("remaining", remaining, 0, 1, low_open=True, high_open=True)
    classes = state.examples.train.num_classes
    least = smallest_loss(classes, state.recipe.label_smoothing)
    target_loss = least + remaining * (math.log(classes) - least)
    before = _last_look(state, "sharpness_loss")
    if state.step == 0 or before.get("sharpness_loss", math.inf) <= target_loss:
        return {}
    batch = _training_examples(state.model, state.examples, state.recipe, examples)
    now = _objective_value(state.model, batch, state.recipe)
    if now > (3 * target_loss + math.log(classes)) / 4:
        return {"sharpness_loss": now}
    found = _top_of_hessian(state.model, batch, state.recipe)
    looks = {"sharpness": _sharpness(found)}
    names = scale_invariant_parameters(state.model)
    if names:
        norm = weight_norm({name: state.model.get_parameter(name) for name in names})
        looks["norm_weighted_sharpness"] = norm**2 * looks["sharpness"]
    rows = {"sharpness_loss": found.loss, **looks}
    if "sharpness" in before and found.loss <= target_loss:
        share = (before["sharpness_loss"] - target_loss) / (before["sharpness_loss"] - found.loss)
        for quantity, value in looks.items():
            rows[f"{quantity}_at_target"] = _between_logs(before[quantity], value, share)
    return rows


@observers.register("steps_to_target")
def observe_steps_to_target(state: TrainingState, accuracy: float, split: str = "test") -> Mapping[str, float]:
    """Count optimizer steps until an accuracy is first reached.

    Evaluates at each look until then. With accuracies a₁ < target ≤ a₂ at two successive looks after t₁ and t₂ steps,
    log t = (1 - s) log t₁ + s log t₂ with s = (target - a₁)/(a₂ - a₁); t = s t₂ if t₁ = 0. There is no value if the
    first look, unless it is before the first step, is at the target already: look every "octave" to have one.
    """
    require_number("accuracy", accuracy, 0, 1)
    quantity = "steps_to_target_accuracy"
    earlier = [(step, value) for step, _, name, value in state.history if name == quantity]
    if earlier and earlier[-1][1] >= accuracy:
        return {}
    reached = state.evaluate(split).top1
    rows = {quantity: reached}
    if reached >= accuracy and state.step == 0:
        rows["steps_to_target"] = 0.0
    elif reached >= accuracy and earlier:
        step, value = earlier[-1]
        share = (accuracy - value) / (reached - value)
        rows["steps_to_target"] = _between_logs(step, state.step, share) if step else share * state.step
    return rows


def smallest_loss(classes: int, label_smoothing: float) -> float:
    """Return the entropy of a smoothed label, in nats: no model's smoothed cross-entropy is smaller.

    Examples
    --------
    >>> round(smallest_loss(10, 0.3), 4), smallest_loss(10, 0.0)
    (1.1765, 0.0)
    """
    spread = label_smoothing / classes
    shares = [1 - label_smoothing + spread] + [spread] * (classes - 1)
    return sum(-share * math.log(share) for share in shares if share > 0)


def _last_look(state: TrainingState, quantity: str) -> dict[str, float]:
    """Return what was seen at the last step at which a quantity was; nothing if it never was."""
    steps = [step for step, _, name, _ in state.history if name == quantity]
    return {name: value for step, _, name, value in state.history if steps and step == steps[-1]}


def _between_logs(before: float, after: float, share: float) -> float:
    """Return exp((1 - share) log before + share log after); NaN where a logarithm does not exist."""
    if not (before > 0 and after > 0):
        return math.nan
    return math.exp((1 - share) * math.log(before) + share * math.log(after))
