"""What a plan says that measures cost."""

from types import SimpleNamespace

import pytest

from mlptheory.models import ModelConfig
from mlptheory.probes import plan
from mlptheory.probes.plan import _time_measure
from mlptheory.training import BudgetConfig, DataConfig, Observer, Recipe
from mlptheory.trials import Measurement, Trial


@pytest.mark.parametrize("start", ["initialization", "parent", "body"])
@pytest.mark.parametrize("name", ["first_layer", "neighbors"])
def test_a_measure_that_looks_back_at_the_start_is_priced_without_a_parent(name, start):
    recipe = Recipe(data=DataConfig(n=20), model=ModelConfig(name="B-1/Wi-8"), start=start)
    prepared = SimpleNamespace(schedule=SimpleNamespace(device="cpu", precision="float32"))
    assert _time_measure(Measurement(name=name), recipe, prepared, None) > 0


@pytest.mark.parametrize(
    ("every", "parameters", "looks", "examples"),
    [(3, (("examples", 7),), 4, 7), (3, (), 4, 20), ("doubling", (("examples", None),), 12, 20)],
)
def test_looks_at_the_edge_are_priced_by_their_number_and_examples(monkeypatch, every, parameters, looks, examples):
    taken = []

    def one_second(measurement, *_):
        taken.append(measurement)
        return 1.0

    monkeypatch.setattr(plan, "_time_measure", one_second)
    recipe = Recipe(data=DataConfig(n=20), budget=BudgetConfig(amount=12, unit="epochs", batch_size=20))
    observer = Observer(name="edge", every=every, parameters=parameters)
    trial = Trial(recipe=recipe, observers=(observer,), labels=())
    assert plan._measuring_seconds(trial, recipe, None, None, {}) == looks
    assert [dict(each.parameters)["examples"] for each in taken] == [examples]
