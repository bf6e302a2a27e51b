"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.augmentation import claims as named
from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.augmentation.evidence import match
from mlptheory.probes.augmentation.scenarios import Truth
from mlptheory.probes.augmentation.tuning import Cell, Rates, choose, standing_in

if TYPE_CHECKING:
    from mlptheory.probes.augmentation.design import Augmentation
    from mlptheory.probes.scenario import Scenario

LEVEL, CHANCE = 60.0, 0.1
"""Accuracy in percent without augmentation at the largest size, and that of chance as a share."""
LOG_ERROR, LOG_SLOPE, SHARE = -1.5, -0.03, 40.0
"""Log of the invariance error there, what a point of accuracy changes of it, and the local share in percent."""
LOG_SPREAD, SHARE_SPREAD = 0.1, 1.0
"""SD of a run, where no bank has one: of the log error, and of the local share in points."""
SHARED = -0.5
"""Correlation of a run's log error with its accuracy."""
LEAK_SPREAD = 6.0
"""SD in percentage points between shuffles of the labels: of small nets on forty digits."""
TEST_EXAMPLES = 1000


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, the follow-up's included, and which of its rows are what."""

    labels: dict[str, np.ndarray]
    first: int
    cells: list[Cell]
    cell: np.ndarray
    step: np.ndarray
    block: np.ndarray
    roles: dict[str, np.ndarray]
    arms: dict[str, np.ndarray]
    is_cnn: np.ndarray


