"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.comparison.scenarios import Truth

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison, Contrast
    from mlptheory.probes.scenario import Scenario

OWN, SHARED = 0.5, 1.0
"""SD of a run, and of what runs of a seed share, in margins."""


def simulate(
    probe: Comparison, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Arms lie where their contrasts are what the scenario plants, or nearest to it where these exclude each other.

    Parameters
    ----------
    probe : Comparison
    scenario : Scenario
    rng : Generator
    bank : DataFrame, optional
        Real runs of one arm: the noise is what they are away from their mean, each drawn once before any twice. Without
        it Gaussian, of half a margin's SD, and runs of a seed share a shift of a margin's SD.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth = Truth(**dict(scenario.parameters))
    arms, seeds = list(probe.arms()), len(probe.seed_list)
    spread = np.where(np.arange(len(arms)) == len(arms) - 1, truth.fanning, 1.0)[:, None]
    diverged = rng.random(len(arms) * seeds) < truth.diverged
    table: dict[str, object] = {
        "arm": np.repeat(np.array(arms, dtype=object), seeds),
        "seed": np.tile(np.array(probe.seed_list), len(arms)),
        "diverged": diverged,
    }
    for outcome, contrasts in _by_outcome(probe).items():
        means = _arm_means(contrasts, arms, truth)[:, None]
        unit = float(np.mean([_unit(contrast) for contrast in contrasts]))
        shared, own = _noise(rng, len(arms), seeds, unit, None if bank is None else bank[outcome].to_numpy(dtype=float))
        values = (means + shared + spread * own).reshape(-1)
        table[outcome] = np.where(diverged, np.nan, values)
    return pd.DataFrame(table)


def truths(probe: Comparison, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: the contrasts of the planted arms."""
    truth, arms, found = Truth(**dict(scenario.parameters)), list(probe.arms()), {}
    for contrasts in _by_outcome(probe).values():
        planted = _weights(contrasts, arms) @ _arm_means(contrasts, arms, truth)
        found |= {each.id: each.scale * float(value) for each, value in zip(contrasts, planted, strict=True)}
    return {contrast.id: found[contrast.id] for contrast in probe.contrasts()}


def _by_outcome(probe: Comparison) -> dict[str, list[Contrast]]:
    found: dict[str, list[Contrast]] = {}
    for contrast in probe.contrasts():
        found.setdefault(contrast.outcome, []).append(contrast)
    return found


def _weights(contrasts: list[Contrast], arms: list[str]) -> np.ndarray:
    return np.array([[contrast.weights.get(arm, 0.0) for arm in arms] for contrast in contrasts])


def _unit(contrast: Contrast) -> float:
    """Return the margin in the table's unit; one of the contrast's unit where the margin is 0."""
    return (contrast.margin or 1.0) / contrast.scale


def _arm_means(contrasts: list[Contrast], arms: list[str], truth: Truth) -> np.ndarray:
    """Return each arm's mean, the smallest ones whose contrasts are what is planted."""
    wanted = [truth.effect * (-1 if each.direction == "less" else 1) * _unit(each) for each in contrasts]
    return np.linalg.pinv(_weights(contrasts, arms)) @ np.array(wanted)


def _noise(
    rng: np.random.Generator, arms: int, seeds: int, unit: float, bank: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise that runs of a seed share, and every run's own."""
    if bank is None:
        return rng.normal(0, SHARED * unit, (1, seeds)), rng.normal(0, OWN * unit, (arms, seeds))
    departures = bank - bank.mean()
    rounds = -(-arms * seeds // len(departures))
    drawn = np.concatenate([rng.permutation(departures) for _ in range(rounds)])[: arms * seeds]
    return np.zeros((1, seeds)), drawn.reshape(arms, seeds)
