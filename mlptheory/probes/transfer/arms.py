"""The trials: bodies, what becomes of them on the target, what that is set beside, controls, and the bank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.probes.transfer.design import ARMS
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    from mlptheory.probes.transfer.design import Transfer

BANK_SEEDS = 3_000_000


def trials(probe: Transfer) -> tuple[Trial, ...]:
    """Return every trial of a design; all of pretraining first, so that bodies can be trained together."""
    cells = [
        (arm, size, length, seed)
        for arm in ARMS
        for length in probe.lengths
        for size in probe.batch_sizes
        for seed in probe.seed_list
    ]
    bodies = {cell: _body(probe, *cell) for cell in cells}
    shuffled = {seed: _shuffled_body(probe, seed) for seed in probe.seed_list}
    a_a = dict(_a_a_bodies(probe)) if probe.control else {}
    return (
        *bodies.values(),
        *shuffled.values(),
        *a_a.values(),
        *(_probed(probe, body) for body in bodies.values()),
        *(_finetuned(probe, body) for body in bodies.values()),
        *(from_scratch for seed in probe.seed_list for from_scratch in _from_scratch(probe, seed)),
        *(_untrained(probe, seed) for seed in probe.seed_list),
        *(_probed(probe, body) for body in shuffled.values()),
        *(_probed(probe, body) for body in a_a.values()),
        *(_shuffled_targets(probe, bodies) if probe.control else ()),
    )


def bank(probe: Transfer, runs: int) -> tuple[Trial, ...]:
    """Return so many runs: of each body, at the middle batch size and the longest length, a probe and a fine-tuning.

    They come in turn, a body's beside each other and in one block, so that what they share is kept.
    """
    found: list[Trial] = []
    for block in range((runs + 1) // 2):
        body = _body(probe, "plain", probe.middle, max(probe.lengths), block, role="bank", seed=BANK_SEEDS + block)
        found += [_probed(probe, body), _finetuned(probe, body)]
    return tuple(found[:runs])


def _body(
    probe: Transfer,
    arm: str,
    size: int,
    length: int,
    block: int,
    *,
    role: str = "run",
    seed: int | None = None,
    replicate: int = 0,
    augmented: bool | None = None,
) -> Trial:
    """Return a pretraining run; its augmentation is its arm's, unless the arm is but a label."""
    is_augmented = arm == "augmented" if augmented is None else augmented
    recipe = Recipe(
        data=DataConfig(
            name=probe.source,
            n=probe.source_n,
            image_size=probe.image_size,
            shuffle_labels=role == "shuffled-source",
        ),
        model=ModelConfig(name=probe.model),
        augmentation=probe.augmentation if is_augmented else Augmentation(),
        optimizer=_pretraining_optimizer(probe),
        budget=BudgetConfig(amount=length, batch_size=size),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=block if seed is None else seed,
    )
    labels = _labels(role, "pretraining", recipe, block, arm=arm, size=size, length=length, replicate=replicate)
    return Trial(recipe=recipe, observers=STANDARD_OBSERVERS, labels=labels)


def _shuffled_body(probe: Transfer, seed: int) -> Trial:
    return _body(probe, "plain", probe.middle, max(probe.lengths), seed, role="shuffled-source")


def _a_a_bodies(probe: Transfer) -> Iterator[tuple[tuple[int, str, int], Trial]]:
    """Yield plain bodies, each with a seed of its own, under the labels of both arms."""
    for block in probe.seed_list:
        cells = [(arm, replicate) for arm in ARMS for replicate in range(probe.control_runs)]
        for cell, (arm, replicate) in enumerate(cells):
            yield (
                (block, arm, replicate),
                _body(
                    probe,
                    arm,
                    probe.middle,
                    min(probe.lengths),
                    block,
                    role="a-a",
                    seed=_control_seed(block, cell, len(cells)),
                    replicate=replicate,
                    augmented=False,
                ),
            )


def _control_seed(block: int, run: int, runs: int) -> int:
    """Return the seed of a run of a block's control: a replication with other blocks has other controls, too."""
    return CONTROL_SEEDS + runs * block + run


def _target(probe: Transfer, *, shuffled: bool = False) -> DataConfig:
    return DataConfig(name=probe.target, n=probe.target_n, image_size=probe.image_size, shuffle_labels=shuffled)


def _common(probe: Transfer, seed: int) -> dict[str, Any]:
    """Return what all recipes on the target share."""
    return {
        "model": ModelConfig(name=probe.model),
        "label_smoothing": probe.label_smoothing,
        "precision": probe.precision,
        "seed": seed,
    }


