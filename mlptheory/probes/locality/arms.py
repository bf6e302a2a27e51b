"""The trials: one factor at a time around a center, with and without augmentation, the control, and the bank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.probes.locality.design import ARMS, CONTROL_DATASETS
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    from mlptheory.probes.locality.design import Locality

BANK_SEEDS = 3_000_000
CONTROL_MODEL = ModelConfig(name="S-2/Wi-64", variant="authors", norm="none", activation="relu")
CONTROL_OPTIMIZER = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.02, clip_norm=1.0)
CONTROL_BUDGET = BudgetConfig(amount=10, batch_size=64)
"""The control's own settings, tuned on seeds 900 to 902; docs/probes/locality.md tells why these."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What tells the design's cells apart, but for the arm.

    Attributes
    ----------
    role : str
        "center", or the factor in which a cell departs from it: "size", "steps" (the smallest size, for as many steps
        as the center takes), "epochs", "decay", "optimizer".
    n : int
    steps : int or None
        None: as many as the epochs have.
    epochs : int
        To the nearest, where steps are given.
    weight_decay : float
    optimizer : str
    lr : float
    """

    role: str
    n: int
    epochs: int
    weight_decay: float
    optimizer: str
    lr: float
    steps: int | None = None


def cells(probe: Locality) -> tuple[Cell, ...]:
    """Return the center, then the cells that depart from it in one factor."""
    center: dict[str, Any] = {
        "n": probe.largest,
        "epochs": probe.epochs,
        "weight_decay": 0.0,
        "optimizer": probe.optimizer,
        "lr": probe.base_lr,
    }
    departures: list[dict[str, Any]] = [{"role": "center"}]
    departures += [{"role": "size", "n": n} for n in probe.sizes_sorted[:-1]]
    departures.append({"role": "steps", "n": probe.smallest, **_as_many_steps(probe)})
    departures.append({"role": "epochs", "epochs": probe.long_epochs})
    departures.append({"role": "decay", "weight_decay": probe.weight_decay})
    departures += [
        {"role": "optimizer", "optimizer": name, "lr": lr}
        for name, lr in zip(probe.other_optimizers, probe.other_lrs, strict=True)
    ]
    return tuple(Cell(**{**center, **departure}) for departure in departures)


def _as_many_steps(probe: Locality) -> dict[str, int]:
    """Return the length of the center in steps, and in epochs of the smallest training set."""
    steps = probe.epochs * math.ceil(probe.largest / probe.batch_size)
    return {"steps": steps, "epochs": round(steps / math.ceil(probe.smallest / probe.batch_size))}


def trials(probe: Locality) -> tuple[Trial, ...]:
    """Return every trial of a design; a cell's seeds beside each other, so that they can be trained together."""
    design = (_run(probe, arm, cell, seed, seed) for cell in cells(probe) for arm in ARMS for seed in probe.seed_list)
    return (*design, *(_control(probe) if probe.control else ()))


def bank(probe: Locality, runs: int) -> tuple[Trial, ...]:
    """Return runs of the center's augmented arm, each with a seed of its own."""
    center = cells(probe)[0]
    return tuple(_run(probe, "augmented", center, BANK_SEEDS + run, run, role="bank") for run in range(runs))


def _run(probe: Locality, arm: str, cell: Cell, seed: int, block: int, *, role: str | None = None) -> Trial:
    budget = {"amount": cell.epochs} if cell.steps is None else {"amount": cell.steps, "unit": "steps"}
    recipe = Recipe(
        data=DataConfig(name=probe.dataset, n=cell.n, image_size=probe.image_size),
        model=ModelConfig(name=probe.model),
        augmentation=probe.augmentation if arm == "augmented" else Augmentation(),
        optimizer=OptimizerConfig(name=cell.optimizer, lr=cell.lr, weight_decay=cell.weight_decay),
        budget=BudgetConfig(**budget, batch_size=probe.batch_size),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=seed,
    )
    return _trial(recipe, _measure(probe.window), role or cell.role, arm, cell.n, cell.epochs, block)


def _control(probe: Locality) -> Iterator[Trial]:
    """Yield training on textures with edges and on Gaussian ones; bfloat16 would add noise of its own."""
    for name in CONTROL_DATASETS:
        for seed in probe.seed_list:
            recipe = Recipe(
                data=DataConfig(name=name),
                model=CONTROL_MODEL,
                optimizer=CONTROL_OPTIMIZER,
                budget=CONTROL_BUDGET,
                label_smoothing=0.0,
                precision="float64" if probe.precision == "float64" else "float32",
                seed=seed,
            )
            yield _trial(recipe, _measure(None, toroidal=True), "control", "", 0, CONTROL_BUDGET.amount, seed)


def _measure(window: int | None, *, toroidal: bool = False) -> Measurement:
    return Measurement(name="first_layer", parameters=(("window", window), ("toroidal", toroidal)))


def _trial(recipe: Recipe, measure: Measurement, role: str, arm: str, n: int, epochs: int, block: int) -> Trial:
    labels = {
        "role": role,
        "arm": arm,
        "dataset": recipe.data.name,
        "model": recipe.model.name,
        "n": n,
        "epochs": epochs,
        "weight_decay": recipe.optimizer.weight_decay,
        "optimizer": recipe.optimizer.name,
        "lr": recipe.optimizer.lr,
        "block": block,
        "seed": recipe.seed,
    }
    return Trial(recipe=recipe, observers=STANDARD_OBSERVERS, measures=(measure,), labels=tuple(labels.items()))
