"""What a model gets right on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlptheory.base.configuration import require_boolean, require_choice
from mlptheory.base.errors import InputError, invalid
from mlptheory.data import Dataset, Loader, Normalization
from mlptheory.training.device import autocast, weight_dtype
from mlptheory.training.losses import unsmoothed_losses
from mlptheory.training.recipe import LOSSES
from mlptheory.training.tta import TestTimeAugmentation, average_over_views


@dataclass(frozen=True)
class Evaluation:
    """Figures over a whole dataset, every example weighing the same.

    Under test-time augmentation the averages over the views stand in for logits: where probabilities are averaged,
    an example's loss is minus the logarithm of its label's mean probability.

    Attributes
    ----------
    loss : float
        Mean of the loss without smoothing: cross-entropy in nats, or half the squared error summed over classes.
    top1, top5 : float
        Share of examples whose label is the largest logit, or among the five largest (all, if fewer classes).
    n : int
        Number of examples.
    predictions : ndarray of int, shape (n,)
        The class of the largest logit, in the dataset's order.
    real : float or None
        ReaL accuracy (Beyer et al. 2020, "Are we done with ImageNet?"): the share of examples whose prediction is in
        their set of labels, among those whose set is not empty; None without such sets.
    n_real : int or None
        Number of examples whose set is not empty.
    """

    loss: float
    top1: float
    top5: float
    n: int
    predictions: np.ndarray
    real: float | None = None
    n_real: int | None = None


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    normalization: Normalization,
    image_size: int | None = None,
    pixel_permutation: int | None = None,
    permute: str = "after",
    loss: str = "cross_entropy",
    precision: str = "float32",
    batch_size: int = 2048,
    tta: TestTimeAugmentation | None = None,
    real_labels: Sequence[Collection[int]] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model on a dataset: on the images as they are, or on the average of views of each.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode meanwhile and handed back as it came.
    dataset : Dataset
    normalization : Normalization
        The training set's, also here.
    image_size : int, optional
        Side in pixels that images are resized to.
    pixel_permutation : int, optional
        Seed of the permutation the model was trained under.
    permute : {"after", "before"}
        Whether it comes after resizing or before, as in training.
    loss : {"cross_entropy", "squared_error"}
        The recipe's.
    precision : {"float32", "bfloat16", "float64"}
        Of the forward pass; the loss is computed in float32 at least.
    batch_size : int
        Examples at a time; the figures do not depend on how they are batched but for rounding.
    tta : TestTimeAugmentation, optional
        Views of each image, over which the model's answers are averaged; the cost is that of as many evaluations,
        the memory that of one and of one float64 number per example and class.
    real_labels : sequence of collections of int, optional
        For each example, in the dataset's order, the classes that are right, for `Evaluation.real`; examples without
        any are left out there. `mlptheory.data.read_real_labels` reads ImageNet's. The dataset's own `label_sets`, if
        it has them and these are left out.
    progress : bool
        Show a bar over the views of `tta`.

    Returns
    -------
    Evaluation
        Sums over examples divided by their number, whatever the size of the last batch.

    Raises
    ------
    InputError
        If the loss or the precision is unknown or, where probabilities are averaged, the loss is not one of those;
        if the precision is not that of the model's weights; if `real_labels` are not one set for each
        example, of classes of the dataset, or are all empty.

    Examples
    --------
    The labels are balanced and the model has not been trained:

    >>> from mlptheory.data import channel_statistics, load
    >>> from mlptheory.models import build
    >>> from mlptheory.training import TestTimeAugmentation
    >>> test, normalization = load("teacher", "test"), channel_statistics(load("teacher", "train"))
    >>> model = build("B-1/Wi-32", image_size=4, channels=1, num_classes=2)
    >>> plain = evaluate(model, test, normalization=normalization, real_labels=[{0, 1}] * len(test))
    >>> plain.n, plain.top1, plain.real
    (8192, 0.4..., 1.0)
    >>> evaluate(model, test, normalization=normalization, tta=TestTimeAugmentation(views=2)).top5
    1.0
    """
    parameter = next(model.parameters())
    require_choice("precision", precision, ("float32", "bfloat16", "float64"))
    if parameter.dtype != weight_dtype(precision):
        raise invalid(
            "precision", precision, f"one for a model of {str(parameter.dtype).removeprefix('torch.')} weights"
        )
    if tta is not None and not isinstance(tta, TestTimeAugmentation):
        raise invalid("tta", tta, "a TestTimeAugmentation or None")
    require_choice("loss", loss, LOSSES)
    if loss == "squared_error" and tta is not None and tta.average == "softmax":
        raise invalid("tta.average", tta.average, "'logits' under the squared error, which is one of logits")
    require_boolean("progress", progress)
    sets = dataset.label_sets if real_labels is None else real_labels
    right = None if sets is None else _label_sets(sets, dataset)
    device = parameter.device
    loader = Loader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        seed=0 if tta is None else tta.loader_seed,
        augmentation=None if tta is None else tta.augmentation(dataset),
        normalization=normalization,
        image_size=image_size,
        pixel_permutation=pixel_permutation,
        permute=permute,
        shuffle=False,
        device=str(device),
        dtype=weight_dtype(precision),
    )

    def logits_of(inputs: torch.Tensor) -> torch.Tensor:
        with autocast(precision, str(device)):
            logits = model(inputs)
        return logits if logits.dtype == torch.float64 else logits.float()

    losses = unsmoothed_losses(loss)
    k = min(5, dataset.num_classes)
    loss_sum = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
    top1 = torch.zeros((), device=device, dtype=torch.int64)
    top5 = torch.zeros((), device=device, dtype=torch.int64)
    guesses = []
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with autocast("float32", str(device)):
            for logits, targets in _answers(logits_of, loader, tta, progress):
                loss_sum += losses(logits, targets).sum()
                best = logits.topk(k, dim=1).indices
                hits = best == targets[:, None]
                top1 += hits[:, 0].sum()
                top5 += hits.sum()
                guesses.append(best[:, 0])
    finally:
        for module, mode in was_training.items():
            module.training = mode
    n, predictions = len(dataset), torch.cat(guesses).cpu().numpy()
    real, n_real = (None, None) if right is None else _real_accuracy(predictions, right)
    return Evaluation(
        loss=loss_sum.item() / n,
        top1=top1.item() / n,
        top5=top5.item() / n,
        n=n,
        predictions=predictions,
        real=real,
        n_real=n_real,
    )


