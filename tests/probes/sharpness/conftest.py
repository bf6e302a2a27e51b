import numpy as np
import pandas as pd
import pytest

from mlptheory.probes import Scenario, Sharpness
from mlptheory.probes.sharpness.columns import RESCALINGS

PROBE = Sharpness(widths=(64, 16, 32), depths=(3, 1, 2), batch_sizes=(64, 8, 16, 32, 128, 400), seeds=5)
"""Sizes out of order, on purpose."""
TINY = Sharpness(
    model="MLP-2/Wi-16",
    n=40,
    edge_steps=12,
    every=2,
    widths=(8, 16),
    depths=(1, 2),
    flow_lr=0.1,
    flow_steps=120,
    flow_loss=0.42,
    batch_sizes=(8, 16, 32, 40),
    batch_lr=0.1,
    batch_steps=200,
    batch_loss=0.5,
    seeds=3,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=1e-4, runs=120, seed=0):
    """Return made-up runs of the three parts, that hardly differ."""
    rng = np.random.default_rng(seed)

    def around(level):
        return level + rng.normal(0, spread, runs)

    def part(role, **outcomes):
        return pd.DataFrame({"role": role, **outcomes})

    batch = {"sharpness_at_target": 8 + rng.random(runs), "adaptive_sharpness_at_target": 0.5 + rng.random(runs)}
    batch |= {"gap_at_target": 0.1 + rng.random(runs)}
    batch |= {f"rescaling_{draw}": around(5.0) for draw in range(RESCALINGS)}
    return pd.concat(
        [
            part("edge", edge_hovering=around(0.03)),
            part("flow", sharpening=around(0.7)),
            part("batch", **batch),
        ]
    )


def quiet(probe, seed=0, **parameters):
    """Return a table with planted effects and hardly any noise of edges and flows."""
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
