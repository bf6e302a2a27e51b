"""Tables with a planted truth, for testing the judgment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize


def simulate(
    probe: BatchSize, effect: float, rng: np.random.Generator, *, spread: float = 1.0, hump: float = 0.0
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    effect : float
        True change from the smallest to the largest batch, in percentage points, linear in log2 batch size.
    rng : numpy Generator
    spread : float
        SD of a run, in percentage points; a seed's runs also share a shift of the same SD.
    hump : float
        Height, in percentage points, of a half sine added over the range of batch sizes.

    Returns
    -------
    DataFrame
        With the columns that `judge` and `effects` read.
    """
    low, high = math.log2(min(probe.batch_sizes)), math.log2(max(probe.batch_sizes))
    shifts = {block: rng.normal(0, spread) for block in probe.seed_list}
    rows = []
    for trial in probe.trials():
        labels = dict(trial.labels)
        where = (math.log2(labels["batch_size"]) - low) / (high - low)
        planted = effect * where + hump * math.sin(math.pi * where) if labels["role"] == "arm" else 0.0
        shift = shifts[labels["block"]] if labels["role"] == "arm" else 0.0
        accuracy = (50 + planted + shift + rng.normal(0, spread)) / 100
        rows.append({**labels, "test_accuracy": accuracy, "diverged": False})
    return pd.DataFrame(rows)
