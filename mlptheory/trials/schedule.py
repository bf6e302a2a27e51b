"""How trials are executed: a deterministic rule, written down before the first trial and part of every digest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlptheory.base.configuration import to_plain
from mlptheory.base.errors import unknown_name
from mlptheory.base.launch import launched
from mlptheory.training import Recipe
from mlptheory.trials.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The execution mode of a design.

    Attributes
    ----------
    device : str
        Type of the device, "cpu", "cuda" or "mps".
    threads : int
        CPU threads of one trial; the order of summation, and so the last bits, depend on it.
    precision : str
        What "auto" came to on this machine; where no recipe says "auto", the one that all of them say.
    groups : tuple of tuples of int
        Positions, in the design, of the trials that are trained as one computation; equal ones share a place.
    data_parallel : bool
        Whether each trial is trained by all processes of a launcher, one trial after another. However many they are:
        another number of processes or threads sums in another order, and may go on with the same run.
    """

    device: str
    threads: int
    precision: str
    groups: tuple[tuple[int, ...], ...]
    data_parallel: bool = False

    def execution(self, recipe: Recipe | None, ensemble: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what can change the bits of a trial's record, its recipe's own precision before the schedule's.

        A member of an ensemble tells which (see `mlptheory.trials.grouping.describe_members`).
        """
        own = "auto" if recipe is None else recipe.precision
        return {
            "device": self.device,
            **({"data_parallel": True} if self.data_parallel else {"threads": self.threads}),
            "precision": self.precision if own == "auto" else own,
            **({} if ensemble is None else {"ensemble": dict(ensemble)}),
        }

    def to_plain(self) -> dict[str, Any]:
        """Return the schedule as plain data."""
        return to_plain(self)


def require_device(device: str) -> None:
    """Raise `InputError` unless torch finds this kind of device here."""
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    found = ["cpu", *(["cuda"] if cuda else []), *(["mps"] if mps else [])]
    if device not in found:
        raise unknown_name("device", device, found)


def default_threads() -> int:
    """Return how many CPU threads a trial by itself has here: all cores, divided among a launcher's processes."""
    launch = launched()
    return max(1, (os.cpu_count() or 1) // (1 if launch is None else launch.local_size))


def plan_schedule(
    *stages: Sequence[Trial], device: str | None = None, threads: int = 1, data_parallel: bool = False
) -> Schedule:
    """Decide how trials are executed, from the trials and the kind of device alone.

    Trials that differ in nothing but seed and learning rate are trained as one computation where that pays (see
    `mlptheory.trials.grouping.group_trials`). Each computation runs on one CPU thread unless `threads` says
    otherwise: several run beside each other in separate processes, and the number of processes changes no bit.

    Parameters
    ----------
    *stages : sequences of Trial
        Those of one stage are decided before any of the next; no group spans two. Where a stage's learning rates
        come of an earlier one, any stand for them that tell the trials apart which will be.
    device : str, optional
        The best that torch finds, if None.
    threads : int
        CPU threads of one trial.
    data_parallel : bool
        Whether all processes of a launcher train each trial together, so that none is trained with other trials.

    Returns
    -------
    Schedule
        Its groups' positions count through all stages.

    Raises
    ------
    InputError
        If torch does not find the device here.
    """
    from mlptheory.training import default_device, resolve_precision
    from mlptheory.trials.grouping import group_trials

    device = device or default_device()
    require_device(device)
    trials = [each for stage in stages for trial in stage for each in trial.with_ancestors()]
    asked = {trial.recipe.precision for trial in trials if trial.recipe is not None}
    groups: list[tuple[int, ...]] = []
    begin = 0
    for stage in stages:
        found = [(each,) for each in range(len(stage))] if data_parallel else group_trials(stage, device)
        groups += [tuple(begin + position for position in group) for group in found]
        begin += len(stage)
    return Schedule(
        device=device,
        threads=threads,
        precision=resolve_precision(asked.pop() if len(asked) == 1 else "auto", device),
        groups=tuple(groups),
        data_parallel=data_parallel,
    )
