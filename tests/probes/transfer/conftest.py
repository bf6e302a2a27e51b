import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.probes import Scenario, Transfer

PROBE = Transfer(batch_sizes=(64, 16, 256), lengths=(20, 5), seeds=5)
"""Sizes and lengths out of order, on purpose."""
MANY = dataclasses.replace(PROBE, seeds=24)
TINY = Transfer(
    model="B-1/Wi-8",
    batch_sizes=(64, 16),
    lengths=(2, 1),
    augmentation=Augmentation(crop_scale=(0.5, 1.0)),
    seeds=3,
    source_n=64,
    target_n=20,
    lr=1e-3,
    finetuning_epochs=2,
    finetuning_batch_size=10,
    probing_epochs=2,
    probing_batch_size=10,
    tta_views=2,
    control_runs=1,
    shuffles=2,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=0.05, bodies=200, seed=0):
    """Return made-up runs, a probe and a fine-tuning of each body that share half of their noise, in points."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, spread, bodies)
    probing, finetuning, views = (0.8 + (shared + rng.normal(0, spread, bodies)) / 100 for _ in range(3))
    rows = [
        row
        for block in range(bodies)
        for row in (
            {"stage": "probing", "block": block, "test_accuracy": probing[block], "tta_accuracy": None},
            {
                "stage": "finetuning",
                "block": block,
                "test_accuracy": finetuning[block],
                "tta_accuracy": views[block],
            },
        )
    ]
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
