"""The training loop: one recipe to one trained model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call

from mlptheory.base.errors import InputError, invalid
from mlptheory.base.memory import keeping_freed_memory
from mlptheory.data import Batch, Loader
from mlptheory.models import lr_multipliers, set_dropout_key
from mlptheory.training.checkpoint import load_shared_checkpoint, save_checkpoint
from mlptheory.training.copies import WeightCopies
from mlptheory.training.device import autocast, default_device, resolve_precision, weight_dtype
from mlptheory.training.evaluation import Evaluation
from mlptheory.training.examples import prepare_examples
from mlptheory.training.exchange import Exchange
from mlptheory.training.head import FeatureLoader, Head
from mlptheory.training.losses import example_losses, hits
from mlptheory.training.observation import HistoryRow, Observer
from mlptheory.training.observation import observers as registered_observers
from mlptheory.training.optimizers import build_optimizer, lr_factor, set_lr
from mlptheory.training.parallel import World, join, weights_digest
from mlptheory.training.recipe import Recipe
from mlptheory.training.setting import Setting
from mlptheory.training.synchronized import has_batch_normalization, synchronized
from mlptheory.training.together import FAMILIES

if TYPE_CHECKING:
    from mlptheory.training.ensemble import Ensemble


@dataclass(frozen=True)
class Trained:
    """What a recipe came to.

    Attributes
    ----------
    recipe : Recipe
    model : nn.Module
        In evaluation mode, with the weights after the last step (not the best step's).
    evaluations : dict of str to Evaluation
        On "test" and, where the recipe carves one out, "validation"; empty if the run diverged.
    history : tuple of (step, epoch, quantity, value)
        Training loss and accuracy of every epoch, and what the observers saw.
    diverged : dict or None
        Step and epoch (from 0) of the first loss that was not finite; training stops after that epoch. Weights
        that are not finite after an epoch count for the step that would have followed.
    precision : str
        The precision that the recipe's came to on this device.
    earlier_s : float
        Seconds of earlier sittings, up to the checkpoint that the run was resumed from.
    processes : tuple of int
        How many processes trained it, sitting by sitting.
    """

    recipe: Recipe
    model: nn.Module
    evaluations: Mapping[str, Evaluation]
    history: tuple[HistoryRow, ...]
    diverged: Mapping[str, int] | None
    precision: str
    earlier_s: float = 0.0
    processes: tuple[int, ...] = (1,)


@dataclass
class Run(Setting):
    """A recipe in training: the moving parts, and where they stand.

    Sums over the epoch and the first step without a finite loss stay on the device; they are read once an epoch,
    so no step waits for the device.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    on_history: Callable[[Sequence[HistoryRow]], None] | None = None
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.began, self.earlier_s = time.perf_counter(), 0.0
        self.processes = [self.world.size]
        self.model = self.initial_model()
        multipliers = lr_multipliers(self.model, recipe.optimizer.name)
        self.loader: Loader | FeatureLoader = self.training_loader().shard(self.world.rank, self.world.size)
        self.logits: Callable[[torch.Tensor], torch.Tensor] = self.model
        self.copies: WeightCopies | None = None
        if recipe.trained == "head":
            self.logits = Head(self.model)
            self.loader = FeatureLoader(self.loader, self.logits, self.precision)
        elif self.precision == "bfloat16" and recipe.model.parsed.family in FAMILIES:
            # What else a model that is not built in does with a weight, nobody knows.
            self.copies = WeightCopies(self.model)
            # Not a method of this run, which would hold itself and its images until a collector comes.
            self.logits = partial(_logits_by_copies, self.model, self.copies)
        copies = self.copies if self._gradients_stay_with_copies else None
        self.optimizer = build_optimizer(self.model, recipe.optimizer, multipliers, copies)
        self.exchange = Exchange(self.model, self.world)
        self.total_steps = self.count_steps(self.model, self.loader.input_shape)
        self._refuse_batch_normalization_of_parts()
        self.loss_sum, self.hits, self.count = self._zero(), self._zero(), 0
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)

    def _zero(self) -> torch.Tensor:
        return torch.zeros((), dtype=weight_dtype(self.precision), device=self.device)

    @property
    def _gradients_stay_with_copies(self) -> bool:
        """Whether the optimizer takes the gradients of one backward pass as they are, and takes them of the copies."""
        budget, optimizer = self.recipe.budget, self.recipe.optimizer
        in_parts = budget.microbatch is not None and budget.microbatch < budget.batch_size
        return optimizer.name == "lion" and optimizer.clip_norm is None and not in_parts and self.world.size == 1

    def _refuse_batch_normalization_of_parts(self) -> None:
        budget, n = self.recipe.budget, len(self.examples.train)
        if not has_batch_normalization(self.model):
            return
        if budget.microbatch is not None and budget.microbatch < budget.batch_size:
            raise invalid("budget.microbatch", budget.microbatch, "nothing, as the model has batch normalization")
        if (n % budget.batch_size == 1 and not budget.drop_last) or budget.batch_size == 1:
            raise invalid(
                "budget.batch_size",
                budget.batch_size,
                f"batches of at least 2 of the {n} examples under batch normalization (or drop_last)",
            )

    @property
    def is_finished(self) -> bool:
        """Whether every step of the budget has been taken."""
        return self.step >= self.total_steps

    def take_step(self, batch: Batch) -> None:
        """Take one optimizer step on one logical batch, or with the other processes on their parts of it."""
        recipe, size = self.recipe, batch.logical_size
        self.optimizer.zero_grad(set_to_none=True)
        if self.copies is not None:
            self.copies.forget_gradients()
        self.model.train()
        with synchronized(self.model, self.world):
            for rows in self._passes(len(batch.targets)):
                here = slice(batch.first + rows.start, batch.first + rows.stop)
                set_dropout_key(self.model, seed=recipe.seed, step=self.step, rows=here, batch_size=size)
                with autocast(self.precision, self.device):
                    logits = self.logits(batch.inputs[rows])
                if logits.dtype != torch.float64:
                    logits = logits.float()
                loss = example_losses(logits, batch, recipe, rows).sum() / size
                loss.backward()
                if self.copies is not None and not self._gradients_stay_with_copies:
                    self.copies.hand_over()
                self.exchange.note(loss.detach(), hits(logits.detach(), batch, rows).sum())
        for loss, correct in self.exchange.finish():
            self.loss_sum += loss * size
            self.hits += correct
            bad = ~torch.isfinite(loss) & (self.first_bad_step < 0)
            self.first_bad_step.masked_fill_(bad, self.step)
        if recipe.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip_norm)
        set_lr(self.optimizer, recipe.optimizer.lr * lr_factor(recipe.schedule, self.step, self.total_steps))
        self.optimizer.step()
        self.step += 1
        self.count += size

    def _passes(self, here: int) -> list[slice]:
        """Return the rows of each backward pass; without any there is one where batch normalization waits for all."""
        microbatch = self.recipe.budget.microbatch or max(here, 1)
        passes = [slice(first, min(first + microbatch, here)) for first in range(0, here, microbatch)]
        return passes or [slice(0, 0)] * has_batch_normalization(self.model)

    @property
    def has_ended(self) -> bool:
        """Whether training stops here, whatever is left of the budget."""
        return self.diverged() is not None

    def diverged(self) -> dict[str, int] | None:
        """Read the first step without a finite loss, if there was one."""
        step = int(self.first_bad_step.item())
        return None if step < 0 else {"step": step, "epoch": step // len(self.loader)}

    def close_epoch(self) -> None:
        """Write the epoch's mean loss and accuracy down and begin the next."""
        mean_loss, accuracy = (self.loss_sum / self.count).item(), (self.hits / self.count).item()
        self.epoch, self.batch = self.epoch + 1, 0
        self.history.append((self.step, self.epoch, "train_loss", mean_loss))
        self.history.append((self.step, self.epoch, "train_accuracy", accuracy))
        self.loss_sum, self.hits, self.count = self._zero(), self._zero(), 0
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in self.model.parameters()]).all()
        self.first_bad_step.masked_fill_(~finite & (self.first_bad_step < 0), self.step)
        self._tell_history()

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the model as it stands on "test" or "validation"."""
        return self.evaluate_model(self.model, split)

    def observe(self, specifications: Sequence[Observer], is_last: bool) -> None:
        """Let the observers that are due look, and write down what they return."""
        due = [observer for observer in specifications if observer.is_due(self.epoch, is_last)]
        self._look(due)

    def observe_step(self, specifications: Sequence[Observer]) -> None:
        """Let the observers look that are due within an epoch."""
        self._look([observer for observer in specifications if observer.is_due_at_step(self.step)])

    def _look(self, due: Sequence[Observer]) -> None:
        if due:
            if self.copies is not None:
                # An observer finds the last step's gradients where every other run has them.
                self.copies.hand_over()
            optimizer_state = self.optimizer.state_dict()
            self.history += self.look(due, self.model, optimizer_state, self.step, self.epoch, self.history)
        self._tell_history()

    def _tell_history(self) -> None:
        if self.on_history is not None:
            self.on_history(self.history)

    def state(self) -> dict[str, Any]:
        """Return everything that decides how the run goes on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": [self.loss_sum, self.hits, self.first_bad_step],
            "counts": [self.epoch, self.batch, self.step, self.count],
            "history": [list(row) for row in self.history],
            "memories": self.memories,
            "processes": self.processes,
            "seconds": self.earlier_s + time.perf_counter() - self.began,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum, self.hits, self.first_bad_step = (value.clone() for value in state["sums"])
        self.epoch, self.batch, self.step, self.count = state["counts"]
        self.history = [tuple(row) for row in state["history"]]
        self.memories = state["memories"]
        self.processes = [*state["processes"], self.world.size]
        self.earlier_s = state["seconds"]
        self._tell_history()


