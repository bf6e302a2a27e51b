"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.base.errors import InputError
from mlptheory.probes.batchsize import claims as named
from mlptheory.probes.batchsize.design import TUNED
from mlptheory.probes.batchsize.scenarios import Truth
from mlptheory.probes.batchsize.tuning import Cell, Choice, choose
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize
    from mlptheory.probes.scenario import Scenario

LEVEL, CHANCE = 80.0, 0.1
"""Accuracy in percent on which effects are planted, and that of chance."""
LOG_SPREAD = 0.3
"""SD of a run in doublings, where no bank has one: of sharpness and of steps."""
EXCESS_SPREAD = 0.5
"""SD over runs of log2 excess loss: about 1/ln 2 times the root of 2 over the teacher's 17 parameters."""
LEAK_SPREAD = 4.0
"""SD in percentage points between shuffles of the labels: of small nets on digits, 2.5 to 5."""


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, the follow-up's included, and where its rows are."""

    labels: dict[str, np.ndarray]
    first: int
    where: np.ndarray
    late: np.ndarray


@lru_cache(maxsize=8)
def _layout(probe: BatchSize) -> _Layout:
    first, later = probe.trials(), probe.follow_up(None)
    rows = [dict(trial.labels) for trial in (*first, *later)]
    labels = {name: np.array([row[name] for row in rows], dtype=_dtype(rows[0][name])) for name in rows[0]}
    size = np.log2(labels["batch_size"].astype(float))
    ends = np.log2([probe.sizes[0], probe.sizes[-1]])
    lengths = sorted(probe.lengths)
    steps = np.linspace(-0.5, 0.5, len(lengths)) if len(lengths) > 1 else np.zeros(1)
    late = np.array([dict(zip(lengths, steps, strict=True)).get(length, 0.0) for length in labels["length"].tolist()])
    return _Layout(labels, len(first), (size - ends[0]) / (ends[1] - ends[0]), late)


