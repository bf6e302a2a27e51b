"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.permutation import claims as named
from mlptheory.probes.permutation.design import AFTER, AUGMENTED, BEFORE, EXACT_OPTIMIZERS, PERMUTED
from mlptheory.probes.permutation.scenarios import Truth

if TYPE_CHECKING:
    from mlptheory.probes.permutation.design import Permutation
    from mlptheory.probes.scenario import Scenario

LEVEL, CHANCE, GAIN = 80.0, 0.1, 4.0
"""Accuracy in percent on which effects are planted, that of chance as a share, and augmentation's gain in points."""
OWN, SHARED, LEAK_SPREAD = 0.5, 1.0, 4.0
"""SD of a run and of what runs of a block share, in margins, and of a shuffle's accuracy in percentage points."""
RIGHT_SPREAD, WRONG_SPREAD = 0.15, 0.05
"""SD over blocks of the decimal logarithm of a deviation, under the right permutation and under the wrong one."""


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, and where its rows are."""

    labels: dict[str, np.ndarray]
    block: np.ndarray
    cell: np.ndarray
    kinds: dict[tuple[str, str], np.ndarray]

    def of(self, arm: str, images: str) -> np.ndarray:
        """Return which rows are of an arm and what it sees."""
        return self.kinds.get((arm, images), np.zeros(len(self.block), dtype=bool))


@lru_cache(maxsize=8)
def _layout(probe: Permutation) -> _Layout:
    rows = [dict(trial.labels) for trial in probe.trials()]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    cells = {
        cell: place
        for place, cell in enumerate((model, each.name) for model in probe.exact_models for each in EXACT_OPTIMIZERS)
    }
    kinds = [(row["arm"], row["images"]) for row in rows]
    blocks = {block: place for place, block in enumerate(probe.seed_list)}
    return _Layout(
        labels=labels,
        block=np.array([blocks[row["block"]] for row in rows]),
        cell=np.array([cells.get((row["model"], row["optimizer"]), -1) for row in rows]),
        kinds={kind: np.array([each == kind for each in kinds]) for kind in set(kinds)},
    )


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: Permutation, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : Permutation
    scenario : Scenario
        One of `Permutation.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `Permutation.bank_trials` describes them. A run's noise is then the departure of a real run of its
        arm from the mean of these, and so is that of its deviations' logarithms; each real run once before any twice.
        Without it the noise is Gaussian: a run's own SD is half the margin, and a block's runs share a shift of the
        margin's SD.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    noise = _Noise(probe, rng, bank, layout)
    exact = layout.of("mlp", "both")
    leaking = layout.labels["role"] == "shuffled"
    accuracy = _planted(probe, truth, layout) + noise.accuracy(truth.fanning)
    accuracy = np.where(leaking, 100 * CHANCE + truth.control * named.LEAK_MARGIN + noise.leak(), accuracy)
    right, wrong = _deviations(truth, layout, rng, noise)
    diverged = rng.random(len(accuracy)) < truth.diverged
    table = {
        **layout.labels,
        "diverged": diverged,
        "test_accuracy": np.where(diverged | exact, np.nan, accuracy / 100),
        "chance_accuracy": np.where(leaking, CHANCE, np.nan),
        "permuted_weight_deviation": np.where(exact & ~diverged, 10**right, np.nan),
        "permuted_logit_deviation": np.where(exact & ~diverged, 10**right, np.nan),
        "wrong_weight_deviation": np.where(exact & ~diverged, 10**wrong, np.nan),
    }
    return pd.DataFrame(table)


def truths(probe: Permutation, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants."""
    truth = truth_of(scenario)
    found = {
        named.EQUIVALENT: probe.margin * truth.difference,
        named.FALLS: probe.effect * truth.falls,
        named.AUGMENTED_EQUIVALENT: probe.margin * truth.difference,
        named.ORDER: probe.effect * truth.order,
        named.TRAJECTORY: named.TRAJECTORY_MARGIN + truth.trajectory,
        named.WRONG: named.WRONG_MARGIN + truth.wrong,
        named.LEAK: named.LEAK_MARGIN * truth.control,
    }
    return {claim.id: found[claim.id] for claim in probe.claims()}


