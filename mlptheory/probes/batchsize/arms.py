"""The trials: runs at rules, tuning runs, runs at tuned learning rates, controls, and the bank for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlptheory.models import ModelConfig
from mlptheory.probes.batchsize.design import TUNED
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.probes.tuning import TUNING_SEEDS
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe
from mlptheory.training.recipe import DEFAULT_BETAS
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize

NOISE_SIZES, NOISE_LR, NOISE_SEEDS = (16, 64, 256), 0.125, 16
"""The control with a known answer: docs/probes/controls.md derives why these."""
BANK_SEEDS = 3_000_000
CURVATURE = (Measurement(name="hessian_top_eigenvalue"), Measurement(name="gradient_noise_scale"))


def first_stage(probe: BatchSize) -> tuple[Trial, ...]:
    """Return the runs at rules, then the tuning runs, then the controls'."""
    rules = [
        _run(probe, arm, policy, length, size, seed, probe.rule_lr(arm, policy, size))
        for arm in probe.models
        for policy in probe.plain_policies
        for length in probe.lengths
        for size in probe.batch_sizes
        for seed in probe.seed_list
    ]
    tuning = list(_tuning(probe)) if TUNED in probe.lr_policies else []
    return (*rules, *tuning, *(_controls(probe) if probe.control else ()))


def second_stage(probe: BatchSize, table: pd.DataFrame | None) -> tuple[Trial, ...]:
    """Return the runs at the learning rates chosen in a table; without one, at rates that no other run has."""
    if TUNED not in probe.lr_policies:
        return ()
    cells = [(arm, length, size) for arm in probe.models for length in probe.lengths for size in probe.batch_sizes]
    if table is None:
        # A stand-in that equaled a run of the first stage would be counted and priced as that one.
        rates = dict.fromkeys(cells, 2 * max(trial.recipe.optimizer.lr for trial in first_stage(probe)))
    else:
        from mlptheory.probes.batchsize.tuning import choose

        rates = {cell: choice.lr for cell, choice in choose(probe, table).items()}
    return tuple(
        _run(probe, arm, TUNED, length, size, seed, rates[arm, length, size])
        for arm, length, size in cells
        for seed in probe.seed_list
    )


def bank(probe: BatchSize, runs: int) -> tuple[Trial, ...]:
    """Return runs at the middle batch size and the longest length, each with a seed of its own, looked at in full."""
    size, length = middle(probe), max(probe.lengths)
    observers = (*STANDARD_OBSERVERS, *_sharpness(probe), *_steps_to_target(probe))
    return tuple(
        _trial(
            probe, "bank", "mlp", "fixed", length, size, size, BANK_SEEDS + run, run, probe.base_lr("mlp"), observers
        )
        for run in range(runs)
    )


