"""Registered observers of sharpness: at the edge of stability, on the way there, and beside the generalization gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mlptheory.base.configuration import require_integer, require_number
from mlptheory.base.errors import InputError, invalid
from mlptheory.base.files import canonical_json, sha256
from mlptheory.base.random import generator
from mlptheory.data import Batch
from mlptheory.measures import (
    HessianEigenvalues,
    preconditioned_sharpness,
    stability_threshold,
)
from mlptheory.measures.evaluation_copy import evaluation_copy
from mlptheory.models import lr_multipliers
from mlptheory.training import Recipe, TrainingState, observers
from mlptheory.training.losses import objective
from mlptheory.training.optimizers import build_optimizer
from mlptheory.training.recipe import DEFAULT_BETAS
from mlptheory.trials.looks import between, between_logs, last_look
from mlptheory.trials.measuring import (
    converged_value,
    evaluating,
    objective_value,
    top_of_hessian,
    training_examples,
)

NEAR, NEAR_IN_NOISE = 2.0, 4.0
"""Multiples of the target from which on eigenvalues are measured at each look; small batches' losses jump."""
RESCALING_SPREAD = 4.0
"""Standard deviation of log2 of the scale that a random rescaling gives to each hidden layer's output."""
_ROUNDING = 1e-17
_TINY = 1e-200


