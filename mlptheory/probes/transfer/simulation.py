"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.transfer import claims as named
from mlptheory.probes.transfer.scenarios import Truth
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.scenario import Scenario
    from mlptheory.probes.transfer.design import Transfer

LEVEL, CHANCE = 80.0, 0.2
"""Accuracy in percent on which effects are planted, and that of chance as a share."""
LEAK_SPREAD = 9.0
"""SD in percentage points between shuffles of the labels: of small nets on 50 digits of five classes."""
OF_BODY, OF_VIEWS = 0.5, 0.25
"""SD, in margins, of what a body's probe and fine-tuning share, and of what test-time augmentation adds."""


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, and where its rows are."""

    labels: dict[str, np.ndarray]
    where: np.ndarray
    late: np.ndarray
    sign: np.ndarray
    body: np.ndarray
    block: np.ndarray
    kinds: dict[tuple[str, str], np.ndarray]

    def of(self, role: str, stage: str) -> np.ndarray:
        """Return which rows are of a role and stage."""
        return self.kinds.get((role, stage), np.zeros(len(self.where), dtype=bool))


@lru_cache(maxsize=8)
def _layout(probe: Transfer) -> _Layout:
    rows = [dict(trial.labels) for trial in probe.trials()]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    kinds = list(zip(labels["role"].tolist(), labels["stage"].tolist(), strict=True))
    where, late = _where(probe), _late(probe)
    keys = [(row["role"], row["arm"], row["length"], row["batch_size"], row["block"], row["replicate"]) for row in rows]
    bodies = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    blocks = {block: place for place, block in enumerate(probe.seed_list)}
    return _Layout(
        labels=labels,
        where=np.array([where.get(row["batch_size"], 0.0) for row in rows]),
        late=np.array([late.get(row["length"], 0.0) for row in rows]),
        sign=np.array([{"augmented": 0.5, "plain": -0.5}.get(row["arm"], 0.0) for row in rows]),
        body=np.array([bodies[key] for key in keys]),
        block=np.array([blocks[row["block"]] for row in rows]),
        kinds={kind: np.array([each == kind for each in kinds]) for kind in set(kinds)},
    )


def _where(probe: Transfer) -> dict[int, float]:
    """Return where each batch size is between the smallest, 0, and the largest, 1, by its logarithm."""
    x = np.log2(probe.sizes)
    return dict(zip(probe.sizes, ((x - x[0]) / (x[-1] - x[0])).tolist(), strict=True))


def _late(probe: Transfer) -> dict[int, float]:
    """Return where each length is between the shortest, -1/2, and the longest, 1/2, at equal steps."""
    steps = np.linspace(-0.5, 0.5, len(probe.lengths)) if len(probe.lengths) > 1 else np.zeros(1)
    return dict(zip(sorted(probe.lengths), steps.tolist(), strict=True))


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: Transfer, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : Transfer
    scenario : Scenario
        One of `Transfer.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `Transfer.bank_trials` describes them. A body's noise is then the departure of a real body's
        probe, fine-tuning and test-time augmentation from the bank's means, together, each body once before any twice.
        Without it the noise is Gaussian: a run's own SD is the margin, a block's runs share a shift of the same SD,
        and what becomes of one body shares another.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    noise = _Noise(probe, rng, bank, layout, truth.fanning ** np.clip(layout.where, 0, 1))
    planted = _planted(probe, truth, layout)
    accuracy = planted + noise.accuracy
    leaking = layout.of("shuffled-target", "finetuning")
    leak = 100 * CHANCE + truth.control * named.LEAK_MARGIN + noise.standardized(LEAK_SPREAD)
    accuracy = np.where(leaking, leak, accuracy)
    with_views = layout.of("run", "finetuning")
    tta = planted + probe.margin * truth.tta + noise.with_views
    diverged = rng.random(len(planted)) < truth.diverged
    table = {
        **layout.labels,
        "diverged": diverged,
        "test_accuracy": np.where(diverged, np.nan, accuracy / 100),
        "tta_accuracy": np.where(diverged | ~with_views, np.nan, tta / 100),
        "chance_accuracy": np.where(leaking, CHANCE, np.nan),
    }
    return pd.DataFrame(table)


def truths(probe: Transfer, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants."""
    truth, delta = truth_of(scenario), probe.margin
    where, late = np.array(list(_where(probe).values())), list(_late(probe).values())
    line = linear_trend_coefficients(np.log2(probe.sizes))
    hump = float(line @ np.sin(np.pi * where)) * truth.hump
    changes = [truth.change + truth.growth * each + hump for each in late]
    found = {
        named.PRETRAINING: delta * truth.pretraining,
        named.FEATURES: delta * truth.features,
        named.AUGMENTED_PROBE: delta * truth.probe_augmentation,
        named.AUGMENTED_FINETUNING: delta * truth.finetuning_augmentation,
        named.OVER_PROBE: delta * truth.over_probe,
        named.TTA: delta * truth.tta,
        named.LARGER: delta * float(np.mean(changes)),
        named.EVERY_LENGTH: delta * min(changes),
        named.LONGER: delta * (truth.longer + truth.growth * float(where.mean())),
        named.A_A: delta * truth.control,
        named.LEAK: named.LEAK_MARGIN * truth.control,
    }
    return {claim.id: found[claim.id] for claim in probe.claims()}


