import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.probes import Locality, Scenario
from mlptheory.probes.locality import arms
from mlptheory.training import BudgetConfig

PROBE = Locality(sizes=(300, 75, 1197), seeds=5)
"""Sizes out of order, on purpose."""
MANY = dataclasses.replace(PROBE, seeds=24)
TINY = Locality(
    model="B-1/Wi-8",
    sizes=(60, 20),
    epochs=2,
    long_epochs=3,
    batch_size=16,
    augmentation=Augmentation(shift=1),
    lr=1e-3,
    other_optimizers=("sgd",),
    other_lrs=(0.05,),
    seeds=3,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=0.01, nets=200, seed=0):
    """Return made-up nets, whose statistics share half of their noise, `spread` in percent of each."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, spread, nets)
    levels = {"local_share": 0.2, "ipr": 0.03, "spread": 10.0}
    return pd.DataFrame(
        {
            f"{of}_{statistic}{suffix}": level * (1 + (shared + rng.normal(0, spread, nets)) / 100)
            for of in ("change", "weights", "initial")
            for statistic, level in levels.items()
            for suffix in ("", "_gaussian", "_shuffled")
            if (statistic, suffix) != ("ipr", "_shuffled")
        }
    )


def quiet(probe, seed=0, **parameters):
    """Return a table with planted effects and hardly any noise."""
    return probe.simulate(plant(**parameters), np.random.default_rng(seed), made_up_bank())


def judged(probe, table):
    return {verdict.id: verdict for verdict in probe.judge(table)}


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def small_control():
    """A control of one epoch and few units, in place of the one that shows something; other modules see the latter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "CONTROL_MODEL", ModelConfig(name="S-2/Wi-4", variant="authors", norm="none"))
        patch.setattr(arms, "CONTROL_BUDGET", BudgetConfig(amount=1, batch_size=4096))
        yield


@pytest.fixture(scope="module")
def tiny_result(tiny_store, small_control):
    """A real result of real runs, which later runs find in the store."""
    return TINY.run(store=tiny_store, workers=1, progress=False, planned_s=1.0)
