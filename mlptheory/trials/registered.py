"""Measures and observers that trials can name: each binds a pure measure to what a trial has at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlptheory.base.configuration import from_plain, require_number
from mlptheory.base.errors import InputError
from mlptheory.data import teacher_probabilities
from mlptheory.measures import (
    chance_accuracy,
    excess_loss,
    gradient_noise_scale,
    prediction_agreement,
    weight_distance,
    weight_norm,
)
from mlptheory.models import scale_invariant_parameters
from mlptheory.training import Recipe, TestTimeAugmentation, TrainingState, evaluate, objective, observers
from mlptheory.trials import (  # noqa: F401, as importing registers
    registered_accuracy,
    registered_edge,
    registered_features,
    registered_filters,
    registered_kernel_regression,
    registered_kernels,
    registered_linearized,
    registered_neighbors,
    registered_permuted,
    registered_symmetry,
)
from mlptheory.trials.looks import between_logs, last_look
from mlptheory.trials.measuring import (
    MeasureContext,
    converged_value,
    logits_of_test_images,
    measures,
    objective_value,
    top_of_hessian,
    trained_model,
    training_examples,
)


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
    _require_cross_entropy("measure = 'excess_loss'", recipe)
    logits = logits_of_test_images(context.model, context.examples, recipe.data)
    return {"excess_loss": excess_loss(teacher_probabilities(test.images), logits)}


@measures.register("chance_accuracy")
def measure_chance_accuracy(context: MeasureContext) -> Mapping[str, float]:
    """Accuracy that the model's predictions for the test set would have if they had nothing to do with the images."""
    model, recipe = trained_model(context, "chance_accuracy")
    predictions = logits_of_test_images(model, context.examples, recipe.data).argmax(dim=1).cpu().numpy()
    return {"chance_accuracy": chance_accuracy(predictions, context.examples.test.labels.numpy())}


@measures.register("test_time_augmentation")
def measure_test_time_augmentation(context: MeasureContext, **views: Any) -> Mapping[str, float]:
    """Test figures of answers averaged over views of each image; the fields of `TestTimeAugmentation` say which.

    Among them ReaL accuracy, ``tta_real_accuracy``, where the test set has sets of labels.
    """
    model, recipe = trained_model(context, "test_time_augmentation")
    tta = from_plain(TestTimeAugmentation, views, "test_time_augmentation")
    found = evaluate(
        model,
        context.examples.test,
        normalization=context.examples.normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        permute=recipe.data.permute,
        loss=recipe.loss,
        precision=recipe.precision,
        tta=tta,
    )
    real = {} if found.real is None else {"tta_real_accuracy": found.real}
    return {"tta_accuracy": found.top1, "tta_top5": found.top5, "tta_loss": found.loss, **real}


@measures.register("hessian_top_eigenvalue")
def measure_hessian_top_eigenvalue(context: MeasureContext, examples: int = 256) -> Mapping[str, float]:
    """Largest eigenvalue of the training objective's Hessian on fixed training examples; NaN if not converged."""
    model, recipe = trained_model(context, "hessian_top_eigenvalue")
    batch = training_examples(model, context.examples, recipe, examples)
    return {"hessian_top_eigenvalue": converged_value(top_of_hessian(model, batch, recipe))}


@measures.register("gradient_noise_scale")
def measure_gradient_noise_scale(context: MeasureContext, examples: int = 256) -> Mapping[str, float]:
    """Noise scale of the training objective's gradient on fixed training examples, with its 95 % interval."""
    model, recipe = trained_model(context, "gradient_noise_scale")
    batch = training_examples(model, context.examples, recipe, examples)
    loss = objective(recipe, reduction="none")
    noise = gradient_noise_scale(model, loss, batch.inputs, batch.targets)
    return {"noise_scale": noise.noise_scale, "noise_scale_low": noise.low, "noise_scale_high": noise.high}


def _require_cross_entropy(what: str, recipe: Recipe) -> None:
    if recipe.loss != "cross_entropy":
        raise InputError(f"{what}: expected a recipe whose loss is 'cross_entropy', found {recipe.loss!r}")


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

    Of models trained on cross-entropy only, whose loss of chance is log C for C classes.

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
    _require_cross_entropy("observer = 'sharpness'", state.recipe)
    classes = state.examples.train.num_classes
    least = smallest_loss(classes, state.recipe.label_smoothing)
    target_loss = least + remaining * (math.log(classes) - least)
    before = last_look(state, "sharpness_loss")
    if state.step == 0 or before.get("sharpness_loss", math.inf) <= target_loss:
        return {}
    batch = training_examples(state.model, state.examples, state.recipe, examples)
    now = objective_value(state.model, batch, state.recipe)
    if now > (3 * target_loss + math.log(classes)) / 4:
        return {"sharpness_loss": now}
    found = top_of_hessian(state.model, batch, state.recipe)
    looks = {"sharpness": converged_value(found)}
    names = scale_invariant_parameters(state.model)
    if names:
        norm = weight_norm({name: state.model.get_parameter(name) for name in names})
        looks["norm_weighted_sharpness"] = norm**2 * looks["sharpness"]
    rows = {"sharpness_loss": found.loss, **looks}
    if "sharpness" in before and found.loss <= target_loss:
        share = (before["sharpness_loss"] - target_loss) / (before["sharpness_loss"] - found.loss)
        for quantity, value in looks.items():
            rows[f"{quantity}_at_target"] = between_logs(before[quantity], value, share)
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
        rows["steps_to_target"] = between_logs(step, state.step, share) if step else share * state.step
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
