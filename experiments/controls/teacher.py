"""Noise of the gradient at a known optimum: what theory predicts of SGD on "teacher", and what SGD does.

Command   python experiments/controls/teacher.py [FILE]    writes teacher.json, beside this file or as FILE
Theory    docs/probes/controls.md; every number on that page is in teacher.json
Time      4 minutes on one CPU core

Chosen here: learning rate 1/8, batch sizes 16, 64 and 256, one epoch, 64 seeds, float32.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import linregress, t

from mlptheory.base.files import canonical_json, write_atomically
from mlptheory.data import load, teacher_probabilities
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, data_digest
from mlptheory.trials import Measurement, Schedule, Trial, describe_environment, run_trial
from mlptheory.trials.run import Task

LR, BATCH_SIZES, SEEDS = 0.125, (16, 64, 256), 64


def inputs(images: torch.Tensor) -> np.ndarray:
    """Return ±1 pixels and a 1 for the bias, (N, 17)."""
    return np.concatenate([images.flatten(1).numpy() / 127.5 - 1, np.ones((len(images), 1))], axis=1)


def every_image() -> torch.Tensor:
    """Return all 2^16 images."""
    bits = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    return torch.from_numpy((255 * bits).astype(np.uint8)).reshape(-1, 1, 4, 4)


class Theory:
    """Expectations over all 2^16 images, in the logit difference's 17 parameters."""

    def __init__(self) -> None:
        images = every_image()
        self.x, self.p = inputs(images), teacher_probabilities(images)[:, 1]
        self.v = self.p * (1 - self.p)
        self.features = self.x.shape[1]
        self.hessian = (self.x * self.v[:, None]).T @ self.x / len(self.x)
        self.trace = 2 * np.trace(self.hessian)  # of the Hessian in all 34 parameters
        logits, counts = np.unique(np.log(self.p / (1 - self.p)).round(6), return_counts=True)
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        self._logits, self._nodes = logits[:, None], nodes
        self._weights = np.outer(counts / counts.sum(), weights / weights.sum())

    def leading(self, batch_size: int) -> float:
        """Return (lr / 4B) tr H."""
        return LR / (4 * batch_size) * self.trace

    def closure(self, batch_size: int) -> float:
        """Solve the exact balance of the squared distance for iterates that are Gaussian and isotropic."""
        lr, batch_noise = 2 * LR, LR * self.features / batch_size
        squared_curvature = np.trace(self.hessian @ self.hessian)

        def imbalance(variance: float) -> float:
            jeffreys, spread, _ = self._divergences(variance)
            finite_step = lr / 2 * (1 - 1 / batch_size) * variance * squared_curvature
            return jeffreys - batch_noise * (self.v.mean() + spread) - finite_step

        return self._divergences(brentq(imbalance, 1e-8, 0.05))[2]

    def _divergences(self, variance: float) -> tuple[float, float, float]:
        """Return E[KL + reverse KL], E[(q - p)^2] and E[KL] for logits off by N(0, 17 variance)."""
        off = np.sqrt(variance * self.features) * self._nodes
        p, q = expit(self._logits), expit(self._logits + off)
        kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return tuple((self._weights * value).sum() for value in (off * (q - p), (q - p) ** 2, kl))

    def excess(self, beta: np.ndarray) -> float:
        """Return E[KL(teacher || model)] of a model whose logits differ by beta . x."""
        z = self.x @ beta
        return (self.p * (np.log(self.p) + np.logaddexp(0, -z))).mean() + (
            (1 - self.p) * (np.log1p(-self.p) + np.logaddexp(0, z))
        ).mean()

    def mean_shift(self, batch_size: int) -> float:
        """Return what the closure leaves out, a mean iterate beside the optimum, as a share of the excess."""
        skew = (self.x * (self.v * (1 - 2 * self.p))[:, None]).mean(axis=0)
        return LR * self.features / (4 * batch_size) * skew @ np.linalg.solve(self.hessian, skew) / self.v.mean()

    def simulate(self, batch_size: int, chains: int = 1600) -> list[float]:
        """Return mean and standard error, over chains that are always fed fresh examples, of excess over leading order.

        In plain float32 and with none of the package's training code; from the optimum, at rest after 150 steps.
        """
        draw = torch.Generator().manual_seed(0)
        x, p = torch.from_numpy(self.x).float(), torch.from_numpy(self.p).float()
        optimum = (self.x * np.log(self.p / (1 - self.p))[:, None]).mean(axis=0)
        beta, looks = torch.from_numpy(optimum).float().repeat(chains, 1), []
        for step in range(550):
            if step >= 150 and step % 80 == 70:
                looks.append([self.excess(row) for row in beta.double().numpy()])
            chosen = torch.randint(len(x), (chains, batch_size), generator=draw)
            y = (torch.rand(chains, batch_size, generator=draw) < p[chosen]).float()
            off = torch.sigmoid(torch.einsum("mbd,md->mb", x[chosen], beta)) - y
            beta = beta - 2 * LR / batch_size * torch.einsum("mbd,mb->md", x[chosen], off)
        found = np.mean(looks, axis=0) / self.leading(batch_size)
        return [found.mean(), found.std(ddof=1) / np.sqrt(chains)]

    def data_term(self) -> float:
        """Return how far off this one training set is: excess of its maximum likelihood, less d / 2N."""
        train = load("teacher", "train")
        x, y = inputs(train.images), train.labels.numpy()
        beta = np.zeros(self.features)
        for _ in range(12):
            q = expit(x @ beta)
            beta -= np.linalg.solve((x * (q * (1 - q))[:, None]).T @ x, x.T @ (q - y))
        return self.excess(beta) - self.features / (2 * len(x))