def _logits_by_copies(model: nn.Module, copies: WeightCopies, inputs: torch.Tensor) -> torch.Tensor:
    # No weight of a copy is shared, and the search for such takes as long as a small layer.
    return functional_call(model, copies.current(), (inputs,), tie_weights=False)


def train(
    recipe: Recipe,
    observers: Sequence[Observer] = (),
    *,
    data_root: str | None = None,
    device: str | None = None,
    start_weights: Mapping[str, torch.Tensor] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every_s: float = 60.0,
    on_step: Callable[[int, int], None] | None = None,
    on_history: Callable[[Sequence[HistoryRow]], None] | None = None,
) -> Trained:
    """Train a model as a recipe says.

    Parameters
    ----------
    recipe : Recipe
    observers : sequence of Observer
        What is looked at during training; their rows go to the history.
    data_root : str, optional
        Where official dataset files are looked for first.
    device : str, optional
        The best that torch finds, if None.
    start_weights : mapping of str to Tensor, optional
        The parent's weights, for a recipe whose start is "parent" or "body".
    checkpoint : path, optional
        A file that holds the run's state from time to time and that an interrupted run resumes from; the resumed
        run ends with the same bits, on the same machine with the same number of threads.
    checkpoint_every_s : float
        Seconds between checkpoints.
    on_step : callable, optional
        Called with (steps taken, steps in all) after every step; for progress bars. Of several processes in the first
        only, as `on_history`.
    on_history : callable, optional
        Called with the history so far whenever it may have grown, the first time before the first step: with the
        rows up to the checkpoint that the run resumes from, if it does. For logs.

    Returns
    -------
    Trained
        A run whose loss stops being finite is returned with `diverged` set, not raised.

    Raises
    ------
    InputError
        If the recipe does not fit its data: a batch larger than the training set, a missing dataset, ...; of several
        processes, if one has other code, data or weights than the first.
    LostProcessError
        If another process of the run ends, or does not answer.

    Notes
    -----
    In every process of a torchrun, or of a group of `torch.distributed`, it trains one model in all, data parallel:
    each takes its rows of every logical batch. Only the order of summation differs from one process. The first one
    writes the checkpoint; a run goes on with any number of processes, with the same bits if the number is the same.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> from mlptheory.training import BudgetConfig, Recipe, train
    >>> trained = train(Recipe(model=ModelConfig(name="B-1/Wi-32"), budget=BudgetConfig(amount=1)), device="cpu")
    >>> trained.evaluations["test"].n
    600
    """
    world = join()
    device = world.device(device or default_device())
    precision = resolve_precision(recipe.precision, device)
    if (recipe.start == "initialization") == (start_weights is not None):
        raise InputError(
            f"start = {recipe.start!r}: expected start_weights with 'parent' or 'body', and only with them"
        )
    require_registered(observers)
    examples = prepare_examples(recipe.data, recipe.seed, data_root)
    if not world.is_first:
        on_step = on_history = None
    run = Run(recipe, examples, device, precision, start_weights, on_history=on_history, world=world)
    if world.size > 1:
        world.require_equal(run.ingredients(run.model, observers))
    # A caller's autocast must reach neither the batches nor the backward pass.
    with autocast("float32", device):
        run_to_end(run, observers, checkpoint, checkpoint_every_s, on_step)
        if world.size > 1:
            world.require_equal({"weights after training": weights_digest(run.model)})
        run.model.eval()
        diverged = run.diverged()
        evaluations = {} if diverged else {split: run.evaluate(split) for split in run.splits}
    return Trained(
        recipe=recipe,
        model=run.model,
        evaluations=evaluations,
        history=tuple(run.history),
        diverged=diverged,
        precision=precision,
        earlier_s=run.earlier_s,
        processes=tuple(run.processes),
    )


