"""A linear classifier on fixed features in closed form."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base.configuration import require_number
from mlptheory.base.errors import InputError
from mlptheory.data import Dataset, Loader
from mlptheory.training.examples import Examples, prepare_examples
from mlptheory.training.head import Head
from mlptheory.training.recipe import DataConfig

PENALTIES = tuple(10.0**k for k in range(-8, 3))
_AT_ONCE = 1024


@dataclass(frozen=True)
class RidgeProbe:
    """A ridge regression on fixed features.

    Attributes
    ----------
    penalty : float
        λ, with the highest validation accuracy (the largest of several).
    validation_accuracy : float
    test_accuracy : float
    n, n_validation, n_test : int
        Examples that it was fitted on, chosen by and tested on.
    predictions : ndarray of int, shape (n_test,)
    """

    penalty: float
    validation_accuracy: float
    test_accuracy: float
    n: int
    n_validation: int
    n_test: int
    predictions: np.ndarray


def ridge_probe(
    model: nn.Module,
    data: DataConfig,
    *,
    penalties: Sequence[float] = PENALTIES,
    data_root: str | None = None,
) -> RidgeProbe:
    r"""Fit a linear classifier to a model's features in closed form: what a linear probe can be held to.

    .. math:: \min_{W, b} \frac{1}{n} \sum_i |W z_i + b - y_i|^2 + \lambda s\, |W|^2

    with :math:`z_i` what the head is given of image i, :math:`y_i` its one-hot label, s the mean variance of a feature;
    :math:`\lambda` is chosen on the validation set of the data configuration, never on the test set. In float64, from
    the eigenvectors of the features' covariance.

    Parameters
    ----------
    model : nn.Module
        With a module `head`, whose weights do not matter. Handed back as it came.
    data : DataConfig
        With a validation set.
    penalties : sequence of float
        :math:`\lambda`, above 0.
    data_root : str, optional
        Where official dataset files are looked for first.

    Returns
    -------
    RidgeProbe

    Raises
    ------
    InputError
        If there is no validation set or a penalty is not above 0.

    Examples
    --------
    >>> from mlptheory.models import build
    >>> model = build("B-1/Wi-64", image_size=8, channels=1, num_classes=10)
    >>> ridge_probe(model, DataConfig(validation=200)).test_accuracy > 0.8
    True
    """
    if not data.validation:
        raise InputError("data.validation = 0: expected a validation set to choose the penalty by")
    for penalty in penalties:
        require_number("penalties", penalty, 0, low_open=True)
    examples = prepare_examples(data, 0, data_root)
    head = Head(copy.deepcopy(model))
    (z, y), held_out, test = (
        _features(head, part, examples, data) for part in (examples.train, examples.validation, examples.test)
    )
    center, targets = z.mean(dim=0), F.one_hot(y, examples.train.num_classes).to(z)
    means = targets.mean(dim=0)
    values, vectors = torch.linalg.eigh((z - center).T @ (z - center) / len(z))
    values = values.clamp(min=0)
    cross = vectors.T @ ((z - center).T @ (targets - means)) / len(z)

    def predictions(penalty: float, inputs: torch.Tensor) -> torch.Tensor:
        weight = vectors @ (cross / (values + penalty * values.mean())[:, None])
        return ((inputs - center) @ weight + means).argmax(dim=1)

    accuracies = {
        penalty: (predictions(penalty, held_out[0]) == held_out[1]).double().mean().item() for penalty in penalties
    }
    best = max(accuracies, key=lambda penalty: (accuracies[penalty], penalty))
    found = predictions(best, test[0])
    return RidgeProbe(
        penalty=best,
        validation_accuracy=accuracies[best],
        test_accuracy=(found == test[1]).double().mean().item(),
        n=len(y),
        n_validation=len(held_out[1]),
        n_test=len(test[1]),
        predictions=found.numpy(),
    )


def _features(head: Head, part: Dataset, examples: Examples, data: DataConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (N, m) in float64 and labels, in the order of the dataset, on the CPU."""
    parameter = next(head.head.parameters())
    loader = Loader(
        part,
        batch_size=min(_AT_ONCE, len(part)),
        normalization=examples.normalization,
        image_size=data.image_size,
        pixel_permutation=data.pixel_permutation,
        permute=data.permute,
        shuffle=False,
        device=str(parameter.device),
        dtype=parameter.dtype,
    )
    found = [head.features(batch.inputs).double().cpu() for batch in loader.batches(epoch=0)]
    return torch.cat(found), part.labels
