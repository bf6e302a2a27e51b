"""From a pretrained model to another dataset: fine-tuning, and linear probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mlptheory.base.errors import invalid
from mlptheory.models import ModelConfig
from mlptheory.models.module import ImageModel
from mlptheory.training.loop import Trained, train
from mlptheory.training.observation import Observer
from mlptheory.training.recipe import BudgetConfig, DataConfig, OptimizerConfig, Recipe

FINETUNING = OptimizerConfig(name="sgd", lr=0.001, head_lr=0.01, momentum=0.9)
"""Bachmann et al. 2023, behind Table 2: SGD with momentum, 0.01 for the head and 0.001 for the body.

Which momentum, they do not say; their code has 0.9.
"""

PROBING = OptimizerConfig(name="lion", lr=1e-5)
"""Bachmann et al. 2023, Table 6: Lion at 1e-5."""

EPOCHS = 50
"""Of both, in the paper."""


def finetuning_recipe(data: DataConfig, **others: Any) -> Recipe:
    """Return the paper's fine-tuning on a dataset: 50 epochs of SGD, the head at ten times the body's learning rate.

    Parameters
    ----------
    data : DataConfig
        Its `image_size` has to be the one that the parent was trained at.
    **others
        Other fields of the recipe, such as `augmentation`, `budget` or `seed`.

    Examples
    --------
    >>> recipe = finetuning_recipe(DataConfig(name="cifar10", image_size=64))
    >>> recipe.optimizer.lr, recipe.optimizer.head_lr, recipe.budget.amount
    (0.001, 0.01, 50)
    """
    chosen = {"optimizer": FINETUNING, "budget": BudgetConfig(amount=EPOCHS), **others}
    return Recipe(data=data, start="body", **chosen)


def probing_recipe(data: DataConfig, **others: Any) -> Recipe:
    """Return the paper's linear probe on a dataset: 50 epochs of Lion at 1e-5 for a new head on fixed features.

    Parameters
    ----------
    data : DataConfig
        Its `image_size` has to be the one that the parent was trained at.
    **others
        Other fields of the recipe, such as `budget` or `seed`.

    Examples
    --------
    >>> probing_recipe(DataConfig(name="cifar100")).trained
    'head'
    """
    chosen = {"optimizer": PROBING, "budget": BudgetConfig(amount=EPOCHS), **others}
    return Recipe(data=data, start="body", trained="head", **chosen)


def finetune(
    parent: Trained | ImageModel, recipe: Recipe, observers: Sequence[Observer] = (), **options: Any
) -> Trained:
    """Train a pretrained model, with a new head, on another dataset.

    Parameters
    ----------
    parent : Trained or ImageModel
        Handed back as it came.
    recipe : Recipe
        Such as `finetuning_recipe` returns; its model is the parent's, whatever it says.
    observers : sequence of Observer
    **options
        Of `train`: data_root, device, checkpoint, ...

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        As `train`, and if the parent's weights do not fit the recipe's pixels.

    Examples
    --------
    >>> from mlptheory.training import BudgetConfig, Recipe, train
    >>> parent = train(Recipe(model=ModelConfig(name="B-1/Wi-32"), budget=BudgetConfig(amount=1)), device="cpu")
    >>> recipe = finetuning_recipe(DataConfig(n=500), budget=BudgetConfig(amount=1))
    >>> finetune(parent, recipe, device="cpu").evaluations["test"].n
    600
    """
    config, weights = _body_of(parent)
    recipe = replace(recipe, model=config, start="body", trained="all")
    return train(recipe, observers, start_weights=weights, **options)


def linear_probe(
    parent: Trained | ImageModel, recipe: Recipe, observers: Sequence[Observer] = (), **options: Any
) -> Trained:
    """Train a new head on the features that a pretrained model gives of another dataset, computed once.

    Parameters
    ----------
    parent : Trained or ImageModel
        Handed back as it came.
    recipe : Recipe
        Such as `probing_recipe` returns; its model is the parent's, whatever it says.
    observers : sequence of Observer
    **options
        Of `train`.

    Returns
    -------
    Trained
        The parent's body under the new head.

    Raises
    ------
    InputError
        As `train`; if the recipe augments; if the parent's weights do not fit the recipe's pixels.

    Examples
    --------
    >>> from mlptheory.training import BudgetConfig, Recipe, train
    >>> parent = train(Recipe(model=ModelConfig(name="B-1/Wi-32"), budget=BudgetConfig(amount=1)), device="cpu")
    >>> probed = linear_probe(parent, probing_recipe(DataConfig(n=500), budget=BudgetConfig(amount=1)), device="cpu")
    >>> torch.equal(probed.model.embedding.weight, parent.model.embedding.weight)
    True
    """
    config, weights = _body_of(parent)
    recipe = replace(recipe, model=config, start="body", trained="head")
    return train(recipe, observers, start_weights=weights, **options)


def _body_of(parent: Trained | ImageModel) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """Return what a parent is, and its weights."""
    model = parent.model if isinstance(parent, Trained) else parent
    config = parent.recipe.model if isinstance(parent, Trained) else getattr(parent, "config", None)
    if not isinstance(model, nn.Module) or not isinstance(config, ModelConfig):
        raise invalid("parent", type(parent).__name__, "what `train` returned, or a model that was built by name")
    return config, model.state_dict()
