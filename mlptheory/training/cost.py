"""What a run will cost here, before it runs: memory by accounting, seconds by a few real steps."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.data import Batch
from mlptheory.models import count_parameters
from mlptheory.training.budget import budget_steps, recipe_macs, steps_per_epoch
from mlptheory.training.device import autocast, default_device, resolve_precision, weight_dtype
from mlptheory.training.ensemble import Ensemble
from mlptheory.training.examples import prepare_examples, training_size
from mlptheory.training.loop import Run
from mlptheory.training.observation import Observer
from mlptheory.training.recipe import Recipe
from mlptheory.training.setting import Setting
from mlptheory.training.together import require_together

GIB = 2**30
_STATES_PER_WEIGHT = {"lion": 1, "adamw": 2, "sgd": 1}


@dataclass(frozen=True)
class Work:
    """What a recipe asks for, counted.

    Attributes
    ----------
    steps, epochs : int
        Optimizer steps, and epochs begun.
    examples : int
        Examples seen, repeats counted.
    evaluations : int
        Of the test set: the observers' and the final one.
    """

    steps: int
    epochs: int
    examples: int
    evaluations: int


def count_work(recipe: Recipe, n: int, observers: Sequence[Observer] = (), macs: int | None = None) -> Work:
    """Count the steps, epochs, examples and evaluations of a recipe.

    Parameters
    ----------
    recipe : Recipe
    n : int
        Training examples.
    observers : sequence of Observer
        Each look of any of them is counted as an evaluation.
    macs : int, optional
        Multiply-accumulates of one example's forward pass; needed for a budget of compute.

    Returns
    -------
    Work

    Examples
    --------
    >>> from mlptheory.training import BudgetConfig
    >>> count_work(Recipe(budget=BudgetConfig(amount=3, batch_size=64)), n=100)
    Work(steps=6, epochs=3, examples=300, evaluations=1)
    """
    budget = recipe.budget
    per_epoch = steps_per_epoch(budget, n)
    steps = budget_steps(budget, n, macs)
    whole, rest = divmod(steps, per_epoch)
    epochs = whole + (rest > 0)
    looks = sum(observer.is_due(epoch, epoch == epochs) for observer in observers for epoch in range(epochs + 1))
    looks += sum(_looks_within(observer, steps) for observer in observers if observer.every == "octave")
    return Work(
        steps=steps,
        epochs=epochs,
        examples=whole * min(n, per_epoch * budget.batch_size) + rest * budget.batch_size,
        evaluations=1 + looks,
    )


@lru_cache(maxsize=64)
def _looks_within(observer: Observer, steps: int) -> int:
    return sum(observer.is_due_at_step(step) for step in range(1, steps))


def planned_work(recipe: Recipe, observers: Sequence[Observer] = (), data_root: str | None = None) -> Work:
    """Count the work of a recipe on its data as found under `data_root`; see `count_work`."""
    macs = recipe_macs(recipe, data_root) if recipe.budget.unit == "compute" else None
    return count_work(recipe, training_size(recipe.data, data_root), observers, macs)


@dataclass(frozen=True)
class Cost:
    """The cost of one training run, or of an ensemble that is trained as one.

    Attributes
    ----------
    work : Work
        What is to be done by each member.
    parameters : int
        Trainable parameters of each.
    peak_gib : float
        Weights, gradients, optimizer states, what the backward pass keeps of one microbatch, and the resident
        dataset. The libraries' own memory (about 0.4 GiB a process on a CPU) comes on top.
    step_s, epoch_s, evaluation_s : float
        Seconds of one step, of beginning an epoch and of one evaluation, of all members: the median, or one, of a few
        measured on this machine as busy as it is now.
    members : int
        Runs that are trained as one.
    """

    work: Work
    parameters: int
    peak_gib: float
    step_s: float
    epoch_s: float
    evaluation_s: float
    members: int = 1

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, or of all members' together."""
        return self.seconds_of(self.work)

    def seconds_of(self, work: Work) -> float:
        """Return the seconds of a run that differs from this one in nothing but its length and observers."""
        return work.steps * self.step_s + work.epochs * self.epoch_s + work.evaluations * self.evaluation_s


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
    return _kept_bytes(lambda: model(inputs), model.parameters())