def _answers(
    logits_of: Callable[[torch.Tensor], torch.Tensor], loader: Loader, tta: TestTimeAugmentation | None, progress: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield logits, or their averages over the views, and labels, batch by batch."""
    # One view is its own average, and is scored as it comes.
    if tta is None or tta.views == 1:
        for batch in loader.batches(epoch=0):
            yield logits_of(batch.inputs), batch.targets
        return
    averages = average_over_views(logits_of, loader, tta, progress=progress)
    targets = loader.dataset.labels.to(averages.device)
    yield from zip(averages.split(loader.batch_size), targets.split(loader.batch_size), strict=True)


def _label_sets(real_labels: Sequence[Collection[int]], dataset: Dataset) -> list[frozenset[int]]:
    """Check the sets of labels of a dataset's examples."""
    if not isinstance(real_labels, Sequence) or isinstance(real_labels, str | bytes):
        raise InputError(f"real_labels = {type(real_labels).__name__}: expected a sequence of sets of labels, or None")
    if len(real_labels) != len(dataset):
        raise InputError(
            f"real_labels = {len(real_labels)} sets: expected {len(dataset)}, one for each example of "
            f"{dataset.name!r}, split {dataset.split!r}"
        )
    for example, labels in enumerate(real_labels):
        good = isinstance(labels, Collection) and not isinstance(labels, str | bytes)
        if not good or not all(_is_label(label, dataset.num_classes) for label in labels):
            raise invalid(
                f"real_labels[{example}]", labels, f"a collection of integers from 0 to {dataset.num_classes - 1}"
            )
    sets = [frozenset(int(label) for label in labels) for labels in real_labels]
    if not any(sets):
        raise InputError(f"real_labels = {len(sets)} empty sets: expected at least one example with a label")
    return sets


def _is_label(value: object, num_classes: int) -> bool:
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_integer and 0 <= value < num_classes


def _real_accuracy(predictions: np.ndarray, right: Sequence[frozenset[int]]) -> tuple[float, int]:
    """Return the share of predictions that are in their set, among the sets that are not empty, and their number."""
    found = [guess in labels for guess, labels in zip(predictions.tolist(), right, strict=True) if labels]
    return sum(found) / len(found), len(found)
