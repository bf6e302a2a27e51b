import pytest

from mlptheory.probes import BatchSize

TINY = BatchSize(n=64, model="B-1/Wi-16", batch_sizes=(8, 32), epochs=(1, 2), seeds=3, lr=1e-3)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_result(tiny_store):
    """A real result of 18 real runs, which later runs find in the store."""
    return TINY.run(store=tiny_store, workers=1, progress=False, planned_s=1.0)
