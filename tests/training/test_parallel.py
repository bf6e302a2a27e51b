"""Several processes come to what one comes to: real ones, over gloo."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import mlptheory
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, train
from mlptheory.training.parallel import World, is_data_parallel, join, refused_by_first

WORKER = Path(__file__).with_name("parallel_worker.py")
OBSERVERS = [Observer(name="evaluation")]
STEP = 8

# 66 examples in batches of 32 leave a last one of 2, of which one of three processes has no row.
NORMALIZED = Recipe(
    data=DataConfig(n=66),
    model=ModelConfig(name="CNN-2/Wi-4", norm="batch"),
    augmentation=Augmentation(crop_scale=(0.5, 1.0), flip=True, shift=1, mixup=0.8, mixup_per="example"),
    # Not AdamW: a bias before batch normalization has no gradient but rounding, of which AdamW makes whole steps.
    optimizer=OptimizerConfig(name="sgd", lr=0.1, clip_norm=0.5),
    budget=BudgetConfig(amount=2, batch_size=32),
    precision="float64",
)
# Batches of 16 leave one example, which one process has to itself; two backward passes of at most 5 rows each.
DROPPED = Recipe(
    data=DataConfig(n=65, validation=30),
    model=ModelConfig(name="B-2/Wi-16", dropout=0.2),
    augmentation=Augmentation(crop_scale=(0.5, 1.0), flip=True, mixup=0.8),
    optimizer=OptimizerConfig(name="adamw", lr=1e-3),
    budget=BudgetConfig(amount=3, batch_size=16, microbatch=5),
    precision="float64",
)
RECIPES = {
    "batch normalization": NORMALIZED,
    "dropout": DROPPED,
    "vectors": replace(NORMALIZED, model=ModelConfig(name="MLP-2/Wi-8", norm="batch"), augmentation=Augmentation()),
    "head": replace(DROPPED, augmentation=Augmentation(), trained="head"),
    "Lion": replace(DROPPED, optimizer=OptimizerConfig(name="lion", lr=1e-4), precision="float32"),
    "bfloat16": replace(DROPPED, optimizer=OptimizerConfig(name="sgd", lr=0.1), precision="bfloat16"),
    "noise": replace(DROPPED, augmentation=Augmentation(flip=True, as_noise=True), loss="squared_error"),
    "diverging": replace(DROPPED, optimizer=OptimizerConfig(name="sgd", lr=1e12), precision="float32"),
}
# Two processes add what two backward passes of half the rows add: the same numbers in the same order.
HALVED = {
    f"{name}, clipped at {clip_norm}": replace(
        DROPPED,
        data=DataConfig(n=64),
        optimizer=OptimizerConfig(name=name, lr=1e-2, weight_decay=0.1, clip_norm=clip_norm),
        budget=BudgetConfig(amount=2, batch_size=16),
        precision="bfloat16",
    )
    for name in ("lion", "adamw", "sgd")
    for clip_norm in (None, 0.5)
}
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2}
NORMALIZATIONS = [
    ((5, 3), {}),
    ((4, 3, 2, 5), {"momentum": None, "eps": 1e-3}),
    ((3, 2, 4, 4), {"affine": False}),
    ((6, 4), {"track_running_stats": False}),
]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(**told):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD_SIZE", "MASTER_"))}
    home = str(Path(mlptheory.__file__).parents[1])
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": home, **{name: str(value) for name, value in told.items()}}


def launch(folder, world, jobs):
    """Start the workers, wait for them and return their exit codes and what each wrote."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    torch.save(NORMALIZATIONS, folder / "normalizations.pt")
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning:mlptheory", str(WORKER), str(folder)],
            env=environment(RANK=rank, WORLD_SIZE=world, MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=240)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert all(code in (0, -signal.SIGKILL) for code in codes), "\n".join(said)
    return codes, [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def plain_jobs(names):
    return {name: {"do": "train", "recipe": RECIPES[name].to_plain()} for name in names}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes: recipes, refusals, and at last one of them is killed."""
    folder = tmp_path_factory.mktemp("two")
    recipe = DROPPED.to_plain()
    jobs = {
        **plain_jobs(RECIPES),
        **{name: {"do": "train", "recipe": recipe.to_plain()} for name, recipe in HALVED.items()},
        **{what: {"do": "refuse", "recipe": recipe, "what": what} for what in ("recipe", "data", "ensemble", "device")},
        "lose": {"do": "lose", "recipe": recipe, "step": STEP, "checkpoint": str(folder / "run.pt")},
    }
    codes, (first, second) = launch(folder, 2, jobs)
    return codes, first, second, folder / "run.pt"


@pytest.fixture(scope="module")
def three(tmp_path_factory, two):
    """Three processes: what they say to each other, batch normalization, and the run that two did not end."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copy(two[-1], folder / "run.pt")
    recipe = DROPPED.to_plain()
    jobs = {
        "talk": {"do": "talk"},
        "normalize": {"do": "normalize", "folder": str(folder)},
        **plain_jobs(["batch normalization", "dropout"]),
        "resumed": {"do": "train", "recipe": recipe, "checkpoint": str(folder / "run.pt")},
    }
    return launch(folder, 3, jobs)[1]


def alone(recipe, **options):
    return train(recipe, OBSERVERS, device="cpu", **options)


def assert_same_run(found, trained, tolerance):
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(found["weights"][name], value, rtol=tolerance, atol=tolerance, msg=name)
    assert [row[:3] for row in found["history"]] == [list(row[:3]) for row in trained.history]
    values = [
        torch.tensor([row[3] for row in rows], dtype=torch.float64) for rows in (found["history"], trained.history)
    ]
    torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
    accuracy = {split: each.top1 for split, each in trained.evaluations.items()}
    assert found["accuracy"] == pytest.approx(accuracy, abs=tolerance)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "diverging"])
