"""Members of an ensemble against their own single runs, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    train,
    train_ensemble,
)

EXACT = {"rtol": 0, "atol": 1e-10}
LION, ADAMW = OptimizerConfig(name="lion", lr=1e-3), OptimizerConfig(name="adamw", lr=1e-3)
SGD = OptimizerConfig(name="sgd", lr=0.05)
STEPS = BudgetConfig(amount=200, unit="steps", batch_size=16)
SMLP, BMLP = ModelConfig(name="S-2/Wi-6"), ModelConfig(name="B-1/Wi-5")
# Two channels a group: of one, GroupNorm would cancel the biases, and the sign of rounding errors would move them.
CNN = ModelConfig(name="CNN-2/Wi-16")
COSINE = ScheduleConfig(name="cosine", warmup=7)


def _recipe(**changes):
    base = {"data": DataConfig(name="tiny"), "model": BMLP, "optimizer": LION, "budget": STEPS}
    return Recipe(**{**base, "precision": "float64", **changes})


def members(recipe, lrs=(1.0, 0.3, 2.0), first_seed=4):
    return [
        replace(recipe, seed=first_seed + index, optimizer=replace(recipe.optimizer, lr=recipe.optimizer.lr * factor))
        for index, factor in enumerate(lrs)
    ]


def assert_same(member, single, **tolerance):
    """Compare everything that a run reports."""
    tolerance = tolerance or EXACT
    assert member.recipe == single.recipe and member.precision == single.precision
    assert member.diverged == single.diverged
    left, right = member.model.state_dict(), single.model.state_dict()
    assert list(left) == list(right) and not member.model.training
    for name in left:
        np.testing.assert_allclose(left[name].cpu(), right[name].cpu(), **tolerance, err_msg=name)
    assert [row[:3] for row in member.history] == [row[:3] for row in single.history]
    np.testing.assert_allclose([row[3] for row in member.history], [row[3] for row in single.history], **tolerance)
    assert list(member.evaluations) == list(single.evaluations)
    for split, evaluation in member.evaluations.items():
        other = single.evaluations[split]
        assert (evaluation.top1, evaluation.top5, evaluation.n) == (other.top1, other.top5, other.n)
        np.testing.assert_allclose(evaluation.loss, other.loss, **tolerance)
        assert np.array_equal(evaluation.predictions, other.predictions)


RECIPES = {
    "lion, B-MLP": _recipe(),
    "adamw, B-MLP": _recipe(optimizer=ADAMW),
    "sgd, B-MLP": _recipe(optimizer=SGD),
    "lion, S-MLP without normalization": _recipe(model=replace(SMLP, norm="none")),
    "adamw, S-MLP, decay, clipping, cosine": _recipe(
        model=SMLP, optimizer=replace(ADAMW, weight_decay=0.1, clip_norm=0.5, betas=(0.8, 0.95)), schedule=COSINE
    ),
    "sgd, S-MLP of the authors, decay, clipping, cosine": _recipe(
        model=replace(SMLP, variant="authors"),
        optimizer=replace(SGD, weight_decay=0.1, clip_norm=0.5),
        schedule=COSINE,
    ),
    "sgd without momentum": _recipe(optimizer=replace(SGD, momentum=0.0)),
    "lion, CNN, decay, clipping, warm-up": _recipe(
        model=CNN,
        optimizer=replace(LION, weight_decay=0.5, clip_norm=0.5),
        schedule=ScheduleConfig(warmup=5),
        budget=replace(STEPS, amount=60),
    ),
    "lion, dropout, MixUp per batch, crops": _recipe(
        model=replace(BMLP, dropout=0.3),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), flip=True, shift=1, mixup=0.8),
    ),
    "sgd, MixUp per example, label noise, validation": _recipe(
        data=DataConfig(name="tiny", n=31, validation=6, label_noise=0.4, pixel_permutation=2),
        optimizer=SGD,
        augmentation=Augmentation(mixup=0.4, mixup_per="example"),
    ),
    "adamw, CNN with dropout, shuffled labels": _recipe(
        data=DataConfig(name="tiny", shuffle_labels=True, image_size=6),
        model=replace(CNN, dropout=0.2),
        optimizer=ADAMW,
        budget=replace(STEPS, amount=30),
    ),
    "sgd, muP": _recipe(
        model=replace(BMLP, parametrization="mup", base_width=2), optimizer=replace(SGD, weight_decay=0.2)
    ),
    "lion, muP": _recipe(
        model=replace(BMLP, parametrization="mup", base_width=2), optimizer=replace(LION, weight_decay=0.2)
    ),
    "adamw, NTK": _recipe(model=replace(SMLP, parametrization="ntk"), optimizer=ADAMW),
    "epochs, last batches left out": _recipe(budget=BudgetConfig(amount=3, batch_size=12, drop_last=True)),
    "sgd, a budget of compute": _recipe(
        model=ModelConfig(name="B-1/Wi-256"),
        budget=BudgetConfig(amount=1, unit="compute", batch_size=41),
        optimizer=SGD,
    ),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_each_member_is_its_own_single_run(recipe):
    recipes = members(recipe)
    for member, single in zip(train_ensemble(recipes, device="cpu"), recipes, strict=True):
        assert_same(member, train(single, device="cpu"))
