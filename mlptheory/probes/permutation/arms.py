"""The trials: exact runs in lockstep, runs on images and on permuted images, the control, and the bank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.models.names import RESNETS
from mlptheory.probes.permutation.design import (
    AFTER,
    AUGMENTED,
    BEFORE,
    EXACT_BATCH_SIZE,
    EXACT_N,
    EXACT_OPTIMIZERS,
    PERMUTED,
    PLAIN,
)
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    from mlptheory.probes.permutation.design import Permutation

PERMUTED_SEEDS, BANK_SEEDS = 2_000_000, 3_000_000
"""First seeds of runs on permuted images, whose initialization is their own, and of the bank."""


def trials(probe: Permutation) -> tuple[Trial, ...]:
    """Return every trial of a design; those on images as they are first, so that they can be trained together."""
    cells = [(arm, images) for arm in probe.models for images in probe.treatments(arm)]
    return (
        *(_run(probe, arm, images, block) for arm, images in cells for block in probe.seed_list),
        *(_shuffled(probe) if probe.control else ()),
        *_exact(probe),
    )


def bank(probe: Permutation, runs: int) -> tuple[Trial, ...]:
    """Return so many runs: of each seed a plain one of the MLP, a plain one of the baseline and an exact one."""
    found: list[Trial] = []
    adamw = next(optimizer for optimizer in EXACT_OPTIMIZERS if optimizer.name == "adamw")
    for index in range((runs + 2) // 3):
        seed = BANK_SEEDS + index
        found += [_run(probe, arm, PLAIN, index, role="bank", seed=seed) for arm in probe.models]
        found.append(_lockstep(probe, "bank", probe.exact_models[0], adamw, index, seed=seed))
    return tuple(found[:runs])


def _run(
    probe: Permutation,
    arm: str,
    images: str,
    block: int,
    *,
    role: str = "run",
    seed: int | None = None,
    replicate: int = 0,
) -> Trial:
    """Return a run of the design; both orders of one block share permutation and seed."""
    is_permuted = images in (PERMUTED, AFTER, BEFORE)
    if seed is None:
        seed = PERMUTED_SEEDS + block if is_permuted else block
    name = probe.models[arm]
    recipe = Recipe(
        data=DataConfig(
            name=probe.dataset,
            n=probe.n,
            image_size=probe.image_size,
            shuffle_labels=role == "shuffled",
            pixel_permutation=block if is_permuted else None,
            permute="before" if images == BEFORE else "after",
        ),
        model=ModelConfig(name=name, norm="batch" if name in RESNETS else "layer"),
        augmentation=probe.augmentation if images in (AUGMENTED, AFTER, BEFORE) else Augmentation(),
        optimizer=OptimizerConfig(name=probe.optimizer, lr=probe.base_lr(arm), weight_decay=probe.weight_decay),
        budget=BudgetConfig(amount=probe.epochs, batch_size=probe.batch_size),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=seed,
    )
    measures = (Measurement(name="chance_accuracy"),) if role == "shuffled" else ()
    observers = STANDARD_OBSERVERS if role != "shuffled" else ()
    labels = _labels(role, recipe, block, arm=arm, images=images, replicate=replicate)
    return Trial(recipe=recipe, observers=observers, measures=measures, labels=labels)


def _shuffled(probe: Permutation) -> Iterator[Trial]:
    """Yield plain runs of the MLP on shuffled labels, each with a shuffle of its own."""
    for block in probe.seed_list:
        for replicate in range(probe.shuffles):
            seed = CONTROL_SEEDS + probe.shuffles * block + replicate
            yield _run(probe, "mlp", PLAIN, block, role="shuffled", seed=seed, replicate=replicate)


def _exact(probe: Permutation) -> Iterator[Trial]:
    """Yield what trains on images and on permuted images in lockstep, and Lion step by step in float32."""
    for model in probe.exact_models:
        for optimizer in EXACT_OPTIMIZERS:
            for block in probe.exact_seed_list:
                yield _lockstep(probe, "exact", model, optimizer, block)
        for optimizer in EXACT_OPTIMIZERS:
            if optimizer.name == "lion":
                for block in probe.exact_seed_list:
                    yield _lockstep(probe, "one-step", model, optimizer, block)


def _lockstep(
    probe: Permutation, role: str, model: str, optimizer: OptimizerConfig, block: int, *, seed: int | None = None
) -> Trial:
    """Return a run whose steps are taken again on permuted images; the permutation's seed is the run's."""
    n = min(probe.n or EXACT_N, EXACT_N)
    by_step = role == "one-step"
    recipe = Recipe(
        data=DataConfig(name=probe.dataset, n=n, image_size=probe.image_size),
        model=ModelConfig(name=model),
        augmentation=probe.augmentation,
        optimizer=optimizer,
        budget=BudgetConfig(amount=probe.exact_steps, unit="steps", batch_size=min(EXACT_BATCH_SIZE, n)),
        label_smoothing=probe.label_smoothing,
        precision="float32" if by_step else "float64",
        seed=block if seed is None else seed,
    )
    parameters = {"steps": probe.exact_steps, "equalized": by_step, "wrong": not by_step}
    measures = (Measurement(name="permuted_training", parameters=tuple(parameters.items())),)
    labels = _labels(role, recipe, block, arm="mlp", images="both")
    return Trial(recipe=recipe, measures=measures, labels=labels)


def _labels(
    role: str, recipe: Recipe, block: int, *, arm: str, images: str, replicate: int = 0
) -> tuple[tuple[str, Any], ...]:
    labels = {
        "role": role,
        "arm": arm,
        "images": images,
        "model": recipe.model.name,
        "optimizer": recipe.optimizer.name,
        "block": block,
        "replicate": replicate,
        "seed": recipe.seed,
        "lr": recipe.optimizer.lr,
        "weight_decay": recipe.optimizer.weight_decay,
    }
    return tuple(labels.items())
