import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.probes import Permutation, Scenario

PROBE = Permutation(seeds=(4, 0, 2, 1, 3, 5), exact_seeds=4, baseline_augmented=True)
"""Seeds out of order, on purpose."""
MANY = dataclasses.replace(PROBE, seeds=24, exact_seeds=12)
TINY = Permutation(
    model="B-1/Wi-8",
    baseline="CNN-1/Wi-4",
    augmentation=Augmentation(crop_scale=(0.5, 1.0), mixup=0.2),
    seeds=3,
    n=40,
    batch_size=20,
    epochs=2,
    lr=1e-3,
    baseline_lr=1e-3,
    exact_models=("S-1/Wi-6", "B-1/Wi-4"),
    exact_steps=8,
    exact_seeds=3,
    shuffles=1,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=0.05, runs=120, seed=0):
    """Return made-up runs: accuracies with a spread in points, deviations with one in decades."""
    rng = np.random.default_rng(seed)
    rows = []
    for block in range(runs):
        for arm in ("mlp", "baseline"):
            rows.append(
                {"arm": arm, "images": "plain", "block": block, "test_accuracy": 0.8 + rng.normal(0, spread) / 100}
            )
        right = 10 ** rng.normal(-14, spread)
        rows.append(
            {
                "arm": "mlp",
                "images": "both",
                "block": block,
                "test_accuracy": 0.5,
                "permuted_weight_deviation": right / 3,
                "permuted_logit_deviation": right,
                "wrong_weight_deviation": 10 ** rng.normal(-1, spread),
            }
        )
    return pd.DataFrame(rows)


def quiet(probe, seed=0, **parameters):
    """Return a table with planted effects and hardly any noise, but in the leak check."""
    return probe.simulate(plant(**parameters), np.random.default_rng(seed), made_up_bank())


def judged(probe, table):
    return {verdict.id: verdict for verdict in probe.judge(table)}


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_result(tiny_store):
    """A real result of real runs, which later runs find in the store."""
    return TINY.run(store=tiny_store, workers=1, progress=False, planned_s=1.0)
