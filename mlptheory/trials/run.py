"""Run one trial, or the members of an ensemble: train, measure, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from mlptheory.training import (
    Examples,
    Recipe,
    Trained,
    build_recipe_model,
    data_digest,
    evaluate,
    prepare_examples,
    train,
    train_ensemble,
)
from mlptheory.training.device import weight_dtype
from mlptheory.training.observation import HistoryRow
from mlptheory.trials.environment import describe_environment
from mlptheory.trials.record import Record, finite_or_none, pack_predictions
from mlptheory.trials.registered import MeasureContext, measures
from mlptheory.trials.schedule import Schedule
from mlptheory.trials.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial, ready to run anywhere.

    Attributes
    ----------
    trial : Trial
    digest : str
        Names its record.
    parent_digests : tuple of str
    parent_weights : tuple of bytes
        Of each parent that was trained, as safetensors.
    schedule : Schedule
    data_root : str or None
    checkpoint : Path or None
        Where the run, or its whole group's, keeps its state meanwhile.
    keep_weights : bool
        Whether the trained weights are wanted, by other trials or the caller.
    ensemble : dict or None
        Which member of which ensemble it is; None for a trial by itself.
    logs : Path or None
        Folder for what can be read while the trial runs (`mlptheory.trials.logs`); nothing is written if None.
    log : str or None
        What is written there besides metrics.jsonl.
    """

    trial: Trial
    digest: str
    parent_digests: tuple[str, ...]
    parent_weights: tuple[bytes, ...]
    schedule: Schedule
    data_root: str | None
    checkpoint: Path | None
    keep_weights: bool
    ensemble: Mapping[str, Any] | None = None
    logs: Path | None = None
    log: str | None = None


def run_trial(
    task: Task,
    on_step: Callable[[int, int], None] | None = None,
    on_history: Callable[[Sequence[HistoryRow]], None] | None = None,
) -> tuple[Record, bytes | None]:
    """Run a trial to its record.

    Parameters
    ----------
    task : Task
    on_step : callable, optional
        Called with (steps taken, steps in all) after every step.
    on_history : callable, optional
        As for `mlptheory.training.train`.

    Returns
    -------
    record : Record
    weights : bytes or None
        The trained weights as safetensors, where the task keeps them.

    Notes
    -----
    The number of threads is the schedule's for the whole process from here on: a trial's bits depend on it.
    """
    torch.set_num_threads(task.schedule.threads)
    began = time.perf_counter()
    trial, recipe = task.trial, task.trial.recipe
    parent_weights = [safetensors.torch.load(weights) for weights in task.parent_weights]
    trained = None
    if recipe is not None:
        trained = train(
            _resolved(recipe, task.schedule),
            trial.observers,
            data_root=task.data_root,
            device=task.schedule.device,
            start_weights=None if recipe.start == "initialization" else parent_weights[0],
            checkpoint=task.checkpoint,
            on_step=on_step,
            on_history=on_history,
        )
    record, weights = _outcome(task, trained, parent_weights)
    earlier_s = 0.0 if trained is None else trained.earlier_s
    return replace(record, seconds=time.perf_counter() - began + earlier_s), weights


def run_group(
    tasks: Sequence[Task], on_step: Callable[[int, int], None] | None = None
) -> tuple[tuple[Record, bytes | None], ...]:
    """Run the members of an ensemble to their records, trained as one computation.

    Parameters
    ----------
    tasks : sequence of Task
        Of one group: they share observers, schedule and checkpoint, and their recipes differ in nothing but seed
        and learning rate.
    on_step : callable, optional
        Called with (steps taken, steps in all) after every step of all members.

    Returns
    -------
    tuple of (Record, bytes or None)
        As `run_trial` returns it, one a member. Each record's seconds are the group's divided by its members.
    """
    first = tasks[0]
    torch.set_num_threads(first.schedule.threads)
    began = time.perf_counter()
    members = train_ensemble(
        [_resolved(task.trial.recipe, task.schedule) for task in tasks],
        first.trial.observers,
        data_root=first.data_root,
        device=first.schedule.device,
        checkpoint=first.checkpoint,
        on_step=on_step,
    )
    outcomes = [_outcome(task, trained, ()) for task, trained in zip(tasks, members, strict=True)]
    seconds = (time.perf_counter() - began + members[0].earlier_s) / len(tasks)
    return tuple((replace(record, seconds=seconds), weights) for record, weights in outcomes)