def _kept_bytes(forward: Callable[[], torch.Tensor], weights: Iterable[torch.Tensor]) -> int:
    parameters = {weight.untyped_storage().data_ptr() for weight in weights}
    # The tensors stay referenced here, so that no freed storage's address is used twice.
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        # An operation that saves its own output would hold itself, in a cycle that no collector sees.
        tensor = tensor.detach()
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def estimate_cost(
    recipe: Recipe,
    observers: Sequence[Observer] = (),
    *,
    data_root: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    measured_steps: int = 3,
    members: int = 1,
) -> Cost:
    """Estimate what `train` or `train_ensemble` will cost on this machine, by taking a few real steps.

    Parameters
    ----------
    recipe, observers, data_root, device
        As for `train`; a recipe that starts from a parent costs what one from initialization does.
    threads : int, optional
        CPU threads to measure with; the process's own, if None.
    measured_steps : int
        Steps timed, after one that is not.
    members : int
        Runs that are trained as one; 1 is a single run.

    Returns
    -------
    Cost

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> cost = estimate_cost(Recipe(model=ModelConfig(name="B-1/Wi-32")), device="cpu")
    >>> cost.work.steps, cost.seconds > 0
    (190, True)
    """
    require_integer("measured_steps", measured_steps, 1)
    require_integer("members", members, 1)
    device = device or default_device()
    precision = resolve_precision(recipe.precision, device)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        examples = prepare_examples(recipe.data, recipe.seed, data_root)
        setting = Setting(replace(recipe, start="initialization"), examples, device, precision)
        run = _begin(setting, members)
        step_s, epoch_s = _time_steps(run, measured_steps)
        evaluation_s = members * _time_evaluation(setting)
    finally:
        torch.set_num_threads(before)
    parameters = count_parameters(setting.initial_model())
    return Cost(
        work=planned_work(recipe, observers, data_root),
        parameters=parameters,
        peak_gib=_peak_bytes(run, setting, members * parameters) / GIB,
        step_s=step_s,
        epoch_s=epoch_s,
        evaluation_s=evaluation_s,
        members=members,
    )


def _begin(setting: Setting, members: int) -> Run | Ensemble:
    if members == 1:
        return Run(setting.recipe, setting.examples, setting.device, setting.precision)
    recipes = [replace(setting.recipe, seed=setting.recipe.seed + member) for member in range(members)]
    require_together(recipes)
    return Ensemble([replace(setting, recipe=recipe) for recipe in recipes])


def _time_steps(run: Run | Ensemble, measured_steps: int) -> tuple[float, float]:
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


def _endless(run: Run | Ensemble) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from run.loader.batches(epoch)
        epoch += 1


def _time_evaluation(setting: Setting) -> float:
    """Return the seconds of one evaluation of the test set, timed on at most 2,048 of its examples."""
    test = setting.examples.test
    part = test.select(torch.arange(min(2048, len(test))))
    timed, model = replace(setting, examples=replace(setting.examples, test=part)), setting.initial_model()
    timed.evaluate_model(model, "test")
    began = time.perf_counter()
    timed.evaluate_model(model, "test")
    return (time.perf_counter() - began) * len(test) / len(part)


def _finish(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(run: Run | Ensemble, setting: Setting, parameters: int) -> int:
    recipe, examples = setting.recipe, setting.examples
    budget, weight_bytes = recipe.budget, weight_dtype(setting.precision).itemsize
    members = len(run.settings) if isinstance(run, Ensemble) else 1
    inputs = torch.zeros(2 * members, *run.loader.input_shape, dtype=weight_dtype(setting.precision), device=run.device)
    if isinstance(run, Ensemble):
        run.skeleton.eval()
        kept = _kept_bytes(lambda: run.logits(inputs, {}), [run.stack.weights])
    else:
        run.model.eval()
        with autocast(run.precision, run.device):
            kept = saved_for_backward_bytes(run.model, inputs)
    resident = sum(math.prod(part.images.shape) for part in (examples.train, examples.test) if not part.is_streamed)
    microbatch = min(budget.microbatch or budget.batch_size, budget.batch_size)
    batch_bytes = 2 * members * budget.batch_size * inputs[0].numel() * weight_bytes
    states = (2 + _STATES_PER_WEIGHT[recipe.optimizer.name]) * parameters * weight_bytes
    return int(states + kept / 2 * microbatch + batch_bytes + resident)