def _dtype(value: object) -> type:
    return object if isinstance(value, str) else type(value)


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: BatchSize, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : BatchSize
    scenario : Scenario
        One of `BatchSize.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs of one arm, as `BatchSize.bank_trials` describes them: each row's noise is then a run's departure from
        the bank's mean, each run once before any twice. Without it the noise is Gaussian: a run's SD is the margin, and
        a block's runs share a shift of the same SD.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    labels, n = dict(layout.labels), len(layout.where)
    is_role = {role: labels["role"] == role for role in ("run", "tuning", "a-a", "shuffled", "noise-scale")}
    noise = _Noise(probe, rng, bank, n, truth.fanning ** np.clip(layout.where, 0, 1))
    shift = np.where(is_role["run"], noise.shift(labels), 0.0)
    planted = _accuracy(probe, truth, layout)
    cost = np.zeros(n)
    cost[is_role["tuning"]] = _cost(probe, truth, layout, labels["lr"])[is_role["tuning"]]
    diverged = rng.random(n) < truth.diverged
    table = {
        **labels,
        "diverged": diverged,
        "validation_accuracy": (planted - cost + noise.accuracy) / 100,
        "validation_loss": np.zeros(n),
    }
    later = np.arange(n) >= layout.first
    if later.any():
        labels["lr"] = labels["lr"].astype(float).copy()
        chosen = choose(probe, pd.DataFrame({name: values[: layout.first] for name, values in table.items()}))
        keys = zip(*(labels[name][later].tolist() for name in ("arm", "length", "batch_size")), strict=True)
        labels["lr"][later] = [chosen[key].lr for key in keys]
        cost[later] = _cost(probe, truth, layout, labels["lr"])[later]
        table["lr"] = labels["lr"]
    accuracy = planted - cost + shift + noise.accuracy
    accuracy = np.where(is_role["a-a"], LEVEL + truth.control * probe.margin * layout.where + noise.accuracy, accuracy)
    leak = truth.control * named.LEAK_MARGIN
    accuracy = np.where(is_role["shuffled"], 100 * CHANCE + leak + noise.standardized(LEAK_SPREAD), accuracy)
    slope = truth.control * named.NOISE_MARGIN - 1
    table |= {
        "test_accuracy": accuracy / 100,
        "chance_accuracy": np.full(n, CHANCE),
        "sharpness_at_target": 2.0
        ** (named.SHARPNESS_MARGIN * truth.sharpness * layout.where + noise.log("sharpness_at_target")),
        "examples_to_target": 2.0
        ** (10 + named.EXAMPLES_MARGIN * truth.examples * layout.where + noise.log("examples_to_target")),
        "excess_loss": 2.0 ** (slope * np.log2(labels["batch_size"].astype(float)) + noise.standardized(EXCESS_SPREAD)),
    }
    outcomes = ("test_accuracy", "sharpness_at_target", "examples_to_target", "excess_loss")
    for name in outcomes:
        table[name] = np.where(diverged, np.nan, table[name])
    return pd.DataFrame(table)


def truths(probe: BatchSize, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants, at the learning rates that the table's tuning chose."""
    truth, chosen = truth_of(scenario), choose(probe, table)
    found = {
        named.SHARPNESS: named.SHARPNESS_MARGIN * truth.sharpness,
        named.EXAMPLES: named.EXAMPLES_MARGIN * truth.examples,
        named.A_A: probe.margin * truth.control,
        named.LEAK: named.LEAK_MARGIN * truth.control,
        named.NOISE_SCALE: named.NOISE_MARGIN * truth.control,
    }
    changes = {
        (arm, policy): [_change(probe, truth, chosen, arm, policy, length) for length in probe.lengths]
        for arm in probe.models
        for policy in probe.lr_policies
    }
    means = {key: float(np.mean(by_length)) for key, by_length in changes.items()}
    for policy in probe.plain_policies:
        found[named.rule_claim(policy)] = means["mlp", policy]
    if TUNED in probe.lr_policies:
        found[named.TUNING] = means["mlp", TUNED]
    by_length = dict(zip(probe.lengths, changes["mlp", probe.main_policy], strict=True))
    found[named.EVERY_LENGTH] = min(changes["mlp", probe.lr_policies[0]])
    found[named.GROWS] = by_length[max(probe.lengths)] - by_length[min(probe.lengths)]
    if probe.cnn is not None:
        found[named.CNN] = min(means["mlp", probe.main_policy], -means["cnn", probe.main_policy])
    return {claim.id: found[claim.id] for claim in probe.claims()}


class _Noise:
    """The noise of every row, Gaussian or a bank's."""

    def __init__(
        self, probe: BatchSize, rng: np.random.Generator, bank: pd.DataFrame | None, n: int, spread: np.ndarray
    ) -> None:
        self._rng, self._bank, self._spread = rng, bank, spread
        self._unit = probe.margin or 1.0
        if bank is not None:
            runs = len(bank)
            self._drawn = np.concatenate([rng.permutation(runs) for _ in range(-(-n // runs))])[:n]
        self.accuracy = spread * (
            rng.normal(0, self._unit, n) if bank is None else self._departure("test_accuracy", 100.0)
        )

    def shift(self, labels: dict[str, np.ndarray]) -> np.ndarray:
        """Return what the runs of a block and arm share; runs of a bank share nothing."""
        if self._bank is not None:
            return np.zeros(len(self._spread))
        keys = list(zip(labels["block"].tolist(), labels["arm"].tolist(), strict=True))
        drawn = {key: self._rng.normal(0, self._unit) for key in dict.fromkeys(keys)}
        return np.array([drawn[key] for key in keys])

    def log(self, outcome: str) -> np.ndarray:
        """Return the noise of an outcome's log2."""
        if self._bank is None:
            return self._spread * self._rng.normal(0, LOG_SPREAD, len(self._spread))
        return self._spread * self._departure(outcome, None)

    def standardized(self, spread: float) -> np.ndarray:
        """Return noise of a given SD; with a bank, of the shape of its accuracies' noise."""
        if self._bank is None:
            return self._rng.normal(0, spread, len(self._spread))
        departures = self._departure("test_accuracy", 100.0)
        return spread * departures / _column(self._bank, "test_accuracy", 100.0).std()

    def _departure(self, outcome: str, scale: float | None) -> np.ndarray:
        values = _column(self._bank, outcome, scale)
        return (values - values.mean())[self._drawn % len(values)]


def _column(bank: pd.DataFrame, outcome: str, scale: float | None) -> np.ndarray:
    """Return an outcome of the bank's runs that have it, times a scale or as log2."""
    values = bank[outcome].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        raise InputError(f"bank: none of its runs has {outcome}: expected a design whose runs reach it")
    return np.log2(values) if scale is None else scale * values


def _accuracy(probe: BatchSize, truth: Truth, layout: _Layout) -> np.ndarray:
    """Return the planted accuracy of every row in percent, before what its learning rate costs."""
    mlp = truth.change + truth.growth * layout.late
    change = np.where(layout.labels["arm"] == "cnn", truth.cnn, mlp)
    return LEVEL + probe.margin * (change * layout.where + truth.hump * np.sin(np.pi * layout.where))


def _cost(probe: BatchSize, truth: Truth, layout: _Layout, lr: np.ndarray) -> np.ndarray:
    base = np.where(layout.labels["arm"] == "cnn", probe.base_lr("cnn") if probe.cnn else np.nan, probe.base_lr("mlp"))
    return _octaves_cost(probe, truth, np.log2(lr.astype(float) / base), layout.where)


def _octaves_cost(probe: BatchSize, truth: Truth, octaves: np.ndarray, where: np.ndarray) -> np.ndarray:
    best = np.mean(np.log2(probe.lr_grid)) + truth.drift * where
    return probe.margin * truth.curvature * (octaves - best) ** 2


def _change(probe: BatchSize, truth: Truth, chosen: dict[Cell, Choice], arm: str, policy: str, length: int) -> float:
    """Return the true change of one arm at one length along the fitted line."""
    x = np.log2(probe.sizes)
    where = (x - x[0]) / (x[-1] - x[0])
    lengths = sorted(probe.lengths)
    late = 0.0 if len(lengths) < 2 else lengths.index(length) / (len(lengths) - 1) - 0.5
    change = truth.cnn if arm == "cnn" else truth.change + truth.growth * late
    accuracy = probe.margin * (change * where + truth.hump * np.sin(np.pi * where))
    if policy == TUNED:
        octaves = np.log2([chosen[arm, length, size].lr / probe.base_lr(arm) for size in probe.sizes])
        accuracy = accuracy - _octaves_cost(probe, truth, octaves, where)
    return float(linear_trend_coefficients(x) @ accuracy)
