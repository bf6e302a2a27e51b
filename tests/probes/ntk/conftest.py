import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlptheory.probes import NeuralTangentKernel, Scenario
from mlptheory.probes.ntk.simulation import COSINES, LOGARITHMS, SHARES

PROBE = NeuralTangentKernel(widths=(64, 16, 32), sizes=(600, 150), seeds=5)
"""Widths and sizes out of order, on purpose."""
TINY = NeuralTangentKernel(
    model="S-1",
    widths=(4, 8, 16),
    sizes=(64, 96),
    epochs=2,
    batch_size=32,
    lr=3e-3,
    lr_factors=(0.5,),
    other_optimizers=("sgd",),
    other_lrs=(0.05,),
    coordinate_steps=2,
    kernel_examples=20,
    test_examples=60,
    seeds=3,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=1e-3, nets=200, seed=0):
    """Return made-up nets, of a spread that is that of logarithms, of shares in percent, and of cosines."""
    rng = np.random.default_rng(seed)
    columns = {name: np.exp2(rng.normal(0, spread, nets)) for name in LOGARITHMS}
    columns |= {name: (90 + rng.normal(0, spread, nets)) / 100 for name in SHARES}
    columns |= {name: 0.5 + rng.normal(0, 0.01 * spread, nets) for name in COSINES}
    return pd.DataFrame(columns)


def quiet(probe, seed=0, **parameters):
    """Return a table with planted truths and hardly any noise."""
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


def with_seeds(seeds):
    return dataclasses.replace(PROBE, seeds=seeds)
