"""One of several processes that the tests start: does the jobs of FOLDER/jobs.json and says what came of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.base.launch import LostProcessError
from mlptheory.data import Dataset, datasets
from mlptheory.training import Observer, Recipe, train, train_ensemble
from mlptheory.training.parallel import join
from mlptheory.training.synchronized import synchronized

OBSERVERS = [Observer(name="evaluation")]


def load_by_process(split, root):
    images = torch.full((8, 1, 4, 4), min(1, int(os.environ["RANK"])), dtype=torch.uint8)
    return Dataset(images=images, labels=torch.arange(8) % 2, classes=("a", "b"), name="by process", split=split)


def plain(trained):
    return {
        "weights": {name: value.cpu() for name, value in trained.model.state_dict().items()},
        "history": [list(row) for row in trained.history],
        "accuracy": {split: found.top1 for split, found in trained.evaluations.items()},
        "diverged": trained.diverged,
        "processes": list(trained.processes),
    }


def train_whole(world, recipe, device="cpu", **options):
    return plain(train(Recipe.from_plain(recipe), OBSERVERS, device=device, **options))


def lose_one(world, recipe, step, checkpoint):
    """Train, until the last process is killed after a step; tell what the others make of it."""
    victim = int(world.gather(str(os.getpid()))[-1])

    def on_step(done, _):
        if done == step:
            os.kill(victim, signal.SIGKILL)

    try:
        train(
            Recipe.from_plain(recipe), OBSERVERS, device="cpu", checkpoint=checkpoint, checkpoint_every_s=0,
            on_step=on_step,
        )  # fmt: skip
    except LostProcessError as error:
        return str(error)


def refuse(world, recipe, what):
    """Let each process hold something else than the first, and return what is said."""
    by_process = {"data": {"name": "by process"}, "budget": {"batch_size": 4}}
    options = {"seed": world.rank} if what == "recipe" else by_process if what == "data" else {}
    try:
        if what == "ensemble":
            train_ensemble([Recipe(), Recipe(seed=1)], device="cpu")
        train(Recipe.from_plain({**recipe, **options}), device="mps" if what == "device" else "cpu")
    except InputError as error:
        return str(error)


def talk(world):
    """Say and hear what runs say to each other."""
    tensors = [torch.full((2, 3), world.rank + 1.0), torch.tensor([0.5]).double(), torch.full((5,), float(world.rank))]
    world.add(tensors)
    heard = {
        "sums": tensors,
        "shared": world.share(f"from {world.rank}".encode()).decode(),
        "nothing": world.share(b"").decode(),
        "gathered": world.gather("é" * world.rank),
        "gathered nothing": world.gather(""),
        "first": world.first(lambda: "done"),
    }
    try:
        world.first(lambda: (_ for _ in ()).throw(InputError("no such folder")))
    except InputError as error:
        heard["refused"] = str(error)
    return heard


def normalize(world, folder):
    """Run batch normalizations on this process's rows, of which the first one has none."""
    torch.manual_seed(0)
    found = []
    for shape, options in torch.load(Path(folder) / "normalizations.pt"):
        layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **options).double()
        inputs, pull = torch.randn(shape, dtype=torch.float64) + 100, torch.randn(shape, dtype=torch.float64)
        # The first process's rows go to the second.
        edges = [0, 0, *(index * shape[0] // (world.size - 1) for index in range(1, world.size))]
        rows = slice(edges[world.rank], edges[world.rank + 1])
        mine = inputs[rows].clone().requires_grad_()
        with synchronized(layer, world):
            outputs = layer(mine)
            (outputs * pull[rows]).sum().backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        world.add(gradients)
        found.append([outputs.detach(), mine.grad, gradients, dict(layer.named_buffers())])
        assert "forward" not in vars(layer)
    return found


JOBS = {"train": train_whole, "lose": lose_one, "refuse": refuse, "talk": talk, "normalize": normalize}

if __name__ == "__main__":
    torch.set_num_threads(1)
    datasets.register("by process", summary="other images in all processes but the first")(load_by_process)
    folder, world, outcomes = Path(sys.argv[1]), join(), {}
    for name, job in json.loads((folder / "jobs.json").read_text()).items():
        outcomes[name] = JOBS[job.pop("do")](world, **job)
        torch.save(outcomes, folder / f"{world.rank}.pt")
    # Where one was killed on purpose there is nobody left to say goodbye to.
    os._exit(0)