def _planted(probe: Permutation, truth: Truth, layout: _Layout) -> np.ndarray:
    """Return the planted accuracy of every row in percent; of no account where there is no claim about it."""
    level = np.full(len(layout.block), LEVEL)
    apart = {"mlp": probe.margin * truth.difference, "baseline": probe.effect * truth.falls}
    for arm, fall in apart.items():
        level[layout.of(arm, PERMUTED)] -= fall
        level[layout.of(arm, AUGMENTED)] += GAIN
        level[layout.of(arm, AFTER)] += GAIN - fall
        level[layout.of(arm, BEFORE)] += GAIN - fall - probe.effect * truth.order
    return level


def _deviations(
    truth: Truth, layout: _Layout, rng: np.random.Generator, noise: _Noise
) -> tuple[np.ndarray, np.ndarray]:
    """Return the decimal logarithms of the deviations under the right and under the wrong permutation."""
    above, first = np.where(layout.cell == 0, 0.0, truth.apart), layout.cell == 0
    digits = named.TRAJECTORY_MARGIN + truth.trajectory
    lead = named.WRONG_MARGIN + truth.wrong + above
    parts = first & (rng.random(len(first)) < truth.parting)
    right_noise, wrong_noise = noise.deviations()
    # Where some part, the rest lie higher, so that the mean is what is planted; the wrong one knows nothing of it.
    right = -np.where(parts, 0.0, np.where(first, digits / (1 - truth.parting), digits + above))
    wrong = lead - digits - np.where(first, 0.0, above)
    return right + truth.resolved * right_noise, wrong + truth.resolved * wrong_noise


class _Noise:
    """The noise of every row, Gaussian or a bank's."""

    def __init__(
        self, probe: Permutation, rng: np.random.Generator, bank: pd.DataFrame | None, layout: _Layout
    ) -> None:
        self._probe, self._rng, self._layout = probe, rng, layout
        self._n = len(layout.block)
        self._bank = None if bank is None else _departures(bank)

    def accuracy(self, fanning: float) -> np.ndarray:
        """Return the noise of accuracies in percentage points, so many times as spread on permuted images."""
        labels, margin = self._layout.labels, self._probe.margin
        if self._bank is None:
            shift = self._rng.normal(0, SHARED * margin, len(self._probe.seed_list))[self._layout.block]
            own = self._rng.normal(0, OWN * margin, self._n)
        else:
            shift = 0.0
            drawn = {arm: self._drawn(self._bank[arm]) for arm in ("mlp", "baseline")}
            own = np.where(labels["arm"] == "mlp", drawn["mlp"], drawn["baseline"])
        permuted = np.isin(labels["images"].astype(str), (PERMUTED, AFTER, BEFORE))
        return shift + np.where(permuted, fanning, 1.0) * own

    def leak(self) -> np.ndarray:
        """Return a shuffle's noise in percentage points; with a bank, of the shape of the MLP's."""
        if self._bank is None:
            return self._rng.normal(0, LEAK_SPREAD, self._n)
        departures = self._bank["mlp"]
        return LEAK_SPREAD * self._rng.choice(departures, self._n) / departures.std()

    def deviations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the noise of the deviations' logarithms, under the right and under the wrong permutation."""
        if self._bank is None:
            return self._rng.normal(0, RIGHT_SPREAD, self._n), self._rng.normal(0, WRONG_SPREAD, self._n)
        places = self._drawn(np.arange(len(self._bank["right"])))
        return self._bank["right"][places], self._bank["wrong"][places]

    def _drawn(self, values: np.ndarray) -> np.ndarray:
        """Return so many values as there are rows, each once before any twice."""
        rounds = -(-self._n // len(values))
        return np.concatenate([self._rng.permutation(values) for _ in range(rounds)])[: self._n]


def _departures(bank: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return how far real runs lie from their mean: accuracies in percent, deviations in decades."""
    exact = bank["images"] == "both"
    accuracy, plain = 100 * bank["test_accuracy"].to_numpy(dtype=float), ~exact.to_numpy()
    deviations = bank[exact]
    right = deviations[["permuted_weight_deviation", "permuted_logit_deviation"]].max(axis=1)
    found = {arm: accuracy[plain & (bank["arm"] == arm).to_numpy()] for arm in ("mlp", "baseline")}
    found["right"] = np.log10(right.to_numpy(dtype=float))
    found["wrong"] = np.log10(deviations["wrong_weight_deviation"].to_numpy(dtype=float))
    return {name: values - values.mean() for name, values in found.items()}
