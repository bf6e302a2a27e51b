"""The registered measures of kernel regression: what a net's kernels predict, and what its spectrum says they will."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch.nn import functional as F

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError
from mlptheory.base.random import generator
from mlptheory.data import Batch
from mlptheory.measures import chance_accuracy, kernel_modes, predict_learning_curve, ridge_prediction
from mlptheory.training import Recipe
from mlptheory.trials.measuring import (
    MeasureContext,
    drawn_examples,
    evaluating,
    initial_model,
    measures,
    plain_loader,
    trained_model,
)
from mlptheory.trials.registered_kernels import limit_kernels, tangent_kernel

CURVE_PARTS = (32, 16, 8)
"""The learning curve is predicted and measured at the training set's size divided by these."""
_AT_ONCE = 500


@measures.register("kernel_regression")
def measure_kernel_regression(
    context: MeasureContext, test_examples: int = 2000, draws: int = 10
) -> Mapping[str, float]:
    """Accuracy of regression with the tangent kernel before the first step and after the last, beside the net's own.

    Without a ridge, on one-hot labels less 1/C, with the kernel's trace over outputs on all training examples of the
    recipe, as they are without augmentation: ``initial_kernel_accuracy`` and ``final_kernel_accuracy``; the net's own
    on the same test examples is ``net_accuracy``. With ``_chance``: what the predictions would come to if they had
    nothing to do with the images.

    Of the initial kernel's regression on a part of the training examples, one in 32, 16 and 8, tested on the others:
    ``curve_measured_32`` and so on, the mean squared error summed over outputs, mean over so many draws of the part;
    ``curve_predicted_32``, what `predict_learning_curve` makes of the kernel's modes on all N training examples. Its
    prediction is the mean over all N, and regression without a ridge makes no error on the n of its part: times
    N/(N − n) it is that on the others.

    Parameters
    ----------
    context : MeasureContext
    test_examples : int
        So many, all if there are fewer; drawn by the seed of the split.
    draws : int
        Of each part; keyed by the seed of the split.

    Raises
    ------
    InputError
        If there are fewer than 64 training examples.
    """
    model, recipe = trained_model(context, "kernel_regression")
    require_integer("draws", draws, 1)
    before = initial_model(context, "kernel_regression")
    train, test = _batches(context, model, recipe, test_examples)
    if len(train.targets) < 2 * CURVE_PARTS[0]:
        raise InputError(
            f"measure = 'kernel_regression': expected at least {2 * CURVE_PARTS[0]} training examples, found "
            f"{len(train.targets)}"
        )
    classes = context.examples.train.num_classes
    found = _accuracies("net", _predicted(model, test.inputs), test.targets)
    for name, net in (("initial", before), ("final", model)):
        kernel, cross = tangent_kernel(net, train.inputs), tangent_kernel(net, test.inputs, train.inputs)
        found |= _regression(f"{name}_kernel", kernel, cross, train.targets, test.targets, classes)
        if name == "initial":
            found |= dict(
                _learning_curve(kernel, _one_hot(train.targets, classes, kernel), recipe.data.split_seed, draws)
            )
    return found


@measures.register("infinite_regression")
def measure_infinite_regression(context: MeasureContext, test_examples: int = 2000) -> Mapping[str, float]:
    """Accuracy of regression with the kernels of infinite width; of the recipe's net only the architecture counts.

    As `measure_kernel_regression`, with the tangent kernel, ``infinite_kernel_accuracy``, and with that of the
    initial logits, ``nngp_accuracy`` (`mlptheory.measures.infinite_kernels`).
    """
    model, recipe = trained_model(context, "infinite_regression")
    train, test = _batches(context, model, recipe, test_examples)
    kernels, crosses = limit_kernels(recipe, train.inputs), limit_kernels(recipe, test.inputs, train.inputs)
    if kernels is None or crosses is None:
        raise InputError("measure = 'infinite_regression': expected the standard or the NTK parametrization, not mup")
    classes, found = context.examples.train.num_classes, {}
    for name, kernel, cross in zip(("nngp", "infinite_kernel"), kernels, crosses, strict=True):
        found |= _regression(name, kernel, cross, train.targets, test.targets, classes)
    return found


def _batches(
    context: MeasureContext, model: torch.nn.Module, recipe: Recipe, test_examples: int
) -> tuple[Batch, Batch]:
    """Return all training examples and so many test examples, as evaluation would see them."""
    test = drawn_examples(context.examples.test, test_examples, recipe.data.split_seed)
    found = []
    for part in (context.examples.train, test):
        loader = plain_loader(model, part, context.examples, recipe.data, batch_size=len(part))
        found.append(next(loader.batches(epoch=0)))
    return found[0], found[1]


def _one_hot(labels: torch.Tensor, classes: int, kernel: torch.Tensor) -> torch.Tensor:
    return F.one_hot(labels.long(), classes).to(kernel) - 1 / classes


def _regression(
    name: str,
    kernel: torch.Tensor,
    cross: torch.Tensor,
    labels: torch.Tensor,
    test_labels: torch.Tensor,
    classes: int,
) -> dict[str, float]:
    predicted = ridge_prediction(kernel, cross, _one_hot(labels, classes, kernel), 0.0)
    return _accuracies(name, predicted.argmax(dim=1), test_labels)


def _accuracies(name: str, predicted: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    ours, truth = predicted.cpu().numpy(), labels.cpu().numpy()
    return {f"{name}_accuracy": float((ours == truth).mean()), f"{name}_chance": chance_accuracy(ours, truth)}


@torch.no_grad()
def _predicted(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with evaluating(model):
        return torch.cat([model(part).argmax(dim=1) for part in inputs.split(_AT_ONCE)])


def _learning_curve(kernel: torch.Tensor, targets: torch.Tensor, seed: int, draws: int) -> Iterator[tuple[str, float]]:
    """Yield the error on the others that the kernel's modes predict for parts of the examples, and that measured."""
    examples = len(kernel)
    modes = kernel_modes(kernel, targets)
    sizes = [examples // part for part in CURVE_PARTS]
    over_all = predict_learning_curve(modes.eigenvalues, modes.power, sizes).test_mse.tolist()
    for part, size, expected in zip(CURVE_PARTS, sizes, over_all, strict=True):
        errors = []
        for draw in range(draws):
            order = torch.from_numpy(generator(seed, f"learning curve {part}", draw).permutation(examples))
            known, rest = order[:size].to(kernel.device), order[size:].to(kernel.device)
            answers = ridge_prediction(kernel[known][:, known], kernel[rest][:, known], targets[known], 0.0)
            errors.append((answers.cpu() - targets[rest].cpu()).square().sum(dim=1).mean().item())
        yield f"curve_predicted_{part}", expected * examples / (examples - size)
        yield f"curve_measured_{part}", math.fsum(errors) / draws
