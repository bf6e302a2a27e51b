"""An ensemble against the same runs one by one, as whole trainings on this machine.

The M runs are trained by as many worker processes as there are cores (one on a GPU), each with one thread: one run
after another, and as one ensemble a worker, M / workers members each. Both ways take turns, pair by pair, in the same
workers. Printed is the seconds of the runs over those of the ensembles, as a geometric mean with its 95 % interval
(t on the logarithms of the pairs); above 1 the ensemble pays.

    python benchmarks/ensemble.py [--model B-2/Wi-64] [--members 16] [--batch-sizes 16,32,64] [--repeats 7]
        [--steps 100] [--workers 2] [--device cpu] [--json FILE]
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mlptheory.models import ModelConfig, build, count_parameters
from mlptheory.stats import mean_interval
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, train, train_ensemble
from mlptheory.trials.environment import describe_environment


def recipes_of(arguments: argparse.Namespace, batch_size: int, steps: int) -> list[Recipe]:
    recipe = Recipe(
        data=DataConfig(name="digits"),
        model=ModelConfig(name=arguments.model),
        optimizer=OptimizerConfig(lr=1e-4),
        budget=BudgetConfig(amount=steps, unit="steps", batch_size=batch_size),
        precision=arguments.precision,
    )
    return [replace(recipe, seed=seed) for seed in range(arguments.members)]


def one_by_one(recipes: Sequence[Recipe], device: str) -> None:
    for recipe in recipes:
        train(recipe, device=device)


def together(recipes: Sequence[Recipe], device: str) -> None:
    train_ensemble(recipes, device=device)


def seconds(pool: ProcessPoolExecutor, way, shares: Sequence[Sequence[Recipe]], device: str) -> float:
    began = time.perf_counter()
    for done in [pool.submit(way, share, device) for share in shares]:
        done.result()
    return time.perf_counter() - began


def compare(pool: ProcessPoolExecutor, arguments: argparse.Namespace, batch_size: int) -> dict:
    def shares(steps: int) -> list[list[Recipe]]:
        recipes = recipes_of(arguments, batch_size, steps)
        return [recipes[worker :: arguments.workers] for worker in range(arguments.workers)]

    for way in (one_by_one, together):
        seconds(pool, way, shares(2), arguments.device)
    measured = shares(arguments.steps)
    pairs = []
    for repeat in range(arguments.repeats):
        ways = (one_by_one, together) if repeat % 2 == 0 else (together, one_by_one)
        took = {way: seconds(pool, way, measured, arguments.device) for way in ways}
        pairs.append((took[one_by_one], took[together]))
    ratios = np.array([runs / ensemble for runs, ensemble in pairs])
    interval = mean_interval(np.log(ratios))
    found = {
        "batch_size": batch_size,
        "seconds": pairs,
        "ratio": math.exp(interval.estimate),
        "low": math.exp(interval.low),
        "high": math.exp(interval.high),
    }
    print(
        f"batch {batch_size:<5} one by one {np.median([pair[0] for pair in pairs]):7.2f} s   "
        f"together {np.median([pair[1] for pair in pairs]):7.2f} s   "
        f"ratio {found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}]",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="B-2/Wi-64")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--batch-sizes", default="16,32,64,128,256,512,1024")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.workers is None:
        arguments.workers = len(os.sched_getaffinity(0)) if arguments.device == "cpu" else 1
    parameters = count_parameters(build(arguments.model, image_size=8, channels=1, num_classes=10))
    print(
        f"{arguments.model}, {parameters:,} parameters, digits, {arguments.members} members, {arguments.steps} steps, "
        f"{arguments.workers} worker(s) on {arguments.device}, {arguments.repeats} pairs"
    )
    with ProcessPoolExecutor(
        arguments.workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        found = [compare(pool, arguments, int(size)) for size in arguments.batch_sizes.split(",")]
    if arguments.json is not None:
        options = {name: str(value) for name, value in vars(arguments).items() if name != "json"}
        written = {"options": options, "parameters": parameters, "found": found, **describe_environment()}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