@observers.register("edge")
def observe_edge(state: TrainingState, examples: int | None = None) -> Mapping[str, float]:
    """Sharpness over the optimizer's threshold of stability, look by look.

    Sharpness is the largest eigenvalue of the Hessian of the training objective over so many fixed training examples,
    all if None, nothing augmented or dropped; under AdamW that of the preconditioned Hessian, P from the optimizer's
    state after the step before. ``edge_ratio`` is log2 of sharpness over `mlptheory.measures.stability_threshold` at
    the learning rate of that step, ``edge_hovering`` its mean over the last third of all looks so far and
    ``edge_highest`` its maximum. NaN where Lanczos did not converge or the eigenvalue is not positive.

    The threshold is of full batches at a constant learning rate; nothing here refuses others, of which it is none.

    Raises
    ------
    InputError
        If the optimizer has no known threshold (Lion), weight decay, clipping, or several learning rates.
    """
    threshold = _threshold(state)
    if state.step == 0 and state.recipe.optimizer.name == "adamw":
        return {}  # Its preconditioner is that of a step.
    batch = _fixed_examples(state, examples)
    found = _sharpness_to_optimizer(state, batch)
    ratio = _log2(converged_value(found) / threshold)
    ratios = [value for _, _, name, value in state.history if name == "edge_ratio"] + [ratio]
    last_third = ratios[-max(1, len(ratios) // 3) :]
    return {
        "edge_loss": found.loss,
        "edge_sharpness": converged_value(found),
        "edge_ratio": ratio,
        "edge_hovering": sum(last_third) / len(last_third),
        "edge_highest": math.nan if any(map(math.isnan, ratios)) else max(ratios),
    }


@observers.register("sharpening")
def observe_sharpening(state: TrainingState, loss: float, examples: int | None = None) -> Mapping[str, float]:
    """By how much sharpness has grown since the first look when the training objective is first at a value.

    Objective and Hessian are over so many fixed training examples, all if None, nothing augmented or dropped. The
    eigenvalue is measured at the first look and from where the objective is at most twice the target, until it is
    there; with L₁ > target ≥ L₂ at two successive looks, log λ at the target is linear in L. ``sharpening`` is log2 of
    that over the first look's λ; there is none if a look passes from above twice the target to it, or it is never
    reached. NaN where Lanczos did not converge or an eigenvalue is not positive.
    """
    require_number("loss", loss, 0, low_open=True)
    before = last_look(state, "sharpening_loss")
    if before.get("sharpening_loss", math.inf) <= loss:
        return {}
    batch = _fixed_examples(state, examples)
    now = objective_value(state.model, batch, state.recipe)
    if before and now > NEAR * loss:
        return {"sharpening_loss": now}
    found = converged_value(top_of_hessian(state.model, batch, state.recipe))
    rows = {"sharpening_loss": now, "sharpening_sharpness": found}
    if before and now <= loss and "sharpening_sharpness" in before:
        share = _share(before["sharpening_loss"], now, loss)
        first = next(value for _, _, name, value in state.history if name == "sharpening_sharpness")
        rows["sharpening"] = _log2(between_logs(before["sharpening_sharpness"], found, share) / first)
    return rows


@observers.register("flatness")
def observe_flatness(
    state: TrainingState, loss: float, examples: int | None = None, rescalings: int = 8
) -> Mapping[str, float]:
    r"""Sharpness and the generalization gap when the training objective is first at a value, and what rescaling does.

    Objective and Hessian are over so many fixed training examples, all if None, nothing augmented or dropped.
    ``sharpness`` is the Hessian's largest eigenvalue, ``adaptive_sharpness`` that of :math:`D H D` with
    :math:`D = \operatorname{diag}(|\theta_i|)`, which no rescaling of a layer changes (after Kwon et al. 2021,
    "ASAM"), ``gap`` the test loss less the objective, ``test_error`` a share. Each as ``..._at_target``: with
    L₁ > target ≥ L₂ at two successive looks it is linear in L, sharpness on the logarithm's scale. They are measured
    from where the objective is at most four times the target; there are none if a look passes over all of that.

    At the look that reaches the target the hidden layers' outputs are rescaled by positive factors and the next
    layers' weights by their inverses, which a ReLU net without normalization does not notice (Dinh et al. 2017):
    ``rescaling_{r}`` is log2 of the sharpness afterwards over before, for `rescalings` draws that the whole recipe
    keys, log2 of each layer's factor being normal of standard deviation 4; ``function_change`` is log10 of the
    largest change of a logit over the largest logit, ``adaptive_change`` that of the largest relative change of the
    adaptive sharpness, both over all draws and in float64.

    Raises
    ------
    InputError
        If the model is no plain ReLU net: of the families MLP or S, without normalization and skips.
    """
    require_number("loss", loss, 0, low_open=True)
    require_integer("rescalings", rescalings, 1)
    layers = homogeneous_layers(state.model)
    before = last_look(state, "flatness_loss")
    if before.get("flatness_loss", math.inf) <= loss:
        return {}
    batch = _fixed_examples(state, examples)
    now = objective_value(state.model, batch, state.recipe)
    if now > NEAR_IN_NOISE * loss:
        return {"flatness_loss": now}
    test = state.evaluate("test")
    rows = {
        "flatness_loss": now,
        "sharpness": converged_value(top_of_hessian(state.model, batch, state.recipe)),
        "adaptive_sharpness": converged_value(_adaptive(state.model, batch, state.recipe)),
        "gap": test.loss - now,
        "test_error": 1 - test.top1,
    }
    if now > loss:
        return rows
    if "sharpness" in before:
        share = _share(before["flatness_loss"], now, loss)
        for name, scale in (
            ("sharpness", between_logs),
            ("adaptive_sharpness", between_logs),
            ("gap", between),
            ("test_error", between),
        ):
            rows[f"{name}_at_target"] = scale(before[name], rows[name], share)
    return rows | _under_rescalings(state, batch, layers, rows, rescalings)


def homogeneous_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the dense layers of a plain ReLU net in order, by name: each but the last is followed by a ReLU or none.

    Raises
    ------
    InputError
        If the model is anything else, of which no rescaling of layers leaves the function as it is.

    Examples
    --------
    >>> from mlptheory.models import build
    >>> model = build("MLP-2/Wi-8", norm="none", image_size=8, channels=1, num_classes=10)
    >>> homogeneous_layers(model)
    ('blocks.0.linear', 'blocks.1.linear', 'head')
    """
    config = getattr(model, "config", None)
    if (
        config is None
        or config.parsed.family not in ("MLP", "S")
        or (config.norm, config.activation, config.skip) != ("none", "relu", False)
    ):
        raise InputError(
            f"model = {getattr(config, 'name', type(model).__name__)!r}: expected an MLP-{{depth}}/Wi-{{width}} or "
            "S-{depth}/Wi-{width} with activation 'relu', norm 'none' and no skips, which rescaling leaves as it is"
        )
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))


@torch.no_grad()
def rescale_layers(model: nn.Module, layers: tuple[str, ...], factors: tuple[float, ...]) -> None:
    """Multiply each hidden layer's output by a factor, in place, so that the function stays as it is.

    Parameters
    ----------
    model : nn.Module
    layers : tuple of str
        As `homogeneous_layers` returns them.
    factors : tuple of float
        Positive, one for each layer but the last.
    """
    arriving = 1.0
    for name, leaving in zip(layers, (*factors, 1.0), strict=True):
        layer = model.get_submodule(name)
        layer.weight.mul_(leaving / arriving)
        if layer.bias is not None:
            layer.bias.mul_(leaving)
        arriving = leaving


def _under_rescalings(
    state: TrainingState, batch: Batch, layers: tuple[str, ...], rows: Mapping[str, float], count: int
) -> dict[str, float]:
    found, changes, adaptive_changes = {}, [], []
    of_recipe = int(sha256(canonical_json(state.recipe.to_plain()))[:12], 16)
    for draw in range(count):
        # Of the recipe, not of its seed: runs that share a seed are to be moved by different factors.
        normal = generator(of_recipe, "rescaling", draw).standard_normal(len(layers) - 1)
        with evaluation_copy(state.model, batch.inputs) as (copied, inputs):
            with torch.no_grad():
                logits = copied(inputs)
                rescale_layers(copied, layers, tuple((2.0 ** (RESCALING_SPREAD * normal)).tolist()))
                changes.append(float((copied(inputs) - logits).abs().max() / logits.abs().max()))
            moved = converged_value(top_of_hessian(copied, batch, state.recipe))
            adaptive = converged_value(_adaptive(copied, batch, state.recipe))
        found[f"rescaling_{draw}"] = _log2(moved / rows["sharpness"])
        adaptive_changes.append(abs(adaptive / rows["adaptive_sharpness"] - 1))
    return {
        **found,
        "function_change": _log10_of_largest(changes),
        "adaptive_change": _log10_of_largest(adaptive_changes),
    }


def _threshold(state: TrainingState) -> float:
    config = state.recipe.optimizer
    if config.name == "lion":
        raise InputError("observer = 'edge': expected the optimizer 'sgd' or 'adamw', lion has no known threshold")
    if config.weight_decay:
        raise invalid("optimizer.weight_decay", config.weight_decay, "0 with the observer 'edge', as decay moves it")
    if config.clip_norm is not None:
        raise invalid("optimizer.clip_norm", config.clip_norm, "None with the observer 'edge', as clipping moves it")
    rates = {float(group["lr"]) for group in state.optimizer_state["param_groups"]}
    if len(rates) > 1:
        raise InputError("observer = 'edge': expected one learning rate for all parameters, with several no threshold")
    kind = "adam" if config.name == "adamw" else "polyak" if config.momentum else "gd"
    beta = (config.betas or DEFAULT_BETAS["adamw"])[0] if kind == "adam" else config.momentum
    return stability_threshold(rates.pop(), optimizer=kind, beta=beta)


def _sharpness_to_optimizer(state: TrainingState, batch: Batch) -> HessianEigenvalues:
    model, recipe = state.model, state.recipe
    if recipe.optimizer.name != "adamw":
        return top_of_hessian(model, batch, recipe)
    optimizer = build_optimizer(model, recipe.optimizer, lr_multipliers(model, recipe.optimizer.name))
    optimizer.load_state_dict(dict(state.optimizer_state))
    with evaluating(model):
        return preconditioned_sharpness(model, objective(recipe), batch.inputs, batch.targets, optimizer)


def _adaptive(model: nn.Module, batch: Batch, recipe: Recipe) -> HessianEigenvalues:
    """Return the top of the Hessian's spectrum in coordinates relative to each parameter's size."""
    # A parameter of exactly 0 stays out of relative coordinates, to rounding.
    diagonal = {
        name: 1 / parameter.detach().double().square().clamp(min=_TINY)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    with evaluating(model):
        return preconditioned_sharpness(model, objective(recipe), batch.inputs, batch.targets, diagonal)


def _fixed_examples(state: TrainingState, count: int | None) -> Batch:
    return training_examples(
        state.model, state.examples, state.recipe, len(state.examples.train) if count is None else count
    )


def _share(before: float, now: float, target: float) -> float:
    return (before - target) / (before - now)


def _log10_of_largest(changes: Sequence[float]) -> float:
    # Python's max passes over NaN: one that is unknown would count as none.
    return math.nan if any(map(math.isnan, changes)) else math.log10(max(_ROUNDING, *changes))


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else math.nan
