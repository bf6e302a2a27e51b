import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.data import Dataset, datasets
from mlptheory.models import ModelConfig, build, count_parameters
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    count_work,
    estimate_cost,
    train,
)
from mlptheory.training.cost import GIB, saved_for_backward_bytes

FLOAT32 = 4


def _recipe(data="tiny", model="B-1/Wi-6", optimizer="lion", **budget):
    return Recipe(
        data=DataConfig(name=data),
        model=ModelConfig(name=model),
        optimizer=OptimizerConfig(name=optimizer, lr=1e-3),
        budget=BudgetConfig(**budget),
        precision="float32",
    )


def test_saved_bytes_of_a_small_mlp_equal_a_count_by_hand():
    # Each linear keeps its input, each ReLU its output, which is the next linear's input: no storage counts twice.
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))
    for batch in (1, 4, 9):
        assert saved_for_backward_bytes(model, torch.zeros(batch, 7)) == batch * (7 + 5 + 3) * FLOAT32
    assert saved_for_backward_bytes(model.double(), torch.zeros(4, 7, dtype=torch.float64)) == 4 * 15 * 8


def test_saved_bytes_of_a_bottleneck_equal_a_count_by_hand():
    model = build("B-1/Wi-6/E-2", image_size=2, channels=1, num_classes=3).eval()
    batch = 5
    # Input; LayerNorm keeps its input, mean and 1/std; its output feeds W_e; GELU keeps 12; its output feeds W_c;
    # the head keeps the sum.
    numbers = 4 + (6 + 1 + 1) + 6 + 12 + 12 + 6
    assert saved_for_backward_bytes(model, torch.zeros(batch, 1, 2, 2)) == batch * numbers * FLOAT32


@pytest.mark.parametrize(
    "budget",
    [
        {"amount": 2, "batch_size": 16},
        {"amount": 2, "batch_size": 16, "drop_last": True},
        {"amount": 1, "batch_size": 41},
        {"amount": 4, "unit": "steps", "batch_size": 16},
        {"amount": 5, "unit": "steps", "batch_size": 16},
        {"amount": 7, "unit": "steps", "batch_size": 16},
        {"amount": 5, "unit": "steps", "batch_size": 16, "drop_last": True},
    ],
)
def test_steps_and_examples_are_those_of_the_run(budget):
    recipe = _recipe(**budget)
    cost = estimate_cost(recipe, device="cpu", measured_steps=1)
    steps = []
    trained = train(recipe, device="cpu", on_step=lambda step, total: steps.append(total))
    assert cost.work.steps == len(steps) == steps[-1]
    sizes = [9 if (step + 1) % 3 == 0 else 16 for step in range(cost.work.steps)]
    if budget["batch_size"] == 41 or budget.get("drop_last"):
        sizes = [budget["batch_size"]] * cost.work.steps
    assert cost.work.examples == sum(sizes)
    assert cost.parameters == count_parameters(trained.model)
    assert 0 < cost.seconds < 60


def _bounds(recipe, input_size, width, depth, classes, resident):
    """Bounds in bytes by hand: below without activations, above with three times what a block must keep."""
    parameters = (input_size + 1) * width + (width + 1) * classes
    parameters += depth * (2 * width + (width + 1) * 4 * width + (4 * width + 1) * width)
    states = {"lion": 3, "sgd": 3, "adamw": 4}[recipe.optimizer.name] * parameters * FLOAT32
    size = min(recipe.budget.microbatch or recipe.budget.batch_size, recipe.budget.batch_size)
    kept = (input_size + depth * (2 + 2 * width + 8 * width) + width) * size * FLOAT32
    batch = recipe.budget.batch_size * input_size * FLOAT32
    return parameters, states + kept + resident, states + 1.2 * kept + 4 * batch + 2 * resident


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
@pytest.mark.parametrize("budget", [{"batch_size": 64}, {"batch_size": 1024}, {"batch_size": 1024, "microbatch": 128}])
def test_peak_memory_lies_between_bounds_by_hand(optimizer, budget):
    recipe = _recipe("digits", "B-3/Wi-256", optimizer, amount=1, **budget)
    cost = estimate_cost(recipe, device="cpu", measured_steps=1)
    parameters, low, high = _bounds(recipe, 64, 256, 3, 10, resident=(1197 + 600) * 64)
    assert cost.parameters == parameters
    assert low <= cost.peak_gib * GIB <= high


