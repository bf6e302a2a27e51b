"""Tiny datasets, and NumPy twins of the optimizers, for the tests of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlptheory.data import Dataset, datasets


def _random_dataset(examples, shape, classes, split):
    draw = np.random.default_rng([examples, classes])
    images = torch.from_numpy(draw.integers(0, 256, size=(examples, *shape), dtype=np.uint8))
    labels = torch.from_numpy(np.concatenate([np.arange(classes), draw.integers(0, classes, size=examples - classes)]))
    return Dataset(images=images, labels=labels, classes=tuple("abcdefgh"[:classes]), name="tiny", split=split)


@pytest.fixture(scope="session", autouse=True)
def tiny_datasets():
    """Random images that no size divides: 41 training and 23 test examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "_entries", dict(datasets._entries))
        for name, shape, classes in (
            ("tiny", (2, 4, 4), 7),
            ("tiny-3-classes", (1, 3, 3), 3),
            ("tiny-wide", (2, 3, 5), 4),
        ):

            @datasets.register(name, summary="random images for tests")
            def load(split, root, shape=shape, classes=classes):
                return _random_dataset(41 if split == "train" else 23, shape, classes, split)

        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class NumpyOptimizer:
    """Lion, AdamW and SGD with decoupled decay as their papers write them, on a dictionary of float64 arrays."""

    def __init__(self, config, weights, multipliers=None):
        self.config, self.weights = config, {name: value.astype(np.float64) for name, value in weights.items()}
        self.multipliers = multipliers or {}
        self.first = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.steps = 0

    def step(self, gradients, factor=1.0):
        config = self.config
        self.steps += 1
        for name, gradient in gradients.items():
            own = config.head_lr if config.head_lr is not None and name.startswith("head.") else config.lr
            lr = own * factor * self.multipliers.get(name, 1.0)
            decayed = self.weights[name] * (1 - own * factor * config.weight_decay)
            self.weights[name] = decayed - lr * self._direction(name, gradient)

    def _direction(self, name, gradient):
        config, m, v = self.config, self.first[name], self.second[name]
        if config.name == "sgd":
            self.first[name] = config.momentum * m + gradient
            return self.first[name]
        if config.name == "lion":
            beta1, beta2 = config.betas or (0.9, 0.99)
            self.first[name] = beta2 * m + (1 - beta2) * gradient
            return np.sign(beta1 * m + (1 - beta1) * gradient)
        beta1, beta2 = config.betas or (0.9, 0.999)
        self.first[name] = beta1 * m + (1 - beta1) * gradient
        self.second[name] = beta2 * v + (1 - beta2) * gradient**2
        mean = self.first[name] / (1 - beta1**self.steps)
        return mean / (np.sqrt(self.second[name] / (1 - beta2**self.steps)) + 1e-8)


@pytest.fixture(scope="session")
def numpy_optimizer():
    return NumpyOptimizer
