"""What the measures say of B-MLPs trained on CIFAR-10: kernel along training, curvature, noise, filters.

Command   MLPTHEORY_DATA=FOLDER python experiments/measures/cifar10.py [--out FOLDER] [--epochs 30] [--seeds 3]
          writes cifar10.json and the filters' figures, beside this file or in FOLDER; runs that are in --runs already
          are not trained again, and an interrupted run goes on from its last checkpoint
Paper     Bachmann, Anagnostidis & Hofmann 2023, appendix C, Figures 10 and 11: filters become local with
          augmentation, on ImageNet-21k; without it they stay unstructured
Time      see "seconds" of each run

Of every number: each net's value, their mean, and its 95 % interval over nets (Student's t). The net is the unit: seeds
draw initialization, order and augmentation; images, and those that are measured, are the same for all.

Chosen here: B-3/Wi-256, 32 x 32, 20,000 training images, 30 epochs, Lion at 1e-4, batches of 256, label smoothing 0.3;
arms without augmentation and with crops of 40 to 100 % of the area, flips and MixUp; the trace kernel of the first 200
test images in float32, centered over them for the alignment; Hessian (256 images) and noise (1,024) of the smoothed
cross-entropy on training images as they are, in float64; windows of 8 x 8 pixels for the local norm share.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from mlptheory.base.files import canonical_json, write_atomically
from mlptheory.data import Augmentation, Batch, Dataset, Loader, subset
from mlptheory.measures import (
    empirical_ntk,
    filter_pictures,
    first_layer_filters,
    gradient_noise_scale,
    hessian_top_eigenvalues,
    inverse_participation_anchors,
    inverse_participation_ratio,
    kernel_evolution,
    label_alignment,
    local_norm_share,
    locality_test,
    spatial_spread,
)
from mlptheory.models import ModelConfig, model_from_config
from mlptheory.reports.filters import filters_figure
from mlptheory.reports.style import figure_style
from mlptheory.stats import mean_interval
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    TrainingState,
    data_digest,
    observers,
    train,
)
from mlptheory.training.examples import Examples, prepare_examples
from mlptheory.trials import describe_environment

ARMS = {
    "plain": Augmentation(),
    "augmented": Augmentation(crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0), flip=True, mixup=0.8),
}
N, KERNEL_IMAGES, HESSIAN_IMAGES, NOISE_IMAGES, EIGENVALUES, WINDOW = 20_000, 200, 256, 1024, 3, 8
STATISTICS = {
    "inverse_participation_ratio": inverse_participation_ratio,
    "spatial_spread": spatial_spread,
    "local_norm_share": partial(local_norm_share, window=WINDOW),
}


def recipe_of(arm: str, seed: int, epochs: int) -> Recipe:
    """Return how one net is trained."""
    return Recipe(
        data=DataConfig(name="cifar10", n=N),
        model=ModelConfig(name="B-3/Wi-256"),
        augmentation=ARMS[arm],
        optimizer=OptimizerConfig(name="lion", lr=1e-4),
        budget=BudgetConfig(amount=epochs, batch_size=256),
        seed=seed,
    )


def batch_of(dataset: Dataset, examples: Examples) -> Batch:
    """Return a dataset as evaluation sees it, in float32."""
    loader = Loader(dataset, batch_size=len(dataset), normalization=examples.normalization, shuffle=False)
    return next(loader.batches(epoch=0))


def kernel_batch(examples: Examples) -> Batch:
    """Return the images that the kernel is computed on."""
    return batch_of(examples.test.select(torch.arange(KERNEL_IMAGES)), examples)


@observers.register("ntk")
def observe_ntk(state: TrainingState, folder: str) -> Mapping[str, float]:
    """Keep the model's tangent kernel on fixed test images, and return its alignment with their labels."""
    batch = kernel_batch(state.examples)
    kernel = empirical_ntk(state.model, batch.inputs, outputs="trace", dtype=torch.float32)
    torch.save(kernel.clone(), Path(folder) / f"kernel_{state.step:06d}.pt")
    return {"label_alignment": label_alignment(kernel, batch.targets)}


