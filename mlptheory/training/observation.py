"""Observers: what is looked at while a model trains, by registered name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import unknown_name
from mlptheory.base.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mlptheory.training.evaluation import Evaluation
    from mlptheory.training.examples import Examples
    from mlptheory.training.recipe import Recipe

HistoryRow = tuple[int, int, str, float]

EVERY = ("epoch", "doubling", "octave", "end")


@dataclass(frozen=True, kw_only=True)
class Observer:
    """When to look at what.

    Attributes
    ----------
    name : str
        A registered observer.
    every : {"epoch", "doubling", "octave", "end"} or int
        After each epoch; before the first and after epochs 1, 2, 4, 8, ... and the last; before the first step and
        four times an octave of steps, wherever in an epoch, and after the last; after the last epoch; or after every
        so many epochs and the last.
    parameters : tuple of (name, value) pairs
        Passed to the observer by name.
    """

    name: str
    every: str | int = "epoch"
    parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.every, str):
            if self.every not in EVERY:
                raise unknown_name("observer.every", self.every, EVERY)
        else:
            require_integer("observer.every", self.every, 1)

    def is_due(self, epoch: int, is_last: bool) -> bool:
        """Tell whether to look after so many epochs, 0 being before the first.

        Examples
        --------
        >>> doubling = Observer(name="evaluation", every="doubling")
        >>> [epoch for epoch in range(11) if doubling.is_due(epoch, is_last=epoch == 10)]
        [0, 1, 2, 4, 8, 10]
        """
        if is_last:
            return True
        if self.every == "octave":
            return epoch == 0
        if self.every == "epoch":
            return epoch > 0
        if self.every == "doubling":
            return epoch & (epoch - 1) == 0
        if self.every == "end":
            return False
        return epoch > 0 and epoch % int(self.every) == 0

    def is_due_at_step(self, step: int) -> bool:
        """Tell whether to look after so many steps, before the epoch is over.

        Examples
        --------
        >>> octave = Observer(name="evaluation", every="octave")
        >>> [step for step in range(1, 40) if octave.is_due_at_step(step)]
        [1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 16, 19, 22, 26, 32, 38]
        """
        if self.every != "octave" or step < 1:
            return False
        return math.ceil(4 * math.log2(step + 1)) > math.ceil(4 * math.log2(step))


@dataclass(frozen=True)
class TrainingState:
    """What an observer sees; looking must not change any of it but the memory.

    Attributes
    ----------
    model : nn.Module
        The model in training.
    step, epoch : int
        Steps taken and epochs finished.
    optimizer_state : dict
        As torch's ``optimizer.state_dict()`` returns it.
    evaluate : callable
        ``evaluate("test")`` and, where the recipe carves one out, ``evaluate("validation")``.
    initial_parameters : callable
        Returns the weights before the first step, by name, on the model's device.
    recipe : Recipe
        Its precision as it came to on this device.
    examples : Examples
        What the recipe trains and tests on.
    history : tuple of (step, epoch, quantity, value)
        What this run has seen so far, earlier looks of this observer included.
    memory : dict of str to Tensor
        What this observer keeps from one look to the next, such as the kernel before the first step: its own, of this
        run, empty at the first look. Saved with the run's checkpoints, and the one part that a look may change.
    """

    model: nn.Module
    step: int
    epoch: int
    optimizer_state: Mapping[str, Any]
    evaluate: Callable[[str], Evaluation]
    initial_parameters: Callable[[], Mapping[str, torch.Tensor]]
    recipe: Recipe
    examples: Examples
    history: Sequence[HistoryRow]
    memory: dict[str, torch.Tensor]


observers: Registry = Registry("observer")


@observers.register("evaluation")
def observe_evaluation(state: TrainingState, split: str = "test") -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy on the test or the validation set."""
    found = state.evaluate(split)
    return {f"{split}_loss": found.loss, f"{split}_accuracy": found.top1, f"{split}_top5": found.top5}
