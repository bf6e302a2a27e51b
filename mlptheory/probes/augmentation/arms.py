"""The trials: tuning, then runs of all arms at tuned learning rates, shuffled labels, controls; and the bank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlptheory import data
from mlptheory.models import ModelConfig
from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.augmentation.tuning import Rates, choose, standing_in
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.probes.tuning import TUNING_SEEDS
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.augmentation.design import Augmentation

BANK_SEEDS = 3_000_000
SHIFT_MEASURED = 1
"""Pixels by which the invariance to shifts is measured, whatever the design shifts by."""
NULL_SEEDS = 4_000_000
"""First seed of the exact null, out of the way of the other control's."""


def first_stage(probe: Augmentation) -> tuple[Trial, ...]:
    """Return the tuning runs; where nothing is tuned all runs, at the one learning rate."""
    if probe.is_tuned:
        return tuple(_tuning(probe))
    rates = {
        (learner, arm): probe.base_lr(learner) * probe.lr_grid[0]
        for learner in probe.models
        for arm in probe.arms_of(learner)
    }
    return _all_runs(probe, rates)


def second_stage(probe: Augmentation, table: pd.DataFrame | None) -> tuple[Trial, ...]:
    """Return the runs at the learning rates chosen in a table; without one, at rates that no tuning run has."""
    if not probe.is_tuned:
        return ()
    if table is None:
        return _all_runs(probe, standing_in(probe))
    return _all_runs(probe, {cell: choice.lr for cell, choice in choose(table).items()})


def bank(probe: Augmentation, runs: int) -> tuple[Trial, ...]:
    """Return so many MLPs without augmentation, at the largest size and the middle of the grid, looked at in full."""
    lr = probe.base_lr("mlp") * sorted(probe.lr_grid)[len(probe.lr_grid) // 2]
    return tuple(
        _trial(probe, "bank", "mlp", NONE, probe.largest, run, BANK_SEEDS + run, lr, measures=_looks("mlp"))
        for run in range(runs)
    )


def _all_runs(probe: Augmentation, rates: Rates) -> tuple[Trial, ...]:
    return (*_runs(probe, rates), *_shuffled(probe, rates), *(_controls(probe, rates) if probe.control else ()))


def _tuning(probe: Augmentation) -> Iterator[Trial]:
    for learner in probe.models:
        for arm in probe.arms_of(learner):
            for multiple in probe.lr_grid:
                for index in range(probe.tuning_seeds):
                    lr = probe.base_lr(learner) * multiple
                    yield _trial(
                        probe, "tuning", learner, arm, probe.largest, index, TUNING_SEEDS + index, lr, observed=False
                    )


def _runs(probe: Augmentation, rates: Rates) -> Iterator[Trial]:
    """Yield every arm at the largest size, and at the others those without any augmentation and with all of it."""
    for learner in probe.models:
        for arm in probe.arms_of(learner):
            for size in probe.ordered_sizes if arm in (NONE, probe.full) else (probe.largest,):
                measures = _looks(learner)
                if arm == NONE and size == probe.largest:
                    measures += _affinities(probe)
                for seed in probe.seed_list:
                    yield _trial(probe, "run", learner, arm, size, seed, seed, rates[learner, arm], measures=measures)


def _shuffled(probe: Augmentation, rates: Rates) -> Iterator[Trial]:
    """Yield MLPs that learn shuffled labels under the spatial arm's augmentation."""
    for seed in probe.seed_list:
        yield _trial(
            probe,
            "shuffled",
            "mlp",
            probe.spatial,
            probe.largest,
            seed,
            seed,
            rates["mlp", probe.spatial],
            measures=(Measurement(name="neighbors"),),
        )


def _controls(probe: Augmentation, rates: Rates) -> Iterator[Trial]:
    for block in probe.seed_list:
        for replicate in range(probe.shuffles):
            yield _trial(
                probe,
                "shuffled",
                "mlp",
                NONE,
                probe.largest,
                block,
                CONTROL_SEEDS + probe.shuffles * block + replicate,
                rates["mlp", NONE],
                replicate=replicate,
                measures=(Measurement(name="chance_accuracy"), Measurement(name="neighbors")),
            )
        for replicate in range(probe.control_runs):
            yield _trial(
                probe,
                "exact-null",
                "mlp",
                probe.full,
                probe.largest,
                block,
                NULL_SEEDS + probe.control_runs * block + replicate,
                rates["mlp", probe.full],
                replicate=replicate,
            )


def _looks(learner: str) -> tuple[Measurement, ...]:
    shift = (("shift", SHIFT_MEASURED),)
    looks = (Measurement(name="invariance", parameters=shift), Measurement(name="neighbors"))
    return (*looks, Measurement(name="first_layer")) if learner == "mlp" else looks


def _affinities(probe: Augmentation) -> tuple[Measurement, ...]:
    """Return accuracy under the operators of every arm that has some of its own and mixes no images."""
    named = {"flip": "flip", "crop": "crop", "flip+crop": "flip_crop", probe.orthogonal: "orthogonal"}
    return tuple(
        Measurement(name="accuracy_under", parameters=(("name", name), *_fields(probe.augmentation(arm)).items()))
        for arm, name in named.items()
        if arm in (*probe.arms, probe.orthogonal)
    )


def _fields(augmentation: data.Augmentation) -> Mapping[str, object]:
    """Return the fields that are not at their defaults."""
    defaults = asdict(data.Augmentation())
    return {name: value for name, value in asdict(augmentation).items() if value != defaults[name]}


def _trial(
    probe: Augmentation,
    role: str,
    learner: str,
    arm: str,
    size: int,
    block: int,
    seed: int,
    lr: float,
    *,
    replicate: int = 0,
    measures: tuple[Measurement, ...] = (),
    observed: bool = True,
) -> Trial:
    permuted = "before" if arm == probe.conjugated else "after" if role == "exact-null" else ""
    shuffled = role == "shuffled"
    recipe = Recipe(
        data=DataConfig(
            name=probe.dataset,
            n=size,
            validation=probe.validation if probe.is_tuned else 0,
            shuffle_labels=shuffled,
            pixel_permutation=seed if permuted else None,
            permute=permuted or "after",
        ),
        model=ModelConfig(name=probe.models[learner]),
        augmentation=probe.augmentation(arm),
        optimizer=OptimizerConfig(name=probe.optimizer, lr=lr, weight_decay=probe.weight_decay),
        budget=BudgetConfig(
            amount=probe.shuffled_epochs if shuffled and probe.shuffled_epochs else probe.epochs,
            batch_size=probe.batch_size,
        ),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=seed,
    )
    labels = {
        "role": role,
        "learner": learner,
        "model": probe.models[learner],
        "arm": arm,
        "size": size,
        "permuted": permuted,
        "block": block,
        "replicate": replicate,
        "seed": seed,
        "lr": lr,
    }
    observers = STANDARD_OBSERVERS if observed else ()
    return Trial(recipe=recipe, observers=observers, measures=measures, labels=tuple(labels.items()))
