"""Trained on shuffled labels, a model is as good as chance: the test set is not in the training loop."""

from __future__ import annotations

import numpy as np

from mlptheory.data import load
from mlptheory.measures import chance_accuracy
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, train

SEEDS = 12


def test_shuffled_labels_leave_chance():
    labels = load("digits", "test").labels.numpy()
    surplus, accuracy = [], []
    for seed in range(SEEDS):
        recipe = Recipe(
            data=DataConfig(n=600, shuffle_labels=True),
            model=ModelConfig(name="B-1/Wi-32"),
            optimizer=OptimizerConfig(lr=1e-3),
            budget=BudgetConfig(amount=2, batch_size=64),
            precision="float32",
            seed=seed,
        )
        found = train(recipe, device="cpu").evaluations["test"]
        surplus.append(found.top1 - chance_accuracy(found.predictions, labels))
        accuracy.append(found.top1)
    error = np.std(surplus, ddof=1) / np.sqrt(SEEDS)
    assert abs(np.mean(surplus)) < 4.5 * error < 0.1
    # Runs of one shuffle err alike on like images: far wider than the binomial law of 600 test images.
    assert np.std(accuracy, ddof=1) > 1.5 * np.sqrt(0.1 * 0.9 / 600)
    clean = train(Recipe(**{**vars(recipe), "data": DataConfig(n=600)}), device="cpu").evaluations["test"]
    assert clean.top1 - chance_accuracy(clean.predictions, labels) > 0.5