def require_registered(specifications: Sequence[Observer]) -> None:
    """Refuse an observer's unknown name now, not after the last epoch."""
    for observer in specifications:
        registered_observers[observer.name]


@keeping_freed_memory()
def run_to_end(
    run: Run | Ensemble,
    specifications: Sequence[Observer],
    checkpoint: str | Path | None,
    checkpoint_every_s: float,
    on_step: Callable[[int, int], None] | None,
) -> None:
    """Take all steps, from the checkpoint on where there is one, and let the observers look."""
    path = None if checkpoint is None else Path(checkpoint)
    identity = "" if path is None else run.identity(specifications)
    resumed = load_shared_checkpoint(path, identity, run.device, run.world)
    if resumed is None:
        run.observe(specifications, is_last=False)
    else:
        run.restore(resumed)
    last_saved = time.monotonic()
    while not run.is_finished:
        for batch in run.loader.batches(run.epoch, start=run.batch):
            run.take_step(batch)
            run.batch += 1
            if on_step is not None:
                on_step(run.step, run.total_steps)
            if run.is_finished:
                break
            run.observe_step(specifications)
            # Every process is in the same state, and one of them writes it down.
            if path is not None and run.world.is_first and time.monotonic() - last_saved >= checkpoint_every_s:
                save_checkpoint(path, identity, run.state())
                last_saved = time.monotonic()
        run.close_epoch()
        if run.has_ended:
            return
        run.observe(specifications, is_last=run.is_finished)