@lru_cache(maxsize=8)
def _layout(probe: Augmentation) -> _Layout:
    first, later = probe.trials(), probe.follow_up(None)
    rows = [dict(trial.labels) for trial in (*first, *later)]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    cells = list(standing_in(probe))
    places, steps = (
        {cell: at for at, cell in enumerate(cells)},
        {size: at for at, size in enumerate(probe.ordered_sizes)},
    )
    blocks = {block: at for at, block in enumerate(probe.seed_list)}
    return _Layout(
        labels=labels,
        first=len(first) if later else 0,
        cells=cells,
        cell=np.array([places[row["learner"], row["arm"]] for row in rows]),
        step=np.array([steps[row["size"]] for row in rows]),
        block=np.array([blocks.get(row["block"], 0) for row in rows]),
        roles={role: labels["role"] == role for role in ("run", "tuning", "shuffled", "exact-null")},
        arms={arm: labels["arm"] == arm for arm in dict.fromkeys(arm for _, arm in cells)},
        is_cnn=labels["learner"] == "cnn",
    )


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: Augmentation, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : Augmentation
    scenario : Scenario
        One of `Augmentation.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `Augmentation.bank_trials` describes them: a row's noise of all outcomes is then one run's
        departure from the bank's means, each run once before any twice. Without it the noise is Gaussian: a run's SD of
        accuracy is the margin, and a block's runs share a shift of the same SD.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    labels, n = dict(layout.labels), len(layout.step)
    augmented = ~layout.arms[NONE]
    noise = _Noise(probe, rng, bank, layout, np.where(augmented, truth.fanning, 1.0))
    accuracy = _accuracy(probe, truth)[layout.cell, layout.step]
    labels["lr"] = labels["lr"].astype(float).copy()
    diverged = rng.random(n) < truth.diverged
    table = {**labels, "diverged": diverged, "validation_loss": np.zeros(n)}
    cost = _cost(probe, truth, layout, labels["lr"])
    table["validation_accuracy"] = (accuracy - cost + noise.accuracy) / 100
    if layout.first:
        tuned = choose(pd.DataFrame({name: values[: layout.first] for name, values in table.items()}))
        labels["lr"][layout.first :] = [tuned[layout.cells[at]].lr for at in layout.cell[layout.first :]]
        cost, table["lr"] = _cost(probe, truth, layout, labels["lr"]), labels["lr"]
    tested = accuracy - cost + noise.shift + noise.accuracy
    tested = tested + probe.margin * truth.control * layout.roles["exact-null"]
    leaking = layout.roles["shuffled"] & layout.arms[NONE]
    leak = 100 * CHANCE + truth.control * named.LEAK_MARGIN + noise.standardized(LEAK_SPREAD)
    tested = np.where(layout.roles["shuffled"], np.where(leaking, leak, 100 * CHANCE), tested)
    error = np.exp(_log_error(probe, truth)[layout.cell, layout.step] + noise.log_error)
    share = SHARE + probe.share_margin * truth.filters * layout.arms[probe.full] + noise.share
    lead = probe.margin * truth.teach
    outcomes = {
        "test_accuracy": tested / 100,
        "flip_error_logits": error,
        "shift_error_logits": error,
        "change_local_share": share / 100,
        "neighbor_accuracy": (LEVEL + lead + noise.neighbors) / 100,
        "train_accuracy": np.full(n, 0.9),
    }
    table |= {name: np.where(diverged, np.nan, values) for name, values in outcomes.items()}
    table |= {
        "neighbor_accuracy_initial": np.full(n, LEVEL / 100),
        "neighbor_accuracy_pixels": np.full(n, (LEVEL - probe.margin * truth.apart) / 100),
        "chance_accuracy": np.full(n, CHANCE),
        "test_examples": np.full(n, TEST_EXAMPLES),
    }
    return pd.DataFrame(table)


def truths(probe: Augmentation, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants, at the learning rates that the table's tuning chose.

    Invariance is judged at the accuracy that a table's own lines decide on; its estimand is the planted lines' there.
    """
    truth, delta = truth_of(scenario), probe.margin
    accuracy = _accuracy_at(probe, truth, _chosen(probe, table))
    plain, full = accuracy["mlp", NONE], accuracy["mlp", probe.full]
    found = {
        named.LIFTS: full[-1] - plain[-1],
        named.WORTH: float((full[:-1] - plain[1:]).min()),
        named.INVARIANCE: _matched(probe, truth, plain, full, table),
        named.FILTERS: probe.share_margin * truth.filters,
        named.SPATIAL: accuracy["mlp", probe.orthogonal][-1] - accuracy["mlp", probe.conjugated][-1],
        named.OVER_NOISE: accuracy["mlp", probe.spatial][-1] - accuracy["mlp", probe.noise][-1],
        named.TEACH: delta * truth.teach,
        named.NULL: delta * truth.control,
        named.LEAK: named.LEAK_MARGIN * truth.control,
    }
    if probe.baseline is not None:
        lift_of_cnn = accuracy["cnn", probe.full][-1] - accuracy["cnn", NONE][-1]
        odds = {cell: _log_odds(line[-1]) for cell, line in accuracy.items()}
        found[named.OVER_CNN] = found[named.LIFTS] - lift_of_cnn
        found[named.OVER_CNN_ODDS] = (odds["mlp", probe.full] - odds["mlp", NONE]) - (
            odds["cnn", probe.full] - odds["cnn", NONE]
        )
    return {claim.id: float(found[claim.id]) for claim in probe.claims()}


def _accuracy(probe: Augmentation, truth: Truth) -> np.ndarray:
    """Return the planted accuracy in percent, before what learning rates cost, shape (cells, sizes)."""
    delta, steps = probe.margin, len(probe.ordered_sizes) - 1
    gains = delta * truth.rise * truth.bend ** np.arange(steps)
    plain = LEVEL - np.append(np.cumsum(gains[::-1])[::-1], 0.0)
    lines = []
    for learner, arm in standing_in(probe):
        lift = 0.0
        if arm == probe.full:
            lift = delta * truth.lift if learner == "mlp" else _lift_of_cnn(probe, truth)
        elif arm == probe.conjugated:
            lift = -delta * truth.spatial
        elif arm == probe.noise:
            # With MixUp the spatial arm is one by itself; without it is that of all operators.
            lift = delta * (truth.lift * (probe.spatial == probe.full) - truth.over_noise)
        lines.append(plain + lift)
    return np.array(lines)


def _lift_of_cnn(probe: Augmentation, truth: Truth) -> float:
    lift = probe.margin * truth.lift
    if not truth.in_odds:
        return lift - probe.margin * truth.over_cnn
    gained = _log_odds(LEVEL + lift) - _log_odds(LEVEL) - probe.log_odds_margin * truth.over_cnn_odds
    return 100 / (1 + np.exp(-_log_odds(LEVEL) - gained)) - LEVEL


def _log_odds(percent: float) -> float:
    share = min(max(percent / 100, 0.5 / TEST_EXAMPLES), 1 - 0.5 / TEST_EXAMPLES)
    return float(np.log(share / (1 - share)))


def _log_error(probe: Augmentation, truth: Truth) -> np.ndarray:
    """Return the planted log error, shape (cells, sizes): lines over the planted accuracy."""
    accuracy = _accuracy(probe, truth)
    full = np.array([arm == probe.full for _, arm in standing_in(probe)])[:, None]
    slope = LOG_SLOPE * np.where(full, truth.steepening, 1.0)
    return LOG_ERROR + slope * (accuracy - LEVEL) - probe.invariance_margin * truth.invariance * full


def _matched(probe: Augmentation, truth: Truth, plain: np.ndarray, full: np.ndarray, table: pd.DataFrame) -> float:
    """Return the difference of the planted lines at the accuracy that a table's lines decide on; NaN without one."""
    at = match(probe, Cells(probe, table))
    if isinstance(at, str):
        return np.nan
    errors, cells = _log_error(probe, truth), list(standing_in(probe))
    values = [
        _line(100 * at.accuracy, line, errors[cells.index(("mlp", arm))])
        for arm, line in ((probe.full, full), (NONE, plain))
    ]
    return values[0] - values[1]


def _line(at: float, x: np.ndarray, y: np.ndarray) -> float:
    left = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    return float(y[left] + (y[left + 1] - y[left]) * (at - x[left]) / (x[left + 1] - x[left]))


def _chosen(probe: Augmentation, table: pd.DataFrame) -> Rates:
    if not probe.is_tuned:
        return {cell: probe.base_lr(cell[0]) * probe.lr_grid[0] for cell in standing_in(probe)}
    return {cell: choice.lr for cell, choice in choose(table).items()}


def _accuracy_at(probe: Augmentation, truth: Truth, rates: Rates) -> dict[Cell, np.ndarray]:
    """Return the planted accuracy of every cell over the sizes, at its learning rate."""
    lines = dict(zip(standing_in(probe), _accuracy(probe, truth), strict=True))
    return {cell: line - _cost_of(probe, truth, *cell, np.asarray(rates[cell])) for cell, line in lines.items()}


def _cost(probe: Augmentation, truth: Truth, layout: _Layout, lr: np.ndarray) -> np.ndarray:
    base = np.where(layout.is_cnn, probe.base_lr("cnn") if probe.baseline else np.nan, probe.base_lr("mlp"))
    return _octaves_cost(probe, truth, np.log2(lr / base), layout.arms[probe.full])


def _cost_of(probe: Augmentation, truth: Truth, learner: str, arm: str, lr: np.ndarray) -> float:
    octaves = np.log2(lr / probe.base_lr(learner))
    return float(_octaves_cost(probe, truth, octaves, np.asarray(arm == probe.full)))


def _octaves_cost(probe: Augmentation, truth: Truth, octaves: np.ndarray, is_full: np.ndarray) -> np.ndarray:
    best = np.mean(np.log2(probe.lr_grid)) + truth.drift * is_full
    return probe.margin * truth.curvature * (octaves - best) ** 2


class _Noise:
    """The noise of every row, Gaussian or a bank's, an outcome each."""

    def __init__(
        self,
        probe: Augmentation,
        rng: np.random.Generator,
        bank: pd.DataFrame | None,
        layout: _Layout,
        spread: np.ndarray,
    ) -> None:
        n, unit = len(spread), probe.margin or 1.0
        self._rng, self._bank, self._n = rng, bank, n
        self.shift = np.zeros(n)
        if bank is None:
            own, other = rng.normal(size=n), rng.normal(size=n)
            shared = rng.normal(0, unit, (2, len(probe.seed_list)))
            self.shift = np.where(layout.roles["run"], shared[layout.is_cnn.astype(int), layout.block], 0.0)
            self.accuracy = spread * unit * own
            self.log_error = spread * LOG_SPREAD * (SHARED * own + np.sqrt(1 - SHARED**2) * other)
            self.share = spread * rng.normal(0, SHARE_SPREAD, n)
            self.neighbors = spread * rng.normal(0, unit, n)
            return
        runs = len(bank)
        drawn = np.concatenate([rng.permutation(runs) for _ in range(-(-n // runs))])[:n]
        error = np.log(bank[f"{named.invariance_to(probe)}_error_logits"].to_numpy(dtype=float))
        self.accuracy = spread * _departures(100 * bank["test_accuracy"].to_numpy(dtype=float))[drawn]
        self.log_error = spread * _departures(error)[drawn]
        self.share = spread * _departures(100 * bank["change_local_share"].to_numpy(dtype=float))[drawn]
        self.neighbors = spread * _departures(100 * bank["neighbor_accuracy"].to_numpy(dtype=float))[drawn]

    def standardized(self, spread: float) -> np.ndarray:
        """Return noise of a given SD; with a bank, of the shape of its accuracies' noise."""
        if self._bank is None:
            return self._rng.normal(0, spread, self._n)
        departures = _departures(self._bank["test_accuracy"].to_numpy(dtype=float))
        return spread * self._rng.choice(departures, self._n) / departures.std()


def _departures(values: np.ndarray) -> np.ndarray:
    return values - values.mean()