def run(arm: str, seed: int, epochs: int, folder: Path, root: str | None) -> None:
    """Train one net and keep its weights, its kernels and what it came to."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, began = recipe_of(arm, seed, epochs), time.perf_counter()
    looks = [
        Observer(name="ntk", every="doubling", parameters=(("folder", str(folder)),)),
        Observer(name="evaluation", every="doubling"),
    ]
    with tqdm(desc=f"{arm}, seed {seed}", unit="step", leave=False) as progress:

        def on_step(step: int, steps: int) -> None:
            progress.total = steps
            progress.update(step - progress.n)

        trained = train(recipe, looks, data_root=root, device="cpu", checkpoint=folder / "checkpoint", on_step=on_step)
    if trained.diverged is not None:
        raise RuntimeError(f"{arm}, seed {seed}: diverged at {trained.diverged}")
    kept = {
        "weights": trained.model.state_dict(),
        "history": [list(row) for row in trained.history],
        "precision": trained.precision,
        "test_accuracy": trained.evaluations["test"].top1,
        "seconds": trained.earlier_s + time.perf_counter() - began,
    }
    torch.save(kept, folder / "partial")
    (folder / "partial").rename(folder / "trained.pt")


def initial_model(recipe: Recipe) -> nn.Module:
    """Return the net as it is before the first step."""
    return model_from_config(recipe.model, image_size=32, channels=3, num_classes=10, seed=recipe.seed)


def measured(recipe: Recipe, folder: Path, root: str | None) -> tuple[dict[str, object], nn.Module]:
    """Return what one trained net is measured to be, and the net."""
    kept = torch.load(folder / "trained.pt")
    examples = prepare_examples(recipe.data, recipe.seed, root)
    model = initial_model(recipe).eval()
    model.load_state_dict(kept["weights"])
    paths = sorted(folder.glob("kernel_*.pt"))
    steps = [int(path.stem.removeprefix("kernel_")) for path in paths]
    evolution = kernel_evolution((torch.load(path) for path in paths), steps, kernel_batch(examples).targets)
    few, more = (batch_of(subset(examples.train, n, seed=0), examples) for n in (HESSIAN_IMAGES, NOISE_IMAGES))
    smoothed = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    hessian = hessian_top_eigenvalues(model, smoothed, few.inputs, few.targets, EIGENVALUES)
    losses = partial(smoothed, reduction="none")
    noise = gradient_noise_scale(model, losses, more.inputs, more.targets, population=len(examples.train))
    filters = first_layer_filters(model)
    moved = first_layer_filters(model, initial=initial_model(recipe))
    return {
        "test_accuracy": kept["test_accuracy"],
        "seconds": kept["seconds"],
        "precision": kept["precision"],
        "history": kept["history"],
        "steps": steps,
        "label_alignment": evolution.label_alignment.tolist(),
        "kernel_distance": evolution.distance_from_first.tolist(),
        "kernel_velocity": evolution.velocity.tolist(),
        "effective_rank": evolution.effective_rank.tolist(),
        "hessian_top": list(hessian.values),
        "hessian_residuals": list(hessian.residuals),
        "hessian_converged": hessian.converged,
        "noise_scale": noise.noise_scale,
        "noise_scale_95": [noise.low, noise.high],
        "locality": {
            f"{name} of {what}": statistic(values).nanmean().item()
            for name, statistic in STATISTICS.items()
            for what, values in (("W", filters), ("W - W0", moved))
        },
    }, model


def plain(value: object) -> object:
    """Return it as JSON can hold it: numbers that are not finite by name, as an interval may be unbounded."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def interval(values: Sequence[float]) -> list[float]:
    """Return a mean with its 95 % interval over nets."""
    found = mean_interval(values)
    return [found.estimate, found.low, found.high]


def over_nets(nets: Sequence[Mapping[str, object]], name: str) -> object:
    """Return means with intervals of a number, or of each number of a list."""
    values = [net[name] for net in nets]
    if isinstance(values[0], list):
        return [interval(column) for column in zip(*values, strict=True)]
    return interval(values)


def summary(nets: Sequence[dict]) -> dict[str, object]:
    """Return what the nets of an arm come to."""
    names = (
        "test_accuracy",
        "label_alignment",
        "kernel_distance",
        "kernel_velocity",
        "effective_rank",
        "hessian_top",
        "noise_scale",
    )
    found = {name: over_nets(nets, name) for name in names}
    locality = {name: interval([net["locality"][name] for net in nets]) for name in nets[0]["locality"]}
    return {**found, "locality": locality}


