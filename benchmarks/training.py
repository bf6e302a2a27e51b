"""What the training system costs beside the bare step: the same model, optimizer and examples, in one process.

The system draws, normalizes and feeds batches, accumulates metrics and keeps the schedule; the bare loop only takes
steps on ready-made batches. Printed is system / bare in seconds per step, pair by pair, with its spread.

    python benchmarks/training.py [--rounds 7] [--threads 1]
"""

import argparse
import statistics
import time

import torch
from lion_pytorch import Lion
from torch.nn import functional as F

from mlptheory.models import ModelConfig, build
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples
from mlptheory.training.loop import Run

STEPS = 20


def system_seconds(run: Run) -> float:
    batches = run.loader.batches(0)
    run.take_step(next(batches))
    began = time.perf_counter()
    for _ in range(STEPS):
        run.take_step(next(batches, None) or next(batches := run.loader.batches(0)))
    return (time.perf_counter() - began) / STEPS


def bare_seconds(model: torch.nn.Module, optimizer: torch.optim.Optimizer, inputs, targets) -> float:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(inputs), targets, label_smoothing=0.3).backward()
        optimizer.step()

    step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - began) / STEPS


def compare(name: str, batch_size: int, rounds: int) -> None:
    recipe = Recipe(
        data=DataConfig(name="digits"),
        model=ModelConfig(name=name),
        optimizer=OptimizerConfig(lr=1e-4),
        budget=BudgetConfig(amount=1, batch_size=batch_size),
        precision="float32",
    )
    run = Run(recipe, prepare_examples(recipe.data, 0), "cpu", "float32")
    batch = next(run.loader.batches(0))
    model = build(name, image_size=8, channels=1, num_classes=10)
    optimizer = Lion(model.parameters(), lr=1e-4)
    pairs = [(system_seconds(run), bare_seconds(model, optimizer, batch.inputs, batch.targets)) for _ in range(rounds)]
    ratios = sorted(system / bare for system, bare in pairs)
    print(
        f"{name:<12} batch {batch_size:<5} bare {1e3 * statistics.median(bare for _, bare in pairs):8.2f} ms   "
        f"system / bare {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.rounds} pairs of {STEPS} steps")
    for name, batch_size in (("B-2/Wi-64", 16), ("B-2/Wi-64", 256), ("B-3/Wi-256", 64), ("B-3/Wi-256", 1024)):
        compare(name, batch_size, arguments.rounds)


if __name__ == "__main__":
    main()