def test_more_states_and_more_examples_take_more_memory():
    def peak(**changes):
        return estimate_cost(_recipe("digits", amount=1, **changes), device="cpu", measured_steps=1).peak_gib * GIB

    parameters = count_parameters(build("B-1/Wi-6", image_size=8, channels=1, num_classes=10))
    base = peak(batch_size=1000)
    assert peak(batch_size=1000, optimizer="adamw") - base == pytest.approx(parameters * FLOAT32, abs=2)
    assert peak(batch_size=1000, microbatch=10) < base
    # Memory grows in proportion to the batch, not faster.
    growth = peak(batch_size=1000) - peak(batch_size=500), peak(batch_size=500) - peak(batch_size=250)
    assert growth[0] == pytest.approx(2 * growth[1], rel=1e-3)


def test_the_thread_count_comes_back_also_after_an_error():
    before = torch.get_num_threads()
    estimate_cost(_recipe(batch_size=8, amount=1), device="cpu", threads=before + 1, measured_steps=1)
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="larger than the training set"):
        estimate_cost(_recipe(batch_size=999), device="cpu", threads=before + 1)
    assert torch.get_num_threads() == before


def test_observers_cost_time_and_a_child_costs_what_its_parent_does():
    recipe = Recipe.from_plain({**_recipe(batch_size=8, amount=1).to_plain(), "start": "parent"})
    assert estimate_cost(recipe, [Observer(name="evaluation")], device="cpu", measured_steps=1).work.steps == 6
    with pytest.raises(InputError, match="measured_steps = 0"):
        estimate_cost(recipe, device="cpu", measured_steps=0)


def test_a_longer_run_costs_its_own_epochs_and_looks():
    recipe, longer = _recipe(batch_size=16, amount=1), _recipe(batch_size=16, amount=20)
    looks = [Observer(name="evaluation", every="doubling")]
    cost = estimate_cost(recipe, device="cpu", measured_steps=1)
    work = count_work(longer, 41, looks)
    # Before the first epoch, after 1, 2, 4, 8, 16 and the last, and the final one.
    assert (work.steps, work.epochs, work.examples, work.evaluations) == (60, 20, 820, 8)
    expected = 60 * cost.step_s + 20 * cost.epoch_s + 8 * cost.evaluation_s
    assert cost.seconds_of(work) == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_an_ensemble_costs_its_members_memory_and_one_dataset(optimizer):
    recipe = _recipe(model="B-2/Wi-40", optimizer=optimizer, batch_size=16)
    single, group = (estimate_cost(recipe, device="cpu", measured_steps=1, members=members) for members in (1, 5))
    assert (single.members, group.members) == (1, 5)
    assert group.work == single.work and group.parameters == single.parameters
    assert group.step_s > 0 and group.epoch_s > 0 and group.evaluation_s > 0
    resident = (41 + 23) * 2 * 4 * 4
    own, together = single.peak_gib * GIB - resident, group.peak_gib * GIB - resident
    # Vectorized, normalizations and biases keep a little more for the backward pass.
    assert 5 * own <= together <= 1.3 * 5 * own


def test_an_ensemble_that_cannot_be_trained_has_no_cost():
    recipe = _recipe(microbatch=3, batch_size=16)
    assert estimate_cost(recipe, device="cpu", measured_steps=1).members == 1
    with pytest.raises(InputError, match=r"budget\.microbatch = 3: expected nothing in an ensemble"):
        estimate_cost(recipe, device="cpu", members=2)
    with pytest.raises(InputError, match="members = 0: expected an integer of at least 1"):
        estimate_cost(recipe, device="cpu", members=0)


def test_counting_what_is_saved_leaves_no_tensor_behind(living_tensors):
    # A ReLU saves its own output.
    saved_for_backward_bytes(nn.Sequential(nn.Linear(7, 5), nn.ReLU()), torch.zeros(3, 7))
    before = living_tensors()
    saved_for_backward_bytes(nn.Sequential(nn.Linear(7, 5), nn.ReLU()), torch.zeros(3, 7))
    assert living_tensors() == before


def test_a_part_of_a_test_set_with_sets_of_labels_is_timed(monkeypatch):
    def load(split, root):
        n = 2050
        sets = None if split == "train" else tuple(frozenset({index % 2}) for index in range(n))
        images = torch.arange(n * 4, dtype=torch.int64).remainder(256).to(torch.uint8).view(n, 1, 2, 2)
        return Dataset(
            name="sets", split=split, images=images, labels=torch.arange(n) % 2, classes=("a", "b"), label_sets=sets
        )

    monkeypatch.setattr(datasets, "_entries", dict(datasets._entries))
    datasets.register("sets of labels", summary="those of the test set")(load)
    cost = estimate_cost(_recipe("sets of labels", batch_size=64), device="cpu", measured_steps=1)
    assert cost.evaluation_s > 0