def _probing(probe: Transfer, seed: int) -> Recipe:
    return Recipe(
        data=_target(probe),
        start="body",
        trained="head",
        optimizer=OptimizerConfig(name="lion", lr=probe.probing_lr),
        budget=BudgetConfig(amount=probe.probing_epochs, batch_size=probe.probing_batch_size),
        **_common(probe, seed),
    )


def _finetuning(probe: Transfer, seed: int, *, shuffled: bool = False) -> Recipe:
    return Recipe(
        data=_target(probe, shuffled=shuffled),
        start="body",
        augmentation=probe.finetuning_augmentation,
        optimizer=OptimizerConfig(name="sgd", lr=probe.finetuning_lr, head_lr=probe.finetuning_head_lr, momentum=0.9),
        budget=BudgetConfig(amount=probe.finetuning_epochs, batch_size=probe.finetuning_batch_size),
        **_common(probe, seed),
    )


def _probed(probe: Transfer, body: Trial) -> Trial:
    recipe = _probing(probe, body.recipe.seed)
    return Trial(recipe=recipe, parents=(body,), labels=_labels_after(body, "probing", recipe))


def _finetuned(probe: Transfer, body: Trial) -> Trial:
    recipe = _finetuning(probe, body.recipe.seed)
    return Trial(
        recipe=recipe,
        parents=(body,),
        observers=STANDARD_OBSERVERS,
        measures=(_views(probe),),
        labels=_labels_after(body, "finetuning", recipe),
    )


def _views(probe: Transfer) -> Measurement:
    parameters = {"views": probe.tta_views, "crop_scale": probe.tta_crop_scale, "flip": probe.tta_flip}
    return Measurement(name="test_time_augmentation", parameters=tuple(parameters.items()))


def _from_scratch(probe: Transfer, seed: int) -> Iterator[Trial]:
    """Yield training on the target alone for fine-tuning's steps, by pretraining's optimizer and by fine-tuning's."""
    as_finetuning = replace(_finetuning(probe, seed), start="initialization")
    as_pretraining = replace(as_finetuning, optimizer=_pretraining_optimizer(probe))
    for stage, recipe in (("scratch", as_pretraining), ("scratch-as-finetuning", as_finetuning)):
        yield Trial(recipe=recipe, observers=STANDARD_OBSERVERS, labels=_labels("run", stage, recipe, seed))


def _untrained(probe: Transfer, seed: int) -> Trial:
    recipe = replace(_probing(probe, seed), start="initialization")
    return Trial(recipe=recipe, labels=_labels("untrained", "probing", recipe, seed))


def _shuffled_targets(probe: Transfer, bodies: dict[tuple[str, int, int, int], Trial]) -> Iterator[Trial]:
    """Yield fine-tunings of plain bodies on shuffled labels, each with a shuffle of its own."""
    size, length = probe.middle, max(probe.lengths)
    for block in probe.seed_list:
        for replicate in range(probe.shuffles):
            recipe = _finetuning(probe, _control_seed(block, replicate, probe.shuffles), shuffled=True)
            labels = _labels(
                "shuffled-target",
                "finetuning",
                recipe,
                block,
                arm="plain",
                size=size,
                length=length,
                replicate=replicate,
            )
            yield Trial(
                recipe=recipe,
                parents=(bodies["plain", size, length, block],),
                measures=(Measurement(name="chance_accuracy"),),
                labels=labels,
            )


def _pretraining_optimizer(probe: Transfer) -> OptimizerConfig:
    return OptimizerConfig(name=probe.optimizer, lr=probe.base_lr, weight_decay=probe.weight_decay)


def _labels(
    role: str,
    stage: str,
    recipe: Recipe,
    block: int,
    *,
    arm: str = "",
    size: int = 0,
    length: int = 0,
    replicate: int = 0,
) -> tuple[tuple[str, Any], ...]:
    labels = {
        "role": role,
        "stage": stage,
        "arm": arm,
        "batch_size": size,
        "length": length,
        "block": block,
        "replicate": replicate,
        "seed": recipe.seed,
        "dataset": recipe.data.name,
        "lr": recipe.optimizer.lr,
    }
    return tuple(labels.items())


def _labels_after(body: Trial, stage: str, recipe: Recipe) -> tuple[tuple[str, Any], ...]:
    """Return a body's labels for what becomes of it."""
    own = {"stage": stage, "dataset": recipe.data.name, "lr": recipe.optimizer.lr}
    return tuple({**dict(body.labels), **own}.items())