def test_two_processes_come_to_what_one_comes_to(two, name):
    _, first, second, _ = two
    assert_same_run(first[name], alone(RECIPES[name]), TOLERANCES[RECIPES[name].precision])
    assert all(torch.equal(value, second[name]["weights"][key]) for key, value in first[name]["weights"].items())
    assert first[name]["history"] == second[name]["history"]
    assert first[name]["processes"] == [2]


@pytest.mark.parametrize("name", HALVED)
def test_two_processes_come_to_the_bits_of_two_backward_passes_of_half_the_rows(two, name):
    _, first, second, _ = two
    trained = alone(replace(HALVED[name], budget=replace(HALVED[name].budget, microbatch=8)))
    for key, value in trained.model.state_dict().items():
        assert torch.equal(first[name]["weights"][key], value), key
        assert torch.equal(second[name]["weights"][key], value), key


@pytest.mark.parametrize("name", ["batch normalization", "dropout"])
def test_three_processes_of_which_some_have_no_row_do_too(three, name):
    trained = alone(RECIPES[name])
    for found in three:
        assert_same_run(found[name], trained, 1e-12)


def test_all_processes_find_the_same_divergence(two):
    _, first, second, _ = two
    trained = alone(RECIPES["diverging"])
    assert trained.diverged is not None
    assert first["diverging"]["diverged"] == second["diverging"]["diverged"] == trained.diverged


def test_batch_normalization_is_over_the_rows_of_all(three):
    torch.manual_seed(0)
    for index, (shape, options) in enumerate(NORMALIZATIONS):
        layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **options).double()
        inputs, pull = torch.randn(shape, dtype=torch.float64) + 100, torch.randn(shape, dtype=torch.float64)
        inputs.requires_grad_()
        outputs = layer(inputs)
        (outputs * pull).sum().backward()
        parts = [found["normalize"][index] for found in three]
        close = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), outputs.detach(), **close)
        torch.testing.assert_close(torch.cat([part[1] for part in parts]), inputs.grad, **close)
        for _, _, gradients, buffers in parts:
            for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
                torch.testing.assert_close(gradient, parameter.grad, **close)
            for name, value in layer.named_buffers():
                torch.testing.assert_close(buffers[name], value, **close)


def test_a_process_that_is_killed_ends_the_run_of_the_others(two):
    codes, first, _, _ = two
    assert codes == [0, -signal.SIGKILL]
    assert "another process of the run ended" in first["lose"]


def test_a_run_that_was_killed_goes_on_with_the_same_number_to_the_same_bits(two, tmp_path):
    _, before, _, checkpoint = two
    shutil.copy(checkpoint, tmp_path / "run.pt")
    job = {"do": "train", "recipe": DROPPED.to_plain(), "checkpoint": str(tmp_path / "run.pt")}
    _, (first, _) = launch(tmp_path, 2, {"resumed": job})
    whole = before["dropout"]
    assert all(torch.equal(value, whole["weights"][name]) for name, value in first["resumed"]["weights"].items())
    assert first["resumed"]["history"] == whole["history"]
    assert first["resumed"]["processes"] == [2, 2]


def test_a_run_of_two_processes_goes_on_with_three_or_one(two, three, tmp_path):
    shutil.copy(two[-1], tmp_path / "run.pt")
    whole = alone(DROPPED)
    resumed = alone(DROPPED, checkpoint=tmp_path / "run.pt")
    assert resumed.processes == (2, 1)
    assert_same_run(three[0]["resumed"], whole, 1e-12)
    assert three[0]["resumed"]["processes"] == [2, 3]
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=1e-12)


def test_processes_hear_what_the_others_say(three):
    for rank, found in enumerate(three):
        heard = found["talk"]
        assert heard["shared"] == "from 0"
        assert heard["nothing"] == ""
        assert heard["gathered"] == ["", "é", "éé"]
        assert heard["gathered nothing"] == ["", "", ""]
        assert heard["first"] == ("done" if rank == 0 else None)
        assert heard["refused"] == "no such folder"
        sums, half, ranks = heard["sums"]
        assert torch.equal(sums, torch.full((2, 3), 6.0))
        assert torch.equal(half, torch.tensor([1.5]).double())
        assert torch.equal(ranks, torch.full((5,), 3.0))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("recipe", r"torchrun: process 1 on \S+: other recipe or start weights, initial weights: expected those of "),
        ("data", r"torchrun: process 1 on \S+: other training data, test data, recipe or start weights: expected"),
        ("ensemble", "train_ensemble: started as one of 2 processes: expected one process"),
        ("device", "device = 'mps': expected cpu or cuda, as 2 processes train one model"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_all(two, what, said):
    _, first, second, _ = two
    assert first[what] == second[what]
    assert re.match(said, first[what])


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("name", ["batch normalization", "dropout", "head"])
def test_two_gpus_come_to_what_one_comes_to(name, tmp_path):
    job = {"do": "train", "recipe": RECIPES[name].to_plain(), "device": "cuda"}
    _, (first, second) = launch(tmp_path, 2, {"train": job})
    trained = train(RECIPES[name], OBSERVERS, device="cuda")
    trained.model.cpu()
    assert_same_run(first["train"], trained, 1e-10)
    assert all(torch.equal(value, second["train"]["weights"][key]) for key, value in first["train"]["weights"].items())


def test_a_process_by_itself_is_a_world_of_one():
    assert join() == World()
    assert not is_data_parallel()
    assert World().rows(7) == slice(0, 7)
    tensor = torch.ones(2)
    World().add([tensor])
    assert tensor.tolist() == [1, 1]
    assert World().device("mps") == "mps"
    assert refused_by_first("anything")
