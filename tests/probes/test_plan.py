"""What a plan says that measures cost."""

from types import SimpleNamespace

import pytest

from mlptheory.models import ModelConfig
from mlptheory.probes.plan import _time_measure
from mlptheory.training import DataConfig, Recipe
from mlptheory.trials import Measurement


@pytest.mark.parametrize("start", ["initialization", "parent", "body"])
@pytest.mark.parametrize("name", ["first_layer", "neighbors"])
def test_a_measure_that_looks_back_at_the_start_is_priced_without_a_parent(name, start):
    recipe = Recipe(data=DataConfig(n=20), model=ModelConfig(name="B-1/Wi-8"), start=start)
    prepared = SimpleNamespace(schedule=SimpleNamespace(device="cpu", precision="float32"))
    assert _time_measure(Measurement(name=name), recipe, prepared, None) > 0