def slope(values: list[float] | np.ndarray) -> float:
    """Return the slope of log2(excess) over log2(batch size)."""
    return float(linregress(np.log2(BATCH_SIZES), np.log2(values)).slope)


def predictions() -> dict[str, object]:
    """Return the leading order, the closure, and the closure for this one training set."""
    theory = Theory()
    test = teacher_probabilities(load("teacher", "test").images).prod(axis=1).mean()
    leading = [theory.leading(size) for size in BATCH_SIZES]
    closure = [theory.closure(size) for size in BATCH_SIZES]
    here = [value + theory.data_term() for value in closure]
    return {
        "mean_variance": theory.v.mean(),
        "trace": theory.trace,
        "eigenvalues": (2 * np.linalg.eigvalsh(theory.hessian)).tolist(),
        "test_over_population": test / theory.v.mean(),
        "data_term": theory.data_term(),
        "leading": leading,
        "closure": closure,
        "these_data": here,
        "mean_shift": [theory.mean_shift(size) for size in BATCH_SIZES],
        "slope_closure": slope(closure),
        "slope_these_data": slope(here),
    }


def run(seed: int, batch_size: int) -> float:
    """Return the excess loss of one run."""
    recipe = Recipe(
        data=DataConfig(name="teacher"),
        model=ModelConfig(name="Linear"),
        optimizer=OptimizerConfig(name="sgd", lr=LR, momentum=0.0),
        budget=BudgetConfig(amount=1, batch_size=batch_size),
        label_smoothing=0.0,
        precision="float32",
        seed=seed,
    )
    task = Task(
        trial=Trial(recipe=recipe, measures=(Measurement(name="excess_loss"),)),
        digest="",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision="float32", groups=()),
        data_root=None,
        checkpoint=None,
        keep_weights=False,
    )
    return run_trial(task)[0].metrics["excess_loss"]


def summary(runs: np.ndarray, predicted: dict[str, object]) -> dict[str, object]:
    """Return means with 95 % t intervals over seeds; `runs` is (seeds, batch sizes)."""
    quantile = t.ppf(0.975, len(runs) - 1)

    def interval(values: np.ndarray) -> list[float]:
        half = quantile * values.std(ddof=1) / np.sqrt(len(values))
        return [values.mean(), values.mean() - half, values.mean() + half]

    by_size = list(zip(runs.T, predicted["leading"], predicted["these_data"], strict=True))
    return {
        "slope": interval(np.array([slope(row) for row in runs])),
        "slope_of_means": slope(runs.mean(axis=0)),
        "over_leading": [interval(values / leading) for values, leading, _ in by_size],
        "over_these_data": [interval(values / here) for values, _, here in by_size],
        "sd_log2": np.log2(runs).std(axis=0, ddof=1).tolist(),
        "sd_slope": float(np.std([slope(row) for row in runs], ddof=1)),
    }


if __name__ == "__main__":
    began, predicted = time.perf_counter(), predictions()
    runs = np.array([[run(seed, size) for size in BATCH_SIZES] for seed in range(SEEDS)])
    result = {
        "lr": LR,
        "batch_sizes": list(BATCH_SIZES),
        "seeds": SEEDS,
        "data_digest": data_digest("teacher"),
        "predictions": predicted,
        "simulation": {str(size): Theory().simulate(size) for size in (4, *BATCH_SIZES[:1])},
        "closure_at_4": Theory().closure(4) / Theory().leading(4),
        "runs": runs.tolist(),
        "summary": summary(runs, predicted),
        "environment": describe_environment(),
        "seconds": time.perf_counter() - began,
    }
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".json")
    write_atomically(path, canonical_json(result).encode())
