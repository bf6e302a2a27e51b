"""The trials: every arm with every seed, and the bank."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlptheory.trials import STANDARD_OBSERVERS, Trial

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison

BANK_SEEDS = 3_000_000
"""First seed of the bank's runs."""


def trials(probe: Comparison) -> tuple[Trial, ...]:
    """Return every trial of a design, arm by arm."""
    return tuple(_run(probe, arm, seed) for arm in probe.arms() for seed in probe.seed_list)


def bank(probe: Comparison, runs: int) -> tuple[Trial, ...]:
    """Return so many runs of the first arm."""
    first = next(iter(probe.arms()))
    return tuple(_run(probe, first, BANK_SEEDS + index) for index in range(runs))


def _run(probe: Comparison, arm: str, seed: int) -> Trial:
    recipe = replace(probe.arms()[arm], seed=seed)
    return Trial(
        recipe=recipe,
        measures=probe.measurements(),
        observers=STANDARD_OBSERVERS,
        labels=(("arm", arm), ("model", recipe.model.name), ("seed", seed)),
    )
