"""The trials: full batches at the edge, flows over widths and depths, batch sizes at equal loss, and the bank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlptheory.models import ModelConfig, parse_name
from mlptheory.probes.sharpness.columns import RESCALINGS
from mlptheory.probes.sharpness.design import ADAM, EDGE_ARMS, GD, MOMENTUM, SMALL_STEP
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe
from mlptheory.trials import Trial

if TYPE_CHECKING:
    from mlptheory.probes.sharpness.design import Sharpness

BANK_SEEDS = 3_000_000


def trials(probe: Sharpness) -> tuple[Trial, ...]:
    """Return every trial of a design; an arm's seeds beside each other, so that they can be trained together."""
    arms = (*EDGE_ARMS, *((SMALL_STEP,) if probe.control else ()))
    found = [_edge(probe, arm, seed, seed) for arm in arms for seed in probe.seed_list]
    found += [_flow(probe, width, depth, seed, seed) for width, depth in nets(probe) for seed in probe.seed_list]
    found += [_batch(probe, size, seed, seed) for size in probe.batches_sorted for seed in probe.seed_list]
    return tuple(found)


def nets(probe: Sharpness) -> tuple[tuple[int, int], ...]:
    """Return widths and depths of the flows: the center's, then those that depart from it in one of them."""
    width, depth = probe.width, probe.depth
    wider = [(other, depth) for other in probe.widths_sorted if other != width]
    deeper = [(width, other) for other in probe.depths_sorted if other != depth]
    return ((width, depth), *wider, *deeper)


def bank(probe: Sharpness, runs: int) -> tuple[Trial, ...]:
    """Return so many runs, a third of each part, part by part: gradient descent, flows at the center, a batch size."""
    return tuple(_of_bank(probe, runs))


def _of_bank(probe: Sharpness, runs: int) -> Iterator[Trial]:
    seeds = [range(BANK_SEEDS, BANK_SEEDS + (runs + part) // 3) for part in (2, 1, 0)]
    middle = probe.batches_sorted[len(probe.batches_sorted) // 2]
    yield from (_edge(probe, GD, seed, seed - BANK_SEEDS) for seed in seeds[0])
    yield from (_flow(probe, probe.width, probe.depth, seed, seed - BANK_SEEDS) for seed in seeds[1])
    yield from (_batch(probe, middle, seed, seed - BANK_SEEDS) for seed in seeds[2])


def _edge(probe: Sharpness, arm: str, seed: int, block: int) -> Trial:
    optimizer = {
        GD: OptimizerConfig(name="sgd", lr=probe.gd_lr, momentum=0.0),
        MOMENTUM: OptimizerConfig(name="sgd", lr=probe.momentum_lr, momentum=probe.momentum),
        ADAM: OptimizerConfig(name="adamw", lr=probe.adam_lr, betas=probe.adam_betas),
        SMALL_STEP: OptimizerConfig(name="sgd", lr=probe.small_lr, momentum=0.0),
    }[arm]
    recipe = Recipe(
        data=DataConfig(name=probe.dataset, n=probe.n, image_size=probe.image_size, label_noise=probe.label_noise),
        model=_net(probe, probe.width, probe.depth, probe.activation),
        optimizer=optimizer,
        budget=BudgetConfig(amount=probe.edge_steps, unit="steps", batch_size=probe.n),
        loss="squared_error",
        label_smoothing=0.0,
        precision=probe.precision,
        seed=seed,
    )
    return _trial(recipe, Observer(name="edge", every=probe.every), "edge", arm, probe.width, probe.depth, block)


def _flow(probe: Sharpness, width: int, depth: int, seed: int, block: int) -> Trial:
    recipe = Recipe(
        data=DataConfig(name=probe.dataset, n=probe.n, image_size=probe.image_size),
        model=_net(probe, width, depth, probe.activation),
        optimizer=OptimizerConfig(name="sgd", lr=probe.flow_lr, momentum=0.0),
        budget=BudgetConfig(amount=probe.flow_steps, unit="steps", batch_size=probe.n),
        loss="squared_error",
        label_smoothing=0.0,
        precision=probe.precision,
        seed=seed,
    )
    observer = Observer(name="sharpening", every="octave", parameters=(("loss", probe.flow_loss),))
    return _trial(recipe, observer, "flow", "", width, depth, block)


def _batch(probe: Sharpness, batch_size: int, seed: int, block: int) -> Trial:
    recipe = Recipe(
        data=DataConfig(name=probe.dataset, n=probe.n, image_size=probe.image_size),
        # Of plain ReLU nets layers can be rescaled with no change of the function; a normalization would hide it.
        model=_net(probe, probe.width, probe.depth, "relu"),
        optimizer=OptimizerConfig(name="sgd", lr=probe.batch_lr, momentum=0.0),
        budget=BudgetConfig(amount=probe.batch_steps, unit="steps", batch_size=batch_size),
        label_smoothing=0.0,
        precision=probe.precision,
        seed=seed,
    )
    parameters = (("loss", probe.batch_loss), ("rescalings", RESCALINGS))
    observer = Observer(name="flatness", every="octave", parameters=parameters)
    return _trial(recipe, observer, "batch", "", probe.width, probe.depth, block)


def _net(probe: Sharpness, width: int, depth: int, activation: str) -> ModelConfig:
    family = parse_name(probe.model).family
    return ModelConfig(name=f"{family}-{depth}/Wi-{width}", norm="none", activation=activation)


def _trial(recipe: Recipe, observer: Observer, role: str, arm: str, width: int, depth: int, block: int) -> Trial:
    labels: dict[str, Any] = {
        "role": role,
        "arm": arm,
        "dataset": recipe.data.name,
        "model": recipe.model.name,
        "width": width,
        "depth": depth,
        "n": recipe.data.n,
        "batch_size": recipe.budget.batch_size,
        "optimizer": recipe.optimizer.name,
        "lr": recipe.optimizer.lr,
        "block": block,
        "seed": recipe.seed,
    }
    end = (Observer(name="evaluation", every="end"), Observer(name="weights", every="end"))
    return Trial(recipe=recipe, observers=(*end, observer), labels=tuple(labels.items()))
