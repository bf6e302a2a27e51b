"""The whole pipeline beside the authors' design on this machine, in one process, taking turns.

Ours        images resident as bytes, random resized crop, flip, MixUp, normalization, and a training step in bfloat16
The step    the same step on a batch that is ready
Authors     their design (Bachmann et al. 2023): FFCV's own pipeline with their operators from a .beton of raw images,
            float32, eager, lion-pytorch tensor by tensor, their metrics, one .item() a step. Without ffcv it is skipped
Torch       the same with a data pipeline of torch's operators, which needs no ffcv
Optimizer   our optimizer's step on gradients that are there
Products    the matrix products of a step's forward and backward pass and nothing else, in bfloat16 and in float32: all
            of them F.linear of contiguous operands that are there already

A turn is three steps that warm up and `steps` that are timed; ways take turns, in reversed order every other round.
Printed and written are seconds per step, and ratios pair by pair of one round: their median, lowest and highest. Images
and labels are random, 1,000 classes: no number here depends on what they show. On CUDA also the share of the device's
peak, and the time of 5,000 epochs of CIFAR-10 at 64 x 64, from 100.

    python benchmarks/pipeline.py [--rounds 5] [--steps 6] [--threads 2] [--device cpu] [--cases 0,1] [--json FILE]
"""

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
from peers.of_pipeline import (
    ALPHA,
    LR,
    RATIO,
    SCALE,
    SMOOTHING,
    Unavailable,
    authors_step,
    authors_steps,
    ffcv_batches,
    torch_batches,
)
from torch import nn
from torch.nn import functional as F

from mlptheory.base.memory import keeping_freed_memory
from mlptheory.data import Augmentation, Dataset, channel_statistics
from mlptheory.models import ModelConfig, build
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples
from mlptheory.training.examples import Examples
from mlptheory.training.loop import Run
from mlptheory.trials.environment import describe_environment

# And how many times longer a turn is: what disturbs a machine for a moment is as long as a small net's step.
CASES = (("B-6/Wi-1024", 64, 1024, 1), ("B-3/Wi-256", 32, 1024, 8))
CLASSES = 1000
WARM_UP = 3
# Dense bfloat16 products, FLOP/s, as the maker gives them.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
PAIRS = {
    "authors, FFCV / ours": (("authors, FFCV",), "ours"),
    "authors, torch / ours": (("authors, torch",), "ours"),
    "ours: step alone / whole": (("step alone",), "ours"),
    "bfloat16 products / step alone": (("bfloat16 products",), "step alone"),
    "bfloat16 products and optimizer / step alone": (("bfloat16 products", "optimizer"), "step alone"),
    "float32 products / bfloat16 products": (("float32 products",), "bfloat16 products"),
}
Steps = Callable[[], Iterator[None]]


def random_images(side: int, n: int) -> Dataset:
    draw = torch.Generator().manual_seed(0)
    return Dataset(
        name=f"random{side}",
        split="train",
        images=torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=draw),
        labels=torch.randint(0, CLASSES, (n,), generator=draw),
        classes=tuple(map(str, range(CLASSES))),
    )


def recipe_of(name: str, batch_size: int, precision: str = "bfloat16", data: DataConfig | None = None) -> Recipe:
    return Recipe(
        data=data or DataConfig(),
        model=ModelConfig(name=name),
        augmentation=Augmentation(crop_scale=SCALE, crop_ratio=RATIO, flip=True, mixup=ALPHA),
        optimizer=OptimizerConfig(name="lion", lr=LR),
        budget=BudgetConfig(amount=1_000_000, batch_size=batch_size, drop_last=True),
        label_smoothing=SMOOTHING,
        precision=precision,
    )


def our_steps(run: Run) -> Iterator[None]:
    """Take the steps of an epoch as training does."""
    with keeping_freed_memory(), closing(run.loader.batches(run.epoch)) as batches:
        for batch in batches:
            run.take_step(batch)
            yield
    run.epoch += 1


def ready_steps(run: Run) -> Iterator[None]:
    """Take steps on one batch that is ready."""
    batch = next(iter(run.loader.batches(0)))
    with keeping_freed_memory():
        while True:
            run.take_step(batch)
            yield


def optimizer_steps(run: Run) -> Iterator[None]:
    """Take the optimizer's steps on the gradients of one batch."""
    with keeping_freed_memory():
        run.take_step(next(iter(run.loader.batches(0))))
        while True:
            run.optimizer.step()
            yield


def products(model: nn.Module, batch_size: int, dtype: torch.dtype, device: str) -> Steps:
    """Return the products of a step: of each dense layer the output, and the gradients of weight and inputs."""
    operands = []
    for index, layer in enumerate(module for module in model.modules() if isinstance(module, nn.Linear)):
        sizes = (batch_size, layer.out_features, layer.in_features)
        n, rows, columns = sizes
        operands.append([(n, columns), (rows, columns)])
        operands.append([(rows, n), (columns, n)])
        if index:
            operands.append([(n, rows), (columns, rows)])
    pairs = [[torch.randn(shape, device=device).to(dtype) for shape in shapes] for shapes in operands]

    def steps() -> Iterator[None]:
        with keeping_freed_memory(), torch.no_grad():
            while True:
                for left, right in pairs:
                    F.linear(left, right)
                yield

    return steps


def flops(model: nn.Module, batch_size: int) -> int:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return 2 * batch_size * (3 * weights - layers[0].in_features * layers[0].out_features)


