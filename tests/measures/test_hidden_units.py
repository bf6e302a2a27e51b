import itertools

import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.measures import permute_hidden_units
from mlptheory.measures.hidden_units import hidden_groups
from mlptheory.models import build
from mlptheory.models.layers import dense
from tests.measures.mlps import MLPS, mlp, random_permutations


def _images(n=6):
    return torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", MLPS)
def test_each_group_by_itself_and_all_together_leave_the_function(name):
    model, images = mlp(name), _images()
    permutations = random_permutations(model, 3)
    for some in [{group: order} for group, order in permutations.items()] + [permutations]:
        permuted = permute_hidden_units(model, some)
        torch.testing.assert_close(permuted(images), model(images), rtol=1e-12, atol=1e-12)
        changed = {
            key for key, value in permuted.state_dict().items() if not torch.equal(value, model.state_dict()[key])
        }
        members = {key for group in some for key, _ in hidden_groups(model)[group]}
        assert changed == members


def test_groups_are_the_stream_and_what_each_bottleneck_is_wide():
    assert list(hidden_groups(mlp("B"))) == ["embedding", "blocks.0.expand", "blocks.1.expand"]
    assert list(hidden_groups(mlp("B, no skip"))) == [
        *("embedding", "blocks.0.expand", "blocks.0.contract", "blocks.1.expand", "blocks.1.contract")
    ]
    assert list(hidden_groups(mlp("S"))) == ["embedding", "blocks.0.linear", "blocks.1.linear", "blocks.2.linear"]
    assert list(hidden_groups(mlp("S, skip"))) == ["embedding"]
    assert list(hidden_groups(mlp("MLP"))) == ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear"]


def _chain():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Flatten(), nn.LayerNorm(18), nn.Linear(18, 5), nn.LayerNorm(5), nn.GELU()),
        nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4, affine=False), nn.Tanh(), nn.Dropout(0.5)),
        dense(4, 6, "hidden", "ntk", 1.0),
        nn.LayerNorm(6, elementwise_affine=False),
        nn.Linear(6, 3),
        nn.LayerNorm(3),
    ).double()


def test_a_sequential_is_permuted_as_by_permutation_matrices(twin):
    with torch.random.fork_rng():
        model = _chain()
        nn.init.normal_(model[6].weight)
        nn.init.normal_(model[6].bias)
        model(_images(20))
    model = model.eval()
    permutations = random_permutations(model, 1)
    assert {group: len(order) for group, order in permutations.items()} == {"2": 5, "5.0": 4, "6": 6}
    permuted = permute_hidden_units(model, permutations)
    torch.testing.assert_close(permuted(_images()), model(_images()), rtol=1e-12, atol=1e-12)

    def matrix(group):
        order = permutations[group].tolist()
        return torch.tensor([[float(column == source) for column in range(len(order))] for source in order]).double()

    p, q, r = matrix("2"), matrix("5.0"), matrix("6")
    old, expected = model.state_dict(), dict(model.state_dict())
    expected["2.weight"], expected["2.bias"] = p @ old["2.weight"], p @ old["2.bias"]
    expected["3.weight"], expected["3.bias"] = p @ old["3.weight"], p @ old["3.bias"]
    expected["5.0.weight"] = q @ old["5.0.weight"] @ p.T
    expected["5.1.running_mean"], expected["5.1.running_var"] = q @ old["5.1.running_mean"], q @ old["5.1.running_var"]
    expected["6.weight"], expected["6.bias"] = r @ old["6.weight"] @ q.T, r @ old["6.bias"]
    expected["8.weight"] = old["8.weight"] @ r.T
    for name, value in permuted.state_dict().items():
        twin("permute_hidden_units", value.double(), expected[name].double(), rtol=0)


def test_the_inverse_gives_back_every_bit_and_the_model_is_left():
    model = mlp("B, batch")
    model.head.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    permutations = random_permutations(model, 4)
    there = permute_hidden_units(model, permutations)
    back = permute_hidden_units(there, {group: order.argsort() for group, order in permutations.items()})
    for key, value in before.items():
        assert torch.equal(back.state_dict()[key], value) and torch.equal(model.state_dict()[key], value)
    assert [p.requires_grad for p in there.parameters()] == [p.requires_grad for p in model.parameters()]
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in there.parameters()} and not there.training


def test_two_orders_after_another_are_their_product():
    model = mlp("S")
    first, second = random_permutations(model, 1), random_permutations(model, 2)
    one_by_one = permute_hidden_units(permute_hidden_units(model, first), second)
    at_once = permute_hidden_units(model, {group: first[group][second[group]] for group in first})
    for key, value in at_once.state_dict().items():
        assert torch.equal(one_by_one.state_dict()[key], value)


class _Reversed(nn.Sequential):
    def forward(self, x):
        for layer in reversed(self):
            x = layer(x)
        return x


def _shared():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


def _used_twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def _statistics_used_twice():
    norm = nn.BatchNorm1d(4, affine=False)
    return nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm, nn.Linear(4, 2))


def _computed():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("model", "permutations", "message"),
    [
        (build("CNN-1/Wi-2", image_size=3, num_classes=2), {}, "model: the hidden units of CNN are not known"),
        (nn.Linear(2, 2), {}, "model: the hidden units of Linear are not known"),
        (_Reversed(nn.Linear(4, 2), nn.Linear(3, 4)), {}, "model: the hidden units of _Reversed are not known"),
        (nn.Sequential(nn.ReLU()), {}, "model: expected at least one dense layer"),
        (nn.Sequential(nn.Linear(2, 4), nn.Softmax(1), nn.Linear(4, 2)), {}, "model.1: Softmax may mix units"),
        (nn.Sequential(nn.Linear(2, 4), nn.PReLU(4), nn.Linear(4, 2)), {}, "model.1: PReLU may mix units or tell them"),
        (nn.Sequential(nn.Linear(2, 4), nn.LayerNorm((4, 4)), nn.Linear(4, 2)), {}, "model.1: LayerNorm may mix units"),
        (
            nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(3), nn.Linear(4, 2)),
            {},
            "model.1.weight: expected an index for each",
        ),
        (_shared(), {}, "model: 0.weight and 2.weight are one tensor"),
        (_used_twice(), {}, "model: 0.weight and 2.weight are one tensor"),
        (_statistics_used_twice(), {}, "model: 1.running_mean and 3.running_mean are one tensor"),
        (_computed(), {}, "model.0.weight: expected a parameter, found one that is computed"),
        (
            mlp("B"),
            {"stream": torch.arange(5)},
            "permutations = 'stream': unknown .*allowed: embedding, blocks.0.expand",
        ),
        (mlp("B"), {"embedding": torch.arange(4)}, r"permutations\['embedding'\]: expected 5 entries, found 4"),
        (mlp("B"), {"embedding": torch.zeros(5, dtype=torch.int64)}, "expected integers, each of 0 .. n - 1 once"),
        (mlp("B"), {"embedding": torch.arange(5.0)}, "expected integers, each of 0 .. n - 1 once"),
    ],
)
def test_what_cannot_be_is_refused(model, permutations, message):
    with pytest.raises(InputError, match=message):
        permute_hidden_units(model, permutations)


def test_a_net_of_one_matrix_has_no_hidden_units():
    assert hidden_groups(nn.Sequential(nn.Flatten(), nn.Linear(3, 2))) == {}


def test_all_orders_of_few_units_give_as_many_nets():
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    nets = [permute_hidden_units(model, {"0": torch.tensor(order)}) for order in itertools.permutations(range(3))]
    assert len({tuple(net[0].weight.flatten().tolist()) for net in nets}) == 6
