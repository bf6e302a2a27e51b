"""What a model gets right on a dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base.configuration import require_choice
from mlptheory.base.errors import invalid
from mlptheory.data import Dataset, Loader, Normalization
from mlptheory.training.device import autocast, weight_dtype


@dataclass(frozen=True)
class Evaluation:
    """Figures over a whole dataset, every example weighing the same.

    Attributes
    ----------
    loss : float
        Mean cross-entropy without smoothing, in nats.
    top1, top5 : float
        Share of examples whose label is the largest logit, or among the five largest (all, if fewer classes).
    n : int
        Number of examples.
    predictions : ndarray of int, shape (n,)
        The class of the largest logit, in the dataset's order.
    """

    loss: float
    top1: float
    top5: float
    n: int
    predictions: np.ndarray


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    normalization: Normalization,
    image_size: int | None = None,
    pixel_permutation: int | None = None,
    permute: str = "after",
    precision: str = "float32",
    batch_size: int = 2048,
) -> Evaluation:
    """Evaluate a model on a dataset without augmentation.

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
    precision : {"float32", "bfloat16", "float64"}
        Of the forward pass; the loss is computed in float32 at least.
    batch_size : int
        Examples at a time; the figures do not depend on how they are batched but for rounding.

    Returns
    -------
    Evaluation
        Sums over examples divided by their number, whatever the size of the last batch.

    Raises
    ------
    InputError
        If the precision is unknown or is not that of the model's weights.
    """
    parameter = next(model.parameters())
    require_choice("precision", precision, ("float32", "bfloat16", "float64"))
    if parameter.dtype != weight_dtype(precision):
        raise invalid(
            "precision", precision, f"one for a model of {str(parameter.dtype).removeprefix('torch.')} weights"
        )
    device = parameter.device
    loader = Loader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        normalization=normalization,
        image_size=image_size,
        pixel_permutation=pixel_permutation,
        permute=permute,
        shuffle=False,
        device=str(device),
        dtype=weight_dtype(precision),
    )
    k = min(5, dataset.num_classes)
    loss_sum = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
    top1 = torch.zeros((), device=device, dtype=torch.int64)
    top5 = torch.zeros((), device=device, dtype=torch.int64)
    predictions = []
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with autocast("float32", str(device)):
            for batch in loader.batches(epoch=0):
                with autocast(precision, str(device)):
                    logits = model(batch.inputs)
                logits = logits if logits.dtype == torch.float64 else logits.float()
                loss_sum += F.cross_entropy(logits, batch.targets, reduction="sum")
                best = logits.topk(k, dim=1).indices
                hits = best == batch.targets[:, None]
                top1 += hits[:, 0].sum()
                top5 += hits.sum()
                predictions.append(best[:, 0])
    finally:
        for module, mode in was_training.items():
            module.training = mode
    n = len(dataset)
    return Evaluation(
        loss=loss_sum.item() / n,
        top1=top1.item() / n,
        top5=top5.item() / n,
        n=n,
        predictions=torch.cat(predictions).cpu().numpy(),
    )