def ways_of(
    name: str, side: int, batch_size: int, steps: int, options: argparse.Namespace, folder: Path
) -> dict[str, Steps]:
    # And what loaders make ahead.
    n = (WARM_UP + steps + 5) * batch_size
    dataset = random_images(side, n)
    examples = Examples(dataset, None, dataset, channel_statistics(dataset), side)
    recipe, device = recipe_of(name, batch_size), options.device
    ours, alone = (Run(recipe, examples, device, "bfloat16") for _ in range(2))
    made = {"ours": lambda: our_steps(ours), "step alone": lambda: ready_steps(alone)}
    made["optimizer"] = lambda: optimizer_steps(alone)
    theirs = authors_step(build(name, image_size=side, num_classes=CLASSES, seed=0).to(device))
    common = (dataset, examples.normalization, batch_size)
    try:
        by_ffcv = ffcv_batches(*common, options.threads, device, folder)
        made["authors, FFCV"] = lambda: authors_steps(by_ffcv, theirs)
    except Unavailable as error:
        print(f"    authors, FFCV: {error}", flush=True)
    by_torch = torch_batches(*common, device)
    made["authors, torch"] = lambda: authors_steps(by_torch, theirs)
    for label, dtype in (("bfloat16 products", torch.bfloat16), ("float32 products", torch.float32)):
        made[label] = products(ours.model, batch_size, dtype, device)
    return made


def turn(way: Steps, steps: int, device: str) -> float:
    """Return the seconds of one step, after those that warm up: memory and caches are another way's before."""
    with closing(way()) as taken:
        for _ in range(WARM_UP):
            next(taken)
        finish(device)
        began = time.perf_counter()
        for _ in range(steps):
            next(taken)
        finish(device)
        return (time.perf_counter() - began) / steps


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(ways: dict[str, Steps], steps: int, options: argparse.Namespace) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(options.rounds):
        for name in list(ways) if round_ % 2 == 0 else list(reversed(ways)):
            seconds[name].append(turn(ways[name], steps, options.device))
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return median, lowest and highest of the rounds' ratios."""
    found = {}
    for label, (above, below) in PAIRS.items():
        if all(way in seconds for way in above):
            sums = [sum(parts) for parts in zip(*(seconds[way] for way in above), strict=True)]
            each = [one / other for one, other in zip(sums, seconds[below], strict=True)]
            found[label] = [statistics.median(each), min(each), max(each)]
    return found


def peak_of(device: str) -> float | None:
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def case(name: str, side: int, batch_size: int, longer: int, options: argparse.Namespace) -> dict:
    steps = longer * options.steps
    print(f"{name} at {side} x {side}, batches of {batch_size}, {CLASSES} classes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(ways_of(name, side, batch_size, steps, options, Path(folder)), steps, options)
    work = flops(build(name, image_size=side, num_classes=CLASSES, seed=0), batch_size)
    found = {"model": name, "side": side, "batch_size": batch_size, "steps": steps, "flops": work, "seconds": seconds}
    found["ratios"] = ratios(seconds)
    for way, each in seconds.items():
        middle = statistics.median(each)
        print(f"    {way:<22} {middle:9.4f} s a step, {batch_size / middle:9.0f} images/s, {work / middle / 1e9:7.0f}")
    for label, (middle, low, high) in found["ratios"].items():
        print(f"    {label:<46} {middle:6.2f} [{low:.2f}, {high:.2f}]", flush=True)
    if (peak := peak_of(options.device)) is not None:
        found["share_of_peak"] = work / statistics.median(seconds["ours"]) / peak
        print(f"    share of the device's peak {found['share_of_peak']:.3f}", flush=True)
    return found


def cifar10(options: argparse.Namespace) -> dict:
    """Return the seconds of 100 epochs of B-6/Wi-1024, and of 5,000 extrapolated from them."""
    data = DataConfig(name="cifar10", image_size=64)
    recipe = recipe_of("B-6/Wi-1024", 1024, data=data)
    recipe = replace(recipe, budget=replace(recipe.budget, amount=options.epochs))
    run = Run(recipe, prepare_examples(data, 0), options.device, "bfloat16")
    for _ in zip(range(3), our_steps(run), strict=False):
        pass
    finish(options.device)
    began = time.perf_counter()
    for _ in range(options.epochs):
        for _ in our_steps(run):
            pass
    finish(options.device)
    took = time.perf_counter() - began
    print(f"CIFAR-10, {options.epochs} epochs {took:.1f} s; 5,000 epochs {took * 5000 / options.epochs / 60:.1f} min")
    return {"epochs": options.epochs, "seconds": took, "seconds_of_5000": took * 5000 / options.epochs}


def versions_of_peers() -> dict[str, str | None]:
    found = {}
    for package in ("ffcv", "numba"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--cases", default=",".join(map(str, range(len(CASES)))), help="of those in CASES")
    parser.add_argument("--epochs", type=int, default=100, help="of CIFAR-10, on CUDA")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = True  # as the authors' script says
    record = {
        "options": {name: value for name, value in vars(options).items() if name not in ("json", "cases")},
        # Others at work on the machine, before this was.
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "classes": CLASSES,
        **describe_environment(),
        "peers": versions_of_peers(),
        "cases": [],
    }
    for index in map(int, options.cases.split(",")):
        record["cases"].append(case(*CASES[index], options))
    if options.device == "cuda":
        record["cifar10"] = cifar10(options)
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
