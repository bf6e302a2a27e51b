"""What a run will cost here, before it runs: memory by accounting, seconds by a few real steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.training.device import autocast, default_device, resolve_precision
from mlptheory.training.examples import prepare_examples
from mlptheory.training.loop import Run
from mlptheory.training.observation import Observer
from mlptheory.training.recipe import Recipe

GIB = 2**30
_STATES_PER_WEIGHT = {"lion": 1, "adamw": 2, "sgd": 1}


@dataclass(frozen=True)
class Cost:
    """The cost of one training run.

    Attributes
    ----------
    parameters : int
        Trainable parameters.
    steps : int
        Optimizer steps.
    examples : int
        Examples seen, repeats counted.
    peak_gib : float
        Weights, gradients, optimizer states, what the backward pass keeps of one microbatch, and the resident
        dataset. The libraries' own memory (about 0.4 GiB a process on a CPU) comes on top.
    seconds : float
        Steps and evaluations, from the median of a few measured ones on this machine as busy as it is now.
    """

    parameters: int
    steps: int
    examples: int
    peak_gib: float
    seconds: float


def saved_for_backward_bytes(model: nn.Module, inputs: torch.Tensor) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, the parameters themselves not counted.

    Parameters
    ----------
    model : nn.Module
    inputs : Tensor of shape (B, C, H, W)

    Returns
    -------
    int
        Over distinct storages.

    Examples
    --------
    >>> saved_for_backward_bytes(nn.Linear(3, 2), torch.zeros(5, 3))
    60
    """
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    # The tensors stay referenced here, so that no freed storage's address is used twice.
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def estimate_cost(
    recipe: Recipe,
    observers: Sequence[Observer] = (),
    *,
    data_root: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    measured_steps: int = 3,
) -> Cost:
    """Estimate what `train` will cost on this machine, by taking a few real steps.

    Parameters
    ----------
    recipe, observers, data_root, device
        As for `train`; a recipe that starts from a parent costs what one from initialization does.
    threads : int, optional
        CPU threads to measure with; the process's own, if None.
    measured_steps : int
        Steps timed, after one that is not.

    Returns
    -------
    Cost

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> cost = estimate_cost(Recipe(model=ModelConfig(name="B-1/Wi-32")), device="cpu")
    >>> cost.steps, cost.seconds > 0
    (190, True)
    """
    require_integer("measured_steps", measured_steps, 1)
    device = device or default_device()
    precision = resolve_precision(recipe.precision, device)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        examples = prepare_examples(recipe.data, recipe.seed, data_root)
        run = Run(replace(recipe, start="initialization"), examples, device, precision)
        step_s, batch_s = _time_steps(run, measured_steps)
        evaluation_s = _time_evaluation(run)
    finally:
        torch.set_num_threads(before)
    epochs = -(-run.total_steps // len(run.loader))
    looks = 1 + sum(observer.is_due(epoch, epoch == epochs) for observer in observers for epoch in range(epochs + 1))
    whole_epochs, rest = divmod(run.total_steps, len(run.loader))
    per_epoch = min(len(examples.train), len(run.loader) * recipe.budget.batch_size)
    parameters = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    return Cost(
        parameters=parameters,
        steps=run.total_steps,
        examples=whole_epochs * per_epoch + rest * recipe.budget.batch_size,
        peak_gib=_peak_bytes(run, parameters) / GIB,
        seconds=run.total_steps * step_s + epochs * batch_s + looks * evaluation_s,
    )


def _time_steps(run: Run, measured_steps: int) -> tuple[float, float]:
    """Return the seconds of one step, its batch included, and of beginning an epoch."""
    step_s, epoch_s = [], 0.0
    began = time.perf_counter()
    for batch in _endless(run):
        if not step_s:
            epoch_s = time.perf_counter() - began
        run.take_step(batch)
        _finish(run.device)
        step_s.append(time.perf_counter() - began)
        if len(step_s) > measured_steps:
            break
        began = time.perf_counter()
    return statistics.median(step_s[1:]), epoch_s


def _endless(run: Run):
    epoch = 0
    while True:
        yield from run.loader.batches(epoch)
        epoch += 1


def _time_evaluation(run: Run) -> float:
    """Return the seconds of one evaluation of the test set, timed on at most 2,048 of its examples."""
    test = run.examples.test
    part = replace(test, images=test.images[:2048], labels=test.labels[:2048])
    run.examples = replace(run.examples, test=part)
    run.evaluate("test")
    began = time.perf_counter()
    run.evaluate("test")
    return (time.perf_counter() - began) * len(test) / len(part)


def _finish(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(run: Run, parameters: int) -> int:
    recipe = run.recipe
    weight_bytes = next(run.model.parameters()).element_size()
    microbatch = min(recipe.budget.microbatch or recipe.budget.batch_size, recipe.budget.batch_size)
    batch = next(iter(run.loader.batches(0)))
    inputs = batch.inputs[:2].clone()  # a slice would count the whole batch's storage
    run.model.eval()
    with autocast(run.precision, run.device):
        per_example = saved_for_backward_bytes(run.model, inputs) / len(inputs)
    examples = run.examples
    resident = examples.train.images.numel() + examples.test.images.numel()
    batch_bytes = 2 * recipe.budget.batch_size * inputs[0].numel() * weight_bytes
    states = (2 + _STATES_PER_WEIGHT[recipe.optimizer.name]) * parameters * weight_bytes
    return int(states + per_example * microbatch + batch_bytes + resident)