def locality_tests(models: Sequence[nn.Module], initial: Sequence[nn.Module]) -> dict[str, object]:
    """Return every test of filters against their references, over the nets of one arm."""
    trained = [first_layer_filters(model) for model in models]
    moved = [first_layer_filters(model, initial=start) for model, start in zip(models, initial, strict=True)]
    before = [first_layer_filters(start) for start in initial]
    found = {}
    for statistic in STATISTICS:
        options = {"window": WINDOW} if statistic == "local_norm_share" else {}
        references = ["gaussian"] + (["shuffled"] if statistic != "inverse_participation_ratio" else [])
        for what, nets in (("W", trained), ("W - W0", moved)):
            for reference in references:
                found[f"{statistic} of {what} against {reference}"] = locality_test(
                    nets, statistic, reference, **options
                )
        found[f"{statistic} of W against initial"] = locality_test(
            trained, statistic, "initial", initial=before, **options
        )
        found[f"{statistic} of W - W0 against initial"] = locality_test(
            moved, statistic, "initial", initial=before, **options
        )
    return {
        name: {
            "values": test.values,
            "references": test.references,
            "difference": interval([a - b for a, b in zip(test.values, test.references, strict=True)]),
            "p": test.p,
            "more_local_is": test.more_local_is,
        }
        for name, test in found.items()
    }


def draw(models: Mapping[str, nn.Module], initial: nn.Module, out: Path) -> None:
    """Write the pictures of first-layer filters, and of what training added to them."""
    figures: dict[str, Callable[[nn.Module], torch.Tensor]] = {
        "cifar10_filters": lambda model: first_layer_filters(model),
        "cifar10_filters_moved": lambda model: first_layer_filters(model, initial=initial),
    }
    for name, filters in figures.items():
        panels = {label: filter_pictures(filters(model)) for label, model in models.items()}
        if name == "cifar10_filters":
            panels = {"initialization": filter_pictures(first_layer_filters(initial)), **panels}
        figure = filters_figure(panels)
        with figure_style():
            for kind in ("png", "pdf"):
                figure.savefig(out / f"{name}.{kind}", dpi=200)


def main() -> None:
    """Train what is not trained yet, measure all and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--runs", type=Path, help="folder of weights and kernels; OUT/runs if not given")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    runs, root = chosen.runs or chosen.out / "runs", os.environ.get("MLPTHEORY_DATA")
    todo = [(arm, seed) for seed in range(chosen.seeds) for arm in ARMS]
    nets: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    models: dict[str, list[nn.Module]] = {arm: [] for arm in ARMS}
    for arm, seed in tqdm(todo, unit="net"):
        folder = runs / f"{arm}_{seed}"
        if not (folder / "trained.pt").exists():
            run(arm, seed, chosen.epochs, folder, root)
        found, model = measured(recipe_of(arm, seed, chosen.epochs), folder, root)
        nets[arm].append(found)
        models[arm].append(model)
    initial = [initial_model(recipe_of("plain", seed, chosen.epochs)) for seed in range(chosen.seeds)]
    recipe = recipe_of("plain", 0, chosen.epochs)
    result = {
        "recipe": recipe.to_plain(),
        "augmentation": {arm: asdict(augmentation) for arm, augmentation in ARMS.items()},
        "seeds": list(range(chosen.seeds)),
        "n": {
            "training": N,
            "kernel": KERNEL_IMAGES,
            "hessian": HESSIAN_IMAGES,
            "noise": NOISE_IMAGES,
            "nets of an arm": chosen.seeds,
        },
        "data_digest": data_digest("cifar10", root),
        "interval": "mean and 95 % interval over nets, Student's t",
        "steps": nets["plain"][0]["steps"],
        "inverse_participation_anchors": inverse_participation_anchors(3072),
        "arms": {
            arm: {"summary": summary(nets[arm]), "tests": locality_tests(models[arm], initial), "nets": nets[arm]}
            for arm in ARMS
        },
        "environment": describe_environment(),
    }
    write_atomically(chosen.out / "cifar10.json", canonical_json(plain(result)).encode())
    draw({arm: models[arm][0] for arm in ARMS}, initial[0], chosen.out)


if __name__ == "__main__":
    main()