def _planted(probe: Transfer, truth: Truth, layout: _Layout) -> np.ndarray:
    """Return the planted accuracy of every row in percent; of no account where there is no claim about it."""
    probed = (
        truth.probe_augmentation * layout.sign
        + (truth.change + truth.growth * layout.late) * layout.where
        + truth.hump * np.sin(np.pi * layout.where)
        + truth.longer * layout.late
    )
    # Of cells that are equally many everywhere, so that this is the mean over them for every block.
    finetuned = probed[layout.of("run", "probing")].mean() + truth.over_probe
    level = np.where(layout.of("run", "finetuning"), finetuned + truth.finetuning_augmentation * layout.sign, probed)
    level[layout.of("run", "scratch")] = finetuned - truth.pretraining
    level[layout.of("run", "scratch-as-finetuning")] = finetuned - truth.pretraining - truth.apart
    same = layout.of("run", "probing") & (layout.labels["arm"] == "plain")
    same &= (layout.labels["length"] == max(probe.lengths)) & (layout.labels["batch_size"] == probe.middle)
    at = probed[same].mean()
    level[layout.of("untrained", "probing")] = at - truth.features
    level[layout.of("shuffled-source", "probing")] = at - truth.features - truth.apart
    a_a = layout.of("a-a", "probing")
    level[a_a] = truth.control * layout.sign[a_a]
    return LEVEL + probe.margin * level


class _Noise:
    """The noise of every row, Gaussian or a bank's: of accuracy, and of accuracy with test-time augmentation."""

    def __init__(
        self,
        probe: Transfer,
        rng: np.random.Generator,
        bank: pd.DataFrame | None,
        layout: _Layout,
        spread: np.ndarray,
    ) -> None:
        self._rng, self._n, self._bank = rng, len(layout.where), None
        bodies, unit = int(layout.body.max()) + 1, probe.margin or 1.0
        if bank is None:
            shift = rng.normal(0, unit, len(probe.seed_list))[layout.block] * (layout.labels["role"] != "a-a")
            own = rng.normal(0, OF_BODY * unit, bodies)[layout.body] + rng.normal(0, unit, self._n)
            self.accuracy = shift + spread * own
            self.with_views = self.accuracy + spread * rng.normal(0, OF_VIEWS * unit, self._n)
            return
        self._bank = _departures(bank)
        runs = len(self._bank["probing"])
        drawn = np.concatenate([rng.permutation(runs) for _ in range(-(-bodies // runs))])[layout.body]
        probing = layout.labels["stage"] == "probing"
        self.accuracy = spread * np.where(probing, self._bank["probing"][drawn], self._bank["finetuning"][drawn])
        self.with_views = spread * self._bank["with views"][drawn]

    def standardized(self, spread: float) -> np.ndarray:
        """Return noise of a given SD; with a bank, of the shape of its fine-tuned accuracies' noise."""
        if self._bank is None:
            return self._rng.normal(0, spread, self._n)
        departures = self._bank["finetuning"]
        return spread * self._rng.choice(departures, self._n) / departures.std()


def _departures(bank: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return by body how far its probe, its fine-tuning and the latter with views lie from their means, in percent."""
    by_stage = {stage: rows.set_index("block") for stage, rows in bank.groupby("stage")}
    whole = by_stage["probing"].index.intersection(by_stage["finetuning"].index)
    found = {
        "probing": by_stage["probing"].loc[whole, "test_accuracy"],
        "finetuning": by_stage["finetuning"].loc[whole, "test_accuracy"],
        "with views": by_stage["finetuning"].loc[whole, "tta_accuracy"],
    }
    percent = {name: 100 * values.to_numpy(dtype=float) for name, values in found.items()}
    return {name: values - values.mean() for name, values in percent.items()}
