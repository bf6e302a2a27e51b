"""Several runs that differ in seed and learning rate, trained as one computation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap

from mlptheory.base.files import canonical_json, sha256
from mlptheory.base.launch import refuse_several_processes
from mlptheory.data import Batch, JointLoader
from mlptheory.models import dropout_masks, lr_multipliers
from mlptheory.training.device import autocast, default_device, resolve_precision
from mlptheory.training.evaluation import Evaluation
from mlptheory.training.examples import Examples, prepare_examples
from mlptheory.training.functional import StackedOptimizer
from mlptheory.training.loop import Trained, require_registered, run_to_end
from mlptheory.training.losses import example_losses, hits
from mlptheory.training.observation import HistoryRow, Observer
from mlptheory.training.optimizers import build_optimizer, lr_factor, set_lr
from mlptheory.training.parallel import World, join
from mlptheory.training.recipe import Recipe
from mlptheory.training.setting import Setting
from mlptheory.training.stack import Stack
from mlptheory.training.together import require_together


class Ensemble:
    """Members in training as one: the moving parts, and where they stand.

    Sums over the epoch and the first steps without a finite loss stay on the device, one for each member. A member
    that has diverged goes on in the arithmetic, where it can reach no other, and its history ends.

    Parameters
    ----------
    settings : sequence of Setting
        One for each member; they differ in the recipe's seed and learning rate and in the labels.
    """

    world = World()

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.began, self.earlier_s = time.perf_counter(), 0.0
        self.settings, self.device = tuple(settings), settings[0].device
        self.recipe, self.precision = settings[0].recipe, settings[0].precision
        models = [setting.initial_model() for setting in settings]
        self._shown = models[0]
        self.skeleton = copy.deepcopy(models[0]).train()
        self._multipliers = lr_multipliers(models[0], self.recipe.optimizer.name)
        self.stack = Stack(models)
        self.optimizer = StackedOptimizer(
            self.stack,
            self.recipe.optimizer,
            [setting.recipe.optimizer.lr for setting in settings],
            self._multipliers,
        )
        first = settings[0].training_loader()
        siblings = [first.sibling(setting.examples.train, setting.recipe.seed) for setting in settings[1:]]
        self.loader = JointLoader([first, *siblings])
        self.total_steps = settings[0].count_steps(models[0], first.input_shape)
        self.epoch = self.batch = self.step = self.count = 0
        self.loss_sums, self.hits = self._zeros(), self._zeros()
        self.first_bad_steps = torch.full((len(settings),), -1, dtype=torch.int64, device=self.device)
        self.histories: list[list[HistoryRow]] = [[] for _ in settings]
        self.last_weights: dict[int, torch.Tensor] = {}

    def _zeros(self) -> torch.Tensor:
        return self.stack.weights.new_zeros(len(self.settings))

    @property
    def is_finished(self) -> bool:
        """Whether every step of the budget has been taken."""
        return self.step >= self.total_steps

    @property
    def has_ended(self) -> bool:
        """Whether no member is left that has not diverged."""
        return not self._going_on

    @property
    def _going_on(self) -> list[int]:
        return [member for member in range(len(self.settings)) if member not in self.last_weights]

    def take_step(self, batch: Batch) -> None:
        """Take one optimizer step of every member on its own part of a joint batch."""
        recipe, members = self.recipe, len(self.settings)
        size = len(batch.targets) // members
        parameters = self.stack.parameters
        logits = self.logits(batch.inputs, self._dropout_masks(size))
        if logits.dtype != torch.float64:
            logits = logits.float()
        examples = example_losses(logits, batch, recipe)
        losses = examples.unflatten(0, (members, size)).sum(1) / size
        # Not vmap of grad, under which torch's LayerNorm fails in bfloat16 on a CPU.
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
        losses = losses.detach()
        self.loss_sums += losses * size
        self.hits += hits(logits.detach(), batch).unflatten(0, (members, size)).sum(1)
        self.first_bad_steps.masked_fill_(~torch.isfinite(losses) & (self.first_bad_steps < 0), self.step)
        self.optimizer.step(dict(zip(parameters, gradients, strict=True)), self._lr_factor(self.step))
        self.step += 1
        self.count += size

    def logits(self, inputs: torch.Tensor, masks: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the logits of every member, dropped out by masks, for its own part of joint inputs (M·B, C, H, W)."""
        own = inputs.unflatten(0, (len(self.settings), -1))
        with autocast(self.precision, self.device):
            return vmap(self._forward)(self.stack.parameters, masks, own).flatten(0, 1)

    def _forward(
        self, parameters: dict[str, torch.Tensor], masks: dict[str, torch.Tensor], inputs: torch.Tensor
    ) -> torch.Tensor:
        # No built-in model shares a weight between layers, and the search for such takes as long as the layers do.
        return functional_call(self.skeleton, {**parameters, **masks}, inputs, tie_weights=False)

    def _dropout_masks(self, size: int) -> dict[str, torch.Tensor]:
        if not self.recipe.model.dropout:
            return {}
        own = [
            dropout_masks(self.skeleton, setting.recipe.seed, self.step, slice(0, size), size)
            for setting in self.settings
        ]
        return {name: torch.stack([masks[name] for masks in own]).to(self.device) for name in own[0]}

    def _lr_factor(self, step: int) -> float:
        return lr_factor(self.recipe.schedule, step, self.total_steps)

    def close_epoch(self) -> None:
        """Write the epoch's mean losses and accuracies down and begin the next."""
        losses, accuracies = (self.loss_sums / self.count).tolist(), (self.hits / self.count).tolist()
        self.epoch, self.batch = self.epoch + 1, 0
        for member in self._going_on:
            self.histories[member].append((self.step, self.epoch, "train_loss", losses[member]))
            self.histories[member].append((self.step, self.epoch, "train_accuracy", accuracies[member]))
        self.loss_sums, self.hits, self.count = self._zeros(), self._zeros(), 0
        finite = torch.isfinite(self.stack.weights).all(dim=1)
        self.first_bad_steps.masked_fill_(~finite & (self.first_bad_steps < 0), self.step)
        steps = self.first_bad_steps.tolist()
        for member in self._going_on:
            if steps[member] >= 0:
                self.last_weights[member] = self.stack.weights[member].clone()

    def diverged(self, member: int) -> dict[str, int] | None:
        """Read a member's first step without a finite loss, if there was one."""
        step = int(self.first_bad_steps[member].item())
        return None if step < 0 else {"step": step, "epoch": step // len(self.loader)}

    def observe(self, specifications: Sequence[Observer], is_last: bool) -> None:
        """Let the observers that are due look at each member that has not diverged."""
        self._look([observer for observer in specifications if observer.is_due(self.epoch, is_last)])

    def observe_step(self, specifications: Sequence[Observer]) -> None:
        """Let the observers look that are due within an epoch."""
        self._look([observer for observer in specifications if observer.is_due_at_step(self.step)])

    def _look(self, due: Sequence[Observer]) -> None:
        if not due:
            return
        for member in self._going_on:
            model = self.stack.load_into(self._shown, self.stack.weights[member]).train()
            optimizer_state, history = self._optimizer_state(member, model), self.histories[member]
            history += self.settings[member].look(due, model, optimizer_state, self.step, self.epoch, history)

    def _optimizer_state(self, member: int, model: nn.Module) -> dict[str, Any]:
        """Return the state that torch's own optimizer of this member would have."""
        config = self.settings[member].recipe.optimizer
        optimizer = build_optimizer(model, config, self._multipliers)
        self.optimizer.write_into(optimizer, dict(model.named_parameters()), member)
        if self.step:
            set_lr(optimizer, config.lr * self._lr_factor(self.step - 1))
        return optimizer.state_dict()

    def identity(self, specifications: Sequence[Observer]) -> str:
        """Digest all that decides the members' runs: a checkpoint of anything else is not resumed."""
        return sha256(canonical_json(["ensemble", *(setting.identity(specifications) for setting in self.settings)]))

    def state(self) -> dict[str, Any]:
        """Return everything that decides how the members go on."""
        return {
            "weights": self.stack.weights,
            "last_weights": [[member, row] for member, row in self.last_weights.items()],
            "optimizer": self.optimizer.state(),
            "sums": [self.loss_sums, self.hits, self.first_bad_steps],
            "counts": [self.epoch, self.batch, self.step, self.count],
            "histories": [[list(row) for row in history] for history in self.histories],
            "memories": [setting.memories for setting in self.settings],
            "seconds": self.earlier_s + time.perf_counter() - self.began,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.stack.weights.copy_(state["weights"])
        self.last_weights = dict(state["last_weights"])
        self.optimizer.restore(state["optimizer"])
        self.loss_sums, self.hits, self.first_bad_steps = (value.clone() for value in state["sums"])
        self.epoch, self.batch, self.step, self.count = state["counts"]
        self.histories = [[tuple(row) for row in history] for history in state["histories"]]
        for setting, memories in zip(self.settings, state["memories"], strict=True):
            setting.memories = memories
        self.earlier_s = state["seconds"]

    def trained(self, member: int) -> Trained:
        """Return what a member came to, evaluated."""
        setting, diverged = self.settings[member], self.diverged(member)
        row = self.last_weights.get(member, self.stack.weights[member])
        model = self.stack.load_into(copy.deepcopy(self.skeleton), row).eval()
        evaluations: dict[str, Evaluation] = {}
        if diverged is None:
            evaluations = {split: setting.evaluate_model(model, split) for split in setting.splits}
        return Trained(
            recipe=setting.recipe,
            model=model,
            evaluations=evaluations,
            history=tuple(self.histories[member]),
            diverged=diverged,
            precision=self.precision,
            earlier_s=self.earlier_s,
        )


def train_ensemble(
    recipes: Sequence[Recipe],
    observers: Sequence[Observer] = (),
    *,
    data_root: str | None = None,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every_s: float = 60.0,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Trained, ...]:
    """Train several runs that differ in seed and learning rate as one computation.

    Each member draws what its own run would draw (initialization, order, augmentation, MixUp, dropout, label noise),
    and its weights are those of `train` but for rounding: sums are taken in another order.

    Parameters
    ----------
    recipes : sequence of Recipe
        The members; they differ in nothing but `seed` and `optimizer.lr`, and `can_train_together` holds.
    observers, data_root, device, checkpoint, checkpoint_every_s, on_step
        As for `train`. Observers look at one member after another. There is one checkpoint for all, and a step is
        one of every member.

    Returns
    -------
    tuple of Trained
        In the order of the recipes, each as `train` would return it. A member that diverges has `diverged` set and
        leaves the others alone. `earlier_s` is the whole ensemble's.

    Raises
    ------
    InputError
        If the recipes differ in anything else, which is named, if they cannot be trained together, or if they do not
        fit their data.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> from mlptheory.training import BudgetConfig, Recipe, train_ensemble
    >>> model, budget = ModelConfig(name="B-1/Wi-32"), BudgetConfig(amount=1)
    >>> recipes = [Recipe(model=model, budget=budget, seed=seed) for seed in range(3)]
    >>> [trained.recipe.seed for trained in train_ensemble(recipes, device="cpu")]
    [0, 1, 2]
    """
    require_together(recipes)
    require_registered(observers)
    refuse_several_processes("train_ensemble", join().size)
    device = device or default_device()
    precision = resolve_precision(recipes[0].precision, device)
    settings = [
        Setting(recipe, examples, device, precision)
        for recipe, examples in zip(recipes, _examples(recipes, data_root), strict=True)
    ]
    # A caller's autocast must reach neither the batches nor the backward pass.
    with autocast("float32", device):
        ensemble = Ensemble(settings)
        run_to_end(ensemble, observers, checkpoint, checkpoint_every_s, on_step)
        return tuple(ensemble.trained(member) for member in range(len(recipes)))


def _examples(recipes: Sequence[Recipe], data_root: str | None) -> list[Examples]:
    """Return each member's examples, which share everything but the training labels."""
    data = recipes[0].data
    first = prepare_examples(data, recipes[0].seed, data_root)
    if not (data.label_noise or data.shuffle_labels):
        return [first] * len(recipes)
    found = []
    for recipe in recipes:
        own = prepare_examples(recipe.data, recipe.seed, data_root)
        found.append(replace(first, train=replace(first.train, labels=own.train.labels)))
    return found
