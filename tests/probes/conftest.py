import json

import pytest

from mlptheory.probes import BatchSize

TINY = BatchSize(
    n=64,
    model="B-1/Wi-16",
    batch_sizes=(8, 32),
    lengths=(1, 12),
    seeds=3,
    lr=2e-3,
    lr_grid=(0.25, 2.0, 64.0),
    tuning_seeds=1,
    curvature_seeds=3,
    target_accuracy=0.4,
    remaining_loss=0.6,
    control=False,
)
FIRST, ALL = 24, 36
"""Its trials in the first stage (fixed, tuning), and with those at the tuned learning rates."""


def comparable(result):
    """Return all that two runs of one design must share, to the last bit."""
    plain = result.to_plain()
    return json.dumps({name: plain[name] for name in plain if name not in ("environment", "timing")})


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_result(tiny_store):
    """A real result of real runs in two stages, which later runs find in the store."""
    return TINY.run(store=tiny_store, workers=1, progress=False, planned_s=1.0)
