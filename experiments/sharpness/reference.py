"""The picture that the edge of stability is known by: a tanh net of two layers of 200 on 5,000 images of CIFAR-10.

Command   MLPTHEORY_DATA=FOLDER python experiments/sharpness/reference.py [--out FOLDER] [--steps 10000] [--every 100]
          writes reference.json, reference.pdf and reference.png, beside this file or in FOLDER; an interrupted run
          goes on from its last checkpoint, kept in FOLDER until the end
Paper     Cohen, Kaur, Li, Kolter & Talwalkar 2021, Fig. 1 and the first demonstration of their code: full-batch
          gradient descent at η = 0.01 on half the squared error; sharpness rises to 2/η = 200 and stays there
Time      1 hour 8 minutes on one CPU core (a hyperthread) that other work shared; alone, 0.13 seconds a
          step and 4 to 8 a look

As there: the first 5,000 training images, one-hot labels, PyTorch's initialization, no momentum, no decay. Chosen
here: images standardized by channel over these 5,000, where the paper's code standardizes each pixel over all 50,000;
10,000 steps and one seed. Trained in float32; the largest eigenvalue of the Hessian over all 5,000 images in
float64, by Lanczos to a residual of 0.1 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from mlptheory.base.files import canonical_json, write_atomically
from mlptheory.data import Dataset, datasets, load
from mlptheory.measures import stability_threshold
from mlptheory.models import ModelConfig
from mlptheory.reports import figure_style, new_figure, save_figure
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    Trained,
    data_digest,
    default_device,
    train,
)
from mlptheory.trials import describe_environment
from mlptheory.trials.registered import observers  # noqa: F401, as importing registers the observer "edge"

NAME, N, LR = "cifar10-first-5000", 5000, 0.01


@datasets.register(NAME, summary="the first 5,000 training images of CIFAR-10, and its test images")
def load_first(split: str, root: str | os.PathLike[str] | None) -> Dataset:
    """Load the images that the paper's code trains on."""
    found = load("cifar10", split, root=root)
    return found.select(torch.arange(N)) if split == "train" else found


def recipe_of(steps: int) -> Recipe:
    """Return full-batch gradient descent on half the squared error."""
    return Recipe(
        data=DataConfig(name=NAME),
        model=ModelConfig(name="MLP-2/Wi-200", norm="none", activation="tanh"),
        optimizer=OptimizerConfig(name="sgd", lr=LR, momentum=0.0),
        budget=BudgetConfig(amount=steps, unit="steps", batch_size=N),
        loss="squared_error",
        label_smoothing=0.0,
        precision="float32",
    )


def seen(trained: Trained, quantity: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a quantity was seen, and its values."""
    rows = [(step, value) for step, _, name, value in trained.history if name == quantity]
    return [step for step, _ in rows], [value for _, value in rows]


def summary(steps: Sequence[int], sharpness: Sequence[float], threshold: float) -> Mapping[str, object]:
    """Return when the threshold is crossed, and where sharpness is in the last third of the looks."""
    crossed = next((step for step, value in zip(steps, sharpness, strict=True) if value >= threshold), None)
    last = sharpness[-max(1, len(sharpness) // 3) :]
    return {
        "threshold": threshold,
        "first look at or above the threshold": crossed,
        "looks in the last third": len(last),
        "mean of the last third": sum(last) / len(last),
        "smallest of the last third": min(last),
        "largest of the last third": max(last),
    }


def draw(trained: Trained, threshold: float, out: Path) -> None:
    """Draw the training loss above, and sharpness with its threshold below."""
    with figure_style():
        figure = new_figure(columns=1, height=3.4)
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(*seen(trained, "train_loss"), linewidth=0.7)
        above.set_yscale("log")
        above.set_ylabel("training loss")
        below.plot(*seen(trained, "edge_sharpness"), ".", markersize=3)
        below.axhline(threshold, linestyle="--", linewidth=0.8, color="C1", label=f"2/η = {threshold:g}")
        below.set_ylim(bottom=0)
        below.set_ylabel("largest eigenvalue")
        below.set_xlabel("steps")
        below.legend(loc="lower right")
        save_figure(figure, out / "reference")


def main() -> None:
    """Train, or go on; write the record and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=100)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    root, device, checkpoint = os.environ.get("MLPTHEORY_DATA"), default_device(), chosen.out / "reference.checkpoint"
    recipe, began = recipe_of(chosen.steps), time.perf_counter()
    with tqdm(total=chosen.steps, unit="step") as bar:

        def on_step(step: int, steps: int) -> None:
            bar.update(step - bar.n)

        trained = train(
            recipe,
            (Observer(name="edge", every=chosen.every),),
            data_root=root,
            device=device,
            checkpoint=checkpoint,
            on_step=on_step,
        )
    seconds = time.perf_counter() - began + trained.earlier_s
    threshold = stability_threshold(LR)
    looks, sharpness = seen(trained, "edge_sharpness")
    result = {
        "recipe": recipe.to_plain(),
        "data_digest": data_digest(NAME, root),
        "diverged": trained.diverged,
        "summary": summary(looks, sharpness, threshold),
        "steps": looks,
        "sharpness": sharpness,
        "loss": seen(trained, "edge_loss")[1],
        "test_accuracy": trained.evaluations["test"].top1,
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "environment": describe_environment(),
    }
    write_atomically(chosen.out / "reference.json", canonical_json(result) + "\n")
    draw(trained, threshold, chosen.out)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
