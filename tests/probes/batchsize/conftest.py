import dataclasses

import numpy as np
import pandas as pd

from mlptheory.probes import BatchSize, Scenario

GRID = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PROBE = BatchSize(batch_sizes=(64, 16, 256), lengths=(20, 5), seeds=5, lr_grid=GRID, tuning_seeds=2)
"""Sizes and lengths out of order, on purpose."""
WIDE = dataclasses.replace(PROBE, cnn="CNN-2/Wi-8", lr_policies=("fixed", "linear", "sqrt", "tuned"))


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def quiet_bank(spread=0.1, runs=400, seed=0):
    """Return made-up runs that hardly differ: spread in percentage points, and as much in doublings over ten."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "test_accuracy": 0.8 + rng.normal(0, spread / 100, runs),
            "sharpness_at_target": 2 ** rng.normal(3, spread / 10, runs),
            "examples_to_target": 2 ** rng.normal(6, spread / 10, runs),
        }
    )


def quiet(probe, seed=0, **parameters):
    """Return a table with planted effects and hardly any noise."""
    return probe.simulate(plant(**parameters), np.random.default_rng(seed), quiet_bank())


def judged(probe, table):
    return {verdict.id: verdict for verdict in probe.judge(table)}
