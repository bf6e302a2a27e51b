"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.locality import claims as named
from mlptheory.probes.locality.design import CONTROL_DATASETS
from mlptheory.probes.locality.scenarios import Truth
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.locality.design import Locality
    from mlptheory.probes.scenario import Scenario

INITIAL = {"local_share": 20.0, "ipr": 100.0, "spread": -100.0}
"""The statistic at initialization, in its unit; percentages of it are of themselves."""
RAW_INITIAL = {"ipr": 0.03, "spread": 10.0}
OF_REFERENCE = 0.5
"""SD, in margins, of what a reference adds to its net's own noise."""
REFERENCES = ("gaussian", "shuffled")


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, and where its rows are."""

    labels: dict[str, np.ndarray]
    where: np.ndarray
    block: np.ndarray
    plain: np.ndarray
    design: np.ndarray
    edges: np.ndarray


@lru_cache(maxsize=8)
def _layout(probe: Locality) -> _Layout:
    rows = [dict(trial.labels) for trial in probe.trials()]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    where = dict(zip(probe.sizes_sorted, _where(probe).tolist(), strict=True))
    blocks = {block: place for place, block in enumerate(probe.seed_list)}
    return _Layout(
        labels=labels,
        where=np.array([where.get(row["n"], 1.0) for row in rows]),
        block=np.array([blocks[row["block"]] for row in rows]),
        plain=labels["arm"] == "plain",
        design=labels["role"] != "control",
        edges=labels["dataset"] == CONTROL_DATASETS[0],
    )


def _where(probe: Locality) -> np.ndarray:
    """Return where each size is between the smallest, 0, and the largest, 1, by its logarithm."""
    x = np.log2(probe.sizes_sorted)
    return (x - x[0]) / (x[-1] - x[0])


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: Locality, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : Locality
    scenario : Scenario
        One of `Locality.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `Locality.bank_trials` describes them. A net's noise is then the departure of a real net's
        statistics from the bank's means, those of its references and of its initialization with them, each net once
        before any twice. Without it the noise is Gaussian: a run's own SD is the margin, a block's runs share a shift
        of the same SD, and a net shares its noise with its references, which add their own.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    planted = _planted(probe, truth, layout)
    noise = _bank_noise(probe, rng, bank, layout) if bank is not None else _gaussian_noise(probe, rng, layout)
    fan = truth.fanning ** np.where(layout.design, layout.where, 0.0)
    diverged = rng.random(len(layout.where)) < truth.diverged
    values = {name: planted[name] + fan * noise[name] for name in planted}
    raw = {name: np.where(diverged, np.nan, _raw(probe.statistic, column)) for name, column in values.items()}
    return pd.DataFrame({**layout.labels, "diverged": diverged, **raw})


def truths(probe: Locality, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants."""
    truth, delta = truth_of(scenario), probe.delta
    sine = float(linear_trend_coefficients(np.log2(probe.sizes_sorted)) @ np.sin(np.pi * _where(probe)))
    found = {
        named.AUGMENTATION: truth.augmentation,
        named.DATA: truth.data + sine * truth.hump,
        named.ONLY: truth.only + sine * (truth.hump + truth.dip),
        named.INITIALIZATION: truth.initialization,
        named.GAUSSIAN: truth.gaussian,
        named.SHUFFLED: truth.shuffled,
        named.POSITIVE: truth.positive,
        named.NULL: truth.null,
    }
    return {claim.id: delta * found[claim.id] for claim in probe.claims()}


def _planted(probe: Locality, truth: Truth, layout: _Layout) -> dict[str, np.ndarray]:
    """Return the planted value of every column of every row, in the statistic's unit."""
    initial, delta, statistic = INITIAL[probe.statistic], probe.delta, probe.statistic
    sine = np.sin(np.pi * layout.where)
    augmented = truth.initialization - truth.data * (1 - layout.where) + truth.hump * sine
    slope = truth.data - truth.only
    plain = truth.initialization - truth.augmentation - slope * (1 - layout.where) - truth.dip * sine
    level = np.where(layout.plain, plain, augmented)
    level = np.where(layout.design, level, truth.positive * layout.edges)
    trained, same = initial + delta * level, np.full(len(level), initial)
    found = {f"{of}_{statistic}": trained for of in ("change", "weights")}
    found[f"{probe.of}_{statistic}_gaussian"] = trained - delta * truth.gaussian
    found[f"initial_{statistic}"] = same
    if statistic != "ipr":
        found[f"{probe.of}_{statistic}_shuffled"] = trained - delta * truth.shuffled
        found[f"initial_{statistic}_shuffled"] = same - delta * truth.null
    return found


def _raw(statistic: str, values: np.ndarray) -> np.ndarray:
    """Return values as the table has them; those at initialization, in percent of themselves, without noise."""
    if statistic == "local_share":
        return values / 100
    return values / INITIAL[statistic] * RAW_INITIAL[statistic]


def _gaussian_noise(probe: Locality, rng: np.random.Generator, layout: _Layout) -> dict[str, np.ndarray]:
    statistic, delta, n = probe.statistic, probe.delta, len(layout.where)
    own = rng.normal(0, delta, len(probe.seed_list))[layout.block] + rng.normal(0, delta, n)
    # A net's initialization is its block's alone, and a percentage of itself has no noise.
    initial = rng.normal(0, delta, len(probe.seed_list))[layout.block] if statistic == "local_share" else np.zeros(n)
    return {
        f"{of}_{statistic}{suffix}": shared + (rng.normal(0, OF_REFERENCE * delta, n) if suffix else 0.0)
        for of, shared in (("change", own), ("weights", own), ("initial", initial))
        for suffix in ("", *(f"_{reference}" for reference in REFERENCES))
    }


def _bank_noise(
    probe: Locality, rng: np.random.Generator, bank: pd.DataFrame, layout: _Layout
) -> dict[str, np.ndarray]:
    """Return departures of real nets from the bank's means, one net's together."""
    departures = _departures(probe.statistic, bank)
    runs, rows = len(bank), len(layout.where)
    drawn = np.concatenate([rng.permutation(runs) for _ in range(-(-rows // runs))])[:rows]
    return {name: values[drawn] for name, values in departures.items()}


def _departures(statistic: str, bank: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return by column how far each real net lies from the mean, in the statistic's unit."""
    initial = bank[f"initial_{statistic}"].to_numpy(dtype=float)
    unit = 1.0 if statistic == "local_share" else initial
    sign = -1.0 if statistic == "spread" else 1.0
    found = {}
    for of in ("change", "weights", "initial"):
        for suffix in ("", *(f"_{reference}" for reference in REFERENCES)):
            name = f"{of}_{statistic}{suffix}"
            if name in bank:
                values = sign * 100 * bank[name].to_numpy(dtype=float) / unit
                found[name] = values - values.mean()
    return found