def _outcome(
    task: Task, trained: Trained | None, parent_weights: Sequence[dict[str, torch.Tensor]]
) -> tuple[Record, bytes | None]:
    """Write down what a trial came to, and its weights where the task keeps them; the time is the caller's."""
    trial, recipe = task.trial, task.trial.recipe
    record = Record(
        digest=task.digest,
        trial={
            **trial.computed(),
            "parents": list(task.parent_digests),
            "execution": task.schedule.execution(recipe, task.ensemble),
        },
        metrics={**_metrics(trained), **_measure(task, trained, parent_weights)},
        history=() if trained is None else tuple((*row[:3], finite_or_none(row[3])) for row in trained.history),
        predictions=_predictions(trained),
        diverged=None if trained is None else trained.diverged,
        data_digest=None if recipe is None else data_digest(recipe.data.name, task.data_root),
        environment={
            **describe_environment(),
            **({"processes": list(trained.processes)} if trained is not None and task.schedule.data_parallel else {}),
        },
    )
    if trained is None or not task.keep_weights:
        return record, None
    return record, safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in trained.model.state_dict().items()}
    )


def _resolved(recipe: Recipe, schedule: Schedule) -> Recipe:
    """Give the recipe the precision that the schedule wrote down for "auto"."""
    return replace(recipe, precision=schedule.precision) if recipe.precision == "auto" else recipe


def _metrics(trained: Trained | None) -> dict[str, float | None]:
    if trained is None:
        return {}
    found: dict[str, float | None] = {"train_loss": None, "train_accuracy": None}
    for _, _, quantity, value in trained.history:
        if quantity in found:
            found[quantity] = finite_or_none(value)
    found["steps"] = max((row[0] for row in trained.history), default=0)
    for split in ("test", "validation"):
        evaluation = trained.evaluations.get(split)
        if evaluation is None and split == "validation":
            continue
        found[f"{split}_loss"] = None if evaluation is None else finite_or_none(evaluation.loss)
        found[f"{split}_accuracy"] = None if evaluation is None else evaluation.top1
        found[f"{split}_top5"] = None if evaluation is None else evaluation.top5
        if evaluation is not None and evaluation.real is not None:
            found["real_accuracy" if split == "test" else f"{split}_real_accuracy"] = evaluation.real
    return found


def _predictions(trained: Trained | None) -> str | None:
    if trained is None or "test" not in trained.evaluations:
        return None
    return pack_predictions(trained.evaluations["test"].predictions)


def _measure(task: Task, trained: Trained | None, parent_weights: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Take the trial's measures; a diverged model is not measured."""
    if not task.trial.measures or (trained is not None and trained.diverged):
        return {}
    recipes = [parent.recipe for parent in task.trial.parents if parent.recipe is not None]
    own = task.trial.recipe or recipes[0]
    examples = prepare_examples(own.data, own.seed, task.data_root)
    parents = [_load_model(recipe, weights, task) for recipe, weights in zip(recipes, parent_weights, strict=True)]
    # What a net was pretrained on may have other classes than what it is trained on now.
    compared = [] if task.trial.recipe is not None else list(zip(recipes, parents, strict=True))
    context = MeasureContext(
        model=None if trained is None else trained.model,
        parents=parents,
        parent_predictions=[_predicted(recipe, model, examples, task) for recipe, model in compared],
        examples=examples,
        recipe=_resolved(own, task.schedule),
        data_root=task.data_root,
    )
    found: dict[str, float | None] = {}
    for measurement in task.trial.measures:
        for name, value in measures[measurement.name](context, **dict(measurement.parameters)).items():
            found[name] = finite_or_none(value)
    return found


def _predicted(recipe: Recipe, model: nn.Module, examples: Examples, task: Task) -> np.ndarray:
    """Return the classes that a parent predicts for the measured trial's test set."""
    return evaluate(
        model,
        examples.test,
        normalization=prepare_examples(recipe.data, recipe.seed, task.data_root).normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        permute=recipe.data.permute,
        precision=_resolved(recipe, task.schedule).precision,
    ).predictions


def _load_model(recipe: Recipe, weights: dict[str, torch.Tensor], task: Task) -> nn.Module:
    examples = prepare_examples(recipe.data, recipe.seed, task.data_root)
    model = build_recipe_model(recipe, examples)
    model.load_state_dict(weights)
    precision = _resolved(recipe, task.schedule).precision
    return model.to(task.schedule.device, weight_dtype(precision)).eval()
