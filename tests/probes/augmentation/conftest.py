import numpy as np
import pandas as pd
import pytest

from mlptheory.probes import Augmentation, Scenario

PROBE = Augmentation(flip=True, sizes=(80, 20, 40), seeds=5, crop_scale=(0.5, 1.0))
"""With flips, sizes out of order on purpose."""
UNTUNED = Augmentation(lr_grid=(0.5,), seeds=5, crop_scale=None, flip=True, mixup=0.0)
TINY = Augmentation(
    model="B-1/Wi-8",
    baseline="CNN-1/Wi-4",
    sizes=(40, 20),
    epochs=2,
    shuffled_epochs=3,
    batch_size=10,
    lr_grid=(1.0, 4.0, 16.0),
    tuning_seeds=1,
    seeds=3,
    control_runs=1,
    shuffles=2,
)


def plant(**parameters):
    """Return a scenario with parameters of one's own."""
    return Scenario(name="planted", description="Of a test.", parameters=tuple(parameters.items()))


def made_up_bank(spread=0.01, runs=200, seed=0):
    """Return made-up runs whose outcomes are spread by so many points, the log error by as many hundredths."""
    noise = np.random.default_rng(seed).normal(0, spread / 100, (4, runs))
    return pd.DataFrame(
        {
            "test_accuracy": 0.6 + noise[0],
            "flip_error_logits": np.exp(-1.5 + noise[1]),
            "shift_error_logits": np.exp(-1.5 + noise[1]),
            "change_local_share": 0.4 + noise[2],
            "neighbor_accuracy": 0.6 + noise[3],
        }
    )


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