def middle(probe: BatchSize) -> int:
    """Return the batch size of the controls."""
    return probe.sizes[len(probe.sizes) // 2]


def _run(probe: BatchSize, arm: str, policy: str, length: int, size: int, seed: int, lr: float) -> Trial:
    """Return a run of the design, looked at for curvature and steps where the claims about them are judged."""
    observers, measures = STANDARD_OBSERVERS, ()
    at_longest = arm == "mlp" and length == max(probe.lengths)
    if at_longest and policy == "fixed" and seed in probe.curvature_seed_list:
        observers, measures = (*observers, *_sharpness(probe)), CURVATURE
    if at_longest and policy == probe.main_policy:
        observers = (*observers, *_steps_to_target(probe))
    return _trial(probe, "run", arm, policy, length, size, size, seed, seed, lr, observers, measures)


def _sharpness(probe: BatchSize) -> tuple[Observer, ...]:
    return (Observer(name="sharpness", every="octave", parameters=(("remaining", probe.remaining_loss),)),)


def _steps_to_target(probe: BatchSize) -> tuple[Observer, ...]:
    if probe.target_accuracy is None:
        return ()
    return (Observer(name="steps_to_target", every="octave", parameters=(("accuracy", probe.target_accuracy),)),)


def _tuning(probe: BatchSize) -> Iterator[Trial]:
    for arm in probe.models:
        for length in probe.lengths:
            for size in probe.batch_sizes:
                for multiple in probe.lr_grid:
                    for index in range(probe.tuning_seeds):
                        lr = probe.base_lr(arm) * multiple
                        yield _trial(
                            probe, "tuning", arm, TUNED, length, size, size, TUNING_SEEDS + index, index, lr, ()
                        )


def _controls(probe: BatchSize) -> Iterator[Trial]:
    size, length, lr = middle(probe), min(probe.lengths), probe.base_lr("mlp")
    cells = [(block, label) for block in probe.seed_list for label in probe.batch_sizes]
    for index, (block, label) in enumerate(cells):
        seed = CONTROL_SEEDS + index
        yield _trial(probe, "a-a", "mlp", "fixed", length, label, size, seed, block, lr, STANDARD_OBSERVERS)
    for block in probe.seed_list:
        measures = (Measurement(name="chance_accuracy"),)
        yield _trial(probe, "shuffled", "mlp", "fixed", length, size, size, block, block, lr, (), measures)
    for size in NOISE_SIZES:
        for seed in range(NOISE_SEEDS):
            yield _noise_scale_trial(probe, size, seed)


def _trial(
    probe: BatchSize,
    role: str,
    arm: str,
    policy: str,
    length: int,
    label: int,
    batch_size: int,
    seed: int,
    block: int,
    lr: float,
    observers: tuple[Observer, ...],
    measures: tuple[Measurement, ...] = (),
) -> Trial:
    name = probe.models[arm]
    recipe = Recipe(
        data=DataConfig(
            name=probe.dataset,
            n=probe.n,
            validation=probe.validation if TUNED in probe.lr_policies else 0,
            label_noise=probe.label_noise,
            shuffle_labels=role == "shuffled",
        ),
        model=ModelConfig(name=name),
        augmentation=probe.augmentation,
        optimizer=OptimizerConfig(name=probe.optimizer, lr=lr, weight_decay=probe.weight_decay),
        budget=BudgetConfig(amount=length, unit=probe.budget, batch_size=batch_size),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=seed,
    )
    labels = {
        "role": role,
        "arm": arm,
        "model": name,
        "policy": policy,
        "batch_size": label,
        "trained_batch_size": batch_size,
        "length": length,
        "block": block,
        "seed": seed,
        "lr": lr,
        "weight_decay": probe.weight_decay,
        "momentum_horizon": batch_size / (1 - _momentum(recipe.optimizer)),
    }
    return Trial(recipe=recipe, observers=observers, measures=measures, labels=tuple(labels.items()))


def _momentum(optimizer: OptimizerConfig) -> float:
    """Return the decay per step of the average of gradients that a step goes along."""
    if optimizer.name == "sgd":
        return optimizer.momentum
    first, second = optimizer.betas or DEFAULT_BETAS[optimizer.name]
    return second if optimizer.name == "lion" else first


def _noise_scale_trial(probe: BatchSize, batch_size: int, seed: int) -> Trial:
    """Return a run of the control; bfloat16 would add noise that its theory does not know."""
    recipe = Recipe(
        data=DataConfig(name="teacher"),
        model=ModelConfig(name="Linear"),
        optimizer=OptimizerConfig(name="sgd", lr=NOISE_LR, momentum=0.0),
        budget=BudgetConfig(amount=1, batch_size=batch_size),
        label_smoothing=0.0,
        precision="float64" if probe.precision == "float64" else "float32",
        seed=seed,
    )
    labels = {
        "role": "noise-scale",
        "arm": "",
        "model": "Linear",
        "policy": "fixed",
        "batch_size": batch_size,
        "trained_batch_size": batch_size,
        "length": 1,
        "block": seed,
        "seed": seed,
        "lr": NOISE_LR,
        "weight_decay": 0.0,
        "momentum_horizon": float(batch_size),
    }
    measures = (Measurement(name="excess_loss"),)
    return Trial(recipe=recipe, measures=measures, labels=tuple(labels.items()))
