import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.measures import linear_mode_barrier, match_hidden_units, permute_hidden_units, weight_distance
from mlptheory.models import build
from tests.measures.mlps import MLPS, mlp, random_permutations


def _small(*widths, seed=0):
    """Dense layers and ReLUs of these widths."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MLPS)
def test_a_permuted_copy_is_put_in_order_to_the_last_bit(name, seed):
    model = mlp(name, seed)
    permutations = random_permutations(model, seed)
    copied = permute_hidden_units(model, permutations)
    matching = match_hidden_units(model, copied)
    assert matching.distance == 0.0 and matching.converged
    for group, order in permutations.items():
        assert torch.equal(matching.permutations[group], order.argsort())
    for key, value in model.state_dict().items():
        assert torch.equal(matching.model.state_dict()[key], value)


@pytest.mark.parametrize("name", ["S-3/Wi-64", "B-2/Wi-32", "MLP-2/Wi-64"])
def test_a_permuted_copy_of_a_net_as_it_is_drawn_has_no_barrier_once_matched(name):
    model = build(name, image_size=4, channels=1, num_classes=5)
    copied = permute_hidden_units(model, random_permutations(model, 1))
    images = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model.head.weight.data *= 30
    copied.head.weight.data *= 30
    labels = model(images).argmax(dim=1)
    assert linear_mode_barrier(model, copied, F.cross_entropy, images, labels).barrier > 0.1
    matching = match_hidden_units(model, copied)
    assert matching.distance_before > 1 and matching.distance == 0.0
    assert linear_mode_barrier(model, matching.model, F.cross_entropy, images, labels).barrier == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_of_one_group_no_order_is_closer(seed, twin):
    a, b = _small(2, 5, 3, seed=seed), _small(2, 5, 3, seed=100 + seed)
    matching = match_hidden_units(a, b)
    closest = math.inf
    for order in map(list, itertools.permutations(range(5))):
        parts = [
            a[0].weight - b[0].weight[order],
            a[0].bias - b[0].bias[order],
            a[2].weight - b[2].weight[:, order],
            a[2].bias - b[2].bias,
        ]
        closest = min(closest, sum(part.square().sum().item() for part in parts) ** 0.5)
    twin("match_hidden_units", matching.distance, closest)
    twin("match_hidden_units", weight_distance(a, matching.model), closest)
    assert matching.distance_before == pytest.approx(weight_distance(a, b), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_of_several_groups_none_can_be_improved_by_itself(seed):
    a, b = _small(3, 4, 3, 2, seed=seed), _small(3, 4, 3, 2, seed=100 + seed)
    matching = match_hidden_units(a, b)
    assert matching.converged and matching.distance < matching.distance_before
    for group, units in (("0", 4), ("2", 3)):
        for order in itertools.permutations(range(units)):
            other = permute_hidden_units(matching.model, {group: torch.tensor(order)})
            assert weight_distance(a, other) >= matching.distance - 1e-12


@pytest.mark.parametrize("name", MLPS)
def test_independent_nets_come_closer_and_what_is_returned_fits_together(name):
    a, b = mlp(name, 0), mlp(name, 1)
    before = {key: value.clone() for key, value in b.state_dict().items()}
    matching = match_hidden_units(a, b)
    assert matching.distance < matching.distance_before == pytest.approx(weight_distance(a, b), rel=1e-12)
    assert matching.distance == pytest.approx(weight_distance(a, matching.model), rel=1e-12)
    again = permute_hidden_units(b, matching.permutations)
    images = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(matching.model(images), b(images), rtol=1e-12, atol=1e-12)
    for key, value in b.state_dict().items():
        assert torch.equal(value, before[key]) and torch.equal(
            again.state_dict()[key], matching.model.state_dict()[key]
        )
    twice = match_hidden_units(a, matching.model)
    assert twice.distance <= matching.distance + 1e-12


def test_nets_that_are_in_order_already_stay_so():
    a = mlp("B")
    b = copy.deepcopy(a)
    with torch.no_grad():
        for parameter in b.parameters():
            parameter += 1e-3 * torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    matching = match_hidden_units(a, b)
    assert matching.distance == matching.distance_before and matching.sweeps == 1
    assert all(torch.equal(order, torch.arange(len(order))) for order in matching.permutations.values())


@pytest.mark.parametrize("seed", range(3))
def test_the_result_is_never_farther_than_the_order_that_was_there(seed):
    a, b = _small(3, 6, 6, 2, seed=seed), _small(3, 6, 6, 2, seed=seed)
    with torch.no_grad():
        for net in (a, b):
            net[2].weight *= 3
        # The first layer alone asks for another order than the large second one, which is in order.
        b[0].weight.copy_(b[0].weight.flip(0))
        b[0].bias.copy_(b[0].bias.flip(0))
    matching = match_hidden_units(a, b)
    assert matching.distance == matching.distance_before > 1


@pytest.mark.parametrize("name", ["S-2/Wi-64", "B-2/Wi-32/E-2"])
def test_a_copy_with_a_tenth_of_noise_is_still_recognized(name):
    a = build(name, image_size=4, channels=1, num_classes=5)
    b, generator = copy.deepcopy(a), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in b.parameters():
            parameter += 0.1 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    permutations = random_permutations(a, 5)
    matching = match_hidden_units(a, permute_hidden_units(b, permutations))
    assert all(torch.equal(matching.permutations[group], order.argsort()) for group, order in permutations.items())
    assert matching.distance == pytest.approx(weight_distance(a, b), rel=1e-12)


def test_the_same_net_in_another_order_is_matched_as_closely():
    a, b = mlp("S", 0), mlp("S", 1)
    permuted = permute_hidden_units(b, random_permutations(b, 9))
    near, far = match_hidden_units(a, b), match_hidden_units(a, permuted)
    assert far.distance < near.distance_before and far.distance == pytest.approx(near.distance, rel=0.05)


def test_equal_units_may_change_places():
    a = _small(2, 4, 1)
    with torch.no_grad():
        for value in (a[0].weight, a[0].bias):
            value[1] = value[0]
        a[2].weight[:, 1] = a[2].weight[:, 0]
    matching = match_hidden_units(a, permute_hidden_units(a, {"0": torch.tensor([3, 1, 0, 2])}))
    assert matching.distance == 0.0


def test_too_few_sweeps_say_so():
    a, b = mlp("S", 0), mlp("S", 1)
    assert match_hidden_units(a, b).sweeps > 1
    short = match_hidden_units(a, b, max_sweeps=1)
    assert not short.converged and short.sweeps == 1
    assert short.distance < short.distance_before


def test_a_net_without_hidden_units_has_nothing_to_match():
    a, b = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    matching = match_hidden_units(a, b)
    assert matching.permutations == {} and matching.converged
    assert matching.distance == matching.distance_before == pytest.approx(weight_distance(a, b), rel=1e-12)


def test_the_result_says_its_convention():
    matching = match_hidden_units(_small(2, 3, 1), _small(2, 3, 1, seed=1))
    assert matching.convention == match_hidden_units.convention and "no running statistics" in matching.convention


def test_the_models_are_handed_back_as_they_came(state_of, same_state):
    a, b = mlp("B, batch", 0), mlp("B, batch", 1)
    a.head.weight.grad = torch.ones_like(a.head.weight)
    before = state_of(a), state_of(b)
    match_hidden_units(a, b)
    same_state(state_of(a), before[0])
    same_state(state_of(b), before[1])


def _not_finite():
    model = _small(2, 3, 1)
    model[2].bias.data[0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_sweeps": 0}, "max_sweeps = 0"),
        ({"model_b": _small(2, 4, 1)}, r"the same shape of '0.weight' in both, found \(\(3, 2\), \(4, 2\)\)"),
        ({"model_b": _small(2, 3, 3, 1)}, r"the same shape of '2.weight' in both, found \(\(1, 3\), \(3, 3\)\)"),
        ({"model_b": _not_finite()}, "model_b: 2.bias is not finite"),
        ({"model_a": _not_finite()}, "model_a: 2.bias is not finite"),
        ({"model_b": nn.Linear(2, 3)}, "model: the hidden units of Linear are not known"),
        ({"model_a": mlp("B"), "model_b": mlp("B, no skip")}, "expected the same architecture, found hidden units"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        match_hidden_units(**{"model_a": _small(2, 3, 1), "model_b": _small(2, 3, 1), **arguments})


@pytest.mark.cuda
def test_the_copy_is_on_the_device_of_the_second_net():
    a, b = mlp("B", 0), mlp("B", 1)
    here, there = match_hidden_units(a, b), match_hidden_units(a, b.cuda())
    assert next(there.model.parameters()).is_cuda and there.distance == here.distance
