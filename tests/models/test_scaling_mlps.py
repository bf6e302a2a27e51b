"""Checkpoints in the authors' format, read and written: the same function, the same file."""

import json
import os
import re

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.models import BMLP, SMLP, build, export_scaling_mlps, load_scaling_mlps

ORDER = ("model", "architecture", "normalization", "crop_resolution", "dataset", "num_classes")
NETWORKS = [
    ("B_2-Wi_8", {}, {}),
    ("B_1-Wi_8-E_2", {"depth": 1, "expansion": 2}, {}),
    ("B_3-Wi_1-E_1", {"depth": 3, "width": 1, "expansion": 1, "classes": 1}, {"num_classes": 1}),
    ("B_2-Wi_8", {"norm": nn.BatchNorm1d}, {"normalization": "batch"}),
    ("B_2-Wi_8", {"inputs": 32}, {"num_channels": 2}),
]


@pytest.mark.parametrize(("architecture", "options", "others"), NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logits_are_those_of_the_authors_network(their, tmp_path, architecture, options, others, dtype, tolerance):
    theirs = their.network(**options).to(dtype)
    ours = load_scaling_mlps(their.write(tmp_path, theirs, their.config(architecture, **others)))
    assert isinstance(ours, BMLP) and not ours.training
    x = their.images(dtype, ours.input_shape)
    expected, found = theirs(x).detach(), ours(x).detach()
    assert found.dtype == dtype
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_logits_are_those_of_the_formula_in_numpy(their, tmp_path):
    theirs = their.network(depth=1, width=3).double()
    ours = load_scaling_mlps(their.write(tmp_path, theirs, their.config("B_1-Wi_3")))
    w = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    erf = np.vectorize(__import__("math").erf)
    for image in their.images(torch.float64).numpy():
        # Channel by channel, then row by row.
        pixels = [image[c, row, column] for c in range(3) for row in range(4) for column in range(4)]
        z = w["linear_in.weight"] @ pixels + w["linear_in.bias"]
        n = (z - z.mean()) / np.sqrt(((z - z.mean()) ** 2).mean() + 1e-5)
        a = w["blocks.0.block.0.weight"] @ (n * w["layernorms.0.weight"] + w["layernorms.0.bias"])
        a = a + w["blocks.0.block.0.bias"]
        z = z + w["blocks.0.block.2.weight"] @ (a * (1 + erf(a / np.sqrt(2))) / 2) + w["blocks.0.block.2.bias"]
        expected = w["linear_out.weight"] @ z + w["linear_out.bias"]
        found = ours(torch.from_numpy(image)[None])[0].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("with_config", [True, False])
def test_an_s_mlp_is_read_as_the_current_code_has_it(their, tmp_path, with_config):
    theirs = their.drawn(their.SMLP(4, 8, 48, 10), torch.float64)
    config = their.config("S_4-Wi_8", model="MLP") if with_config else None
    with pytest.warns(UserWarning, match="an S-MLP, read as the authors' code now has it; files of its first release"):
        ours = load_scaling_mlps(their.write(tmp_path, theirs, config))
    assert isinstance(ours, SMLP)
    assert (ours.config.name, ours.config.variant, ours.config.activation) == ("S-4/Wi-8", "authors", "gelu")
    x = their.images(torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("architecture", "options", "others"), NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exported_again_it_is_the_same_file(their, tmp_path, architecture, options, others, dtype):
    config = their.config(architecture, **others)
    first = their.write(tmp_path / "first", their.network(**options).to(dtype), config)
    second = tmp_path / "second" / first.name
    export_scaling_mlps(second, load_scaling_mlps(first), dataset="cifar10")
    assert second.read_bytes() == first.read_bytes()
    assert (tmp_path / "second" / "config.txt").read_bytes() == (tmp_path / "first" / "config.txt").read_bytes()
    assert sorted(os.listdir(tmp_path / "second")) == ["config.txt", first.name]


def test_exported_again_keys_order_and_bits_are_the_same(their, tmp_path):
    first = their.write(tmp_path, their.network(), their.config())
    export_scaling_mlps(tmp_path / "other_weights", load_scaling_mlps(first), dataset="cifar10")
    before, after = (torch.load(path, weights_only=True) for path in (first, tmp_path / "other_weights"))
    assert list(after) == list(before)
    assert list(before)[:6] == [
        "linear_in.weight",
        "linear_in.bias",
        "linear_out.weight",
        "linear_out.bias",
        "blocks.0.block.0.weight",
        "blocks.0.block.0.bias",
    ]
    for name, tensor in before.items():
        assert torch.equal(after[name].view(torch.int32), tensor.view(torch.int32))
    plain = json.loads((tmp_path / "other_config").read_text())
    assert plain == their.config() and tuple(plain) == ORDER


def test_our_model_runs_in_their_network(their, tmp_path):
    model = build("B-3/Wi-8/E-2", image_size=4, num_classes=5, dropout=0.5, seed=3).double().eval()
    export_scaling_mlps(tmp_path / "epoch_1", model, dataset="stl10", crop_resolution=4)
    theirs = their.BMLP(3, 8, 2, 48, 5).double()
    theirs.load_state_dict(torch.load(tmp_path / "epoch_1", weights_only=True), strict=True)
    torch.testing.assert_close(
        theirs(their.images(torch.float64)), model(their.images(torch.float64)), rtol=1e-12, atol=1e-12
    )
    config = json.loads((tmp_path / "config.txt").read_text())
    assert config == their.config("B_3-Wi_8-E_2", dataset="stl10", num_classes=5)


def test_an_export_leaves_the_model_alone(tmp_path):
    model = build("B-2/Wi-8", image_size=4, num_classes=5).train()
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    export_scaling_mlps(tmp_path / "epoch_1", model, dataset="cifar10")
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == before[name][0] and torch.equal(tensor, before[name][1])


def test_a_slice_is_written_without_what_it_was_cut_from(tmp_path):
    model = build("B-1/Wi-8", image_size=4, num_classes=5)
    model.head.weight = nn.Parameter(torch.randn(1000, 5, 8)[7])
    export_scaling_mlps(tmp_path / "a" / "epoch_1", model, dataset="cifar10")
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    export_scaling_mlps(tmp_path / "b" / "epoch_1", model, dataset="cifar10")
    assert (tmp_path / "a" / "epoch_1").read_bytes() == (tmp_path / "b" / "epoch_1").read_bytes()


def test_tensors_that_share_memory_in_the_file_are_parted(their, tmp_path):
    state = their.network().state_dict()
    state["layernorms.1.weight"] = state["layernorms.0.weight"]
    torch.save(state, tmp_path / "tied")
    model = load_scaling_mlps(tmp_path / "tied", their.config())
    model.blocks[0].norm.weight.data.fill_(9.0)
    assert torch.equal(model.blocks[1].norm.weight, state["layernorms.1.weight"])
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_loading_leaves_the_generators_alone(their, tmp_path):
    path = their.write(tmp_path, their.network(), their.config())
    before = torch.random.get_rng_state()
    load_scaling_mlps(path)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.cuda
def test_weights_go_to_the_device_that_is_asked_for(their, tmp_path):
    path = their.write(tmp_path, their.network().cuda(), their.config())
    assert load_scaling_mlps(path, device="cuda").head.weight.is_cuda
    assert not load_scaling_mlps(path).head.weight.is_cuda


def test_a_device_that_is_not_there_is_refused(their, tmp_path):
    with pytest.raises(InputError, match="device = 'abacus': expected one that torch can use here"):
        load_scaling_mlps(their.write(tmp_path, their.network(), their.config()), device="abacus")


# What their format cannot hold


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"parametrization": "ntk"}, ["parametrization = 'ntk'"]),
        ({"parametrization": "mup", "base_width": 8}, ["parametrization = 'mup'"]),
        ({"output_scale": 2.0}, ["output_scale = 2.0"]),
        ({"activation": "relu"}, ["activation = 'relu'"]),
        ({"skip": False}, ["skip = False"]),
        ({"image_size": (4, 5)}, ["images of 4 x 5"]),
        (
            {"skip": False, "activation": "relu", "output_scale": 0.5},
            ["output_scale = 0.5", "activation = 'relu'", "skip"],
        ),
    ],
)
def test_every_option_without_a_place_is_named(tmp_path, options, named):
    model = build("B-2/Wi-8", **{"image_size": 4, "num_classes": 3, **options})
    with pytest.raises(InputError) as caught:
        export_scaling_mlps(tmp_path / "net", model, dataset="cifar10")
    assert str(caught.value).startswith("model = 'B-2/Wi-8': the authors' format has no place for ")
    assert all(option in str(caught.value) for option in named)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["S-2/Wi-8", "CNN-2/Wi-8", "Linear"])
def test_other_families_are_refused(tmp_path, name):
    model = build(name, image_size=4, num_classes=3)
    with pytest.raises(InputError, match=f"model = '{name}': expected a B-MLP"):
        export_scaling_mlps(tmp_path / "net", model, dataset="cifar10")


def test_what_was_not_built_by_name_or_is_no_longer_what_was_built_is_refused(their, tmp_path):
    with pytest.raises(InputError, match=r"model: a TheirBMLP: expected a model built by mlptheory"):
        export_scaling_mlps(tmp_path / "net", their.network(), dataset="cifar10")
    model = build("B-2/Wi-8", image_size=4, num_classes=3)
    model.head = nn.Linear(8, 7)
    with pytest.raises(InputError, match=r"head.weight has shape \(7, 8\), expected \(3, 8\)"):
        export_scaling_mlps(tmp_path / "net", model, dataset="cifar10")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": ""}, "dataset = '': expected a name"),
        ({"dataset": None}, "dataset = None: expected a name"),
        (
            {"dataset": "cifar10", "crop_resolution": 64},
            "crop_resolution = 64: expected 4, the size of the model's images",
        ),
    ],
)
def test_other_values_are_refused(tmp_path, arguments, message):
    model = build("B-2/Wi-8", image_size=4, num_classes=3)
    with pytest.raises(InputError, match=re.escape(message)):
        export_scaling_mlps(tmp_path / "net", model, **arguments)


def test_the_config_of_something_else_is_not_overwritten(tmp_path):
    first, other = (build(f"B-{depth}/Wi-8", image_size=4, num_classes=3) for depth in (1, 2))
    export_scaling_mlps(tmp_path / "epoch_1", first, dataset="cifar10")
    export_scaling_mlps(tmp_path / "epoch_2", first, dataset="cifar10")
    with pytest.raises(InputError, match=r"config\.txt: is of something else already; name another file for this"):
        export_scaling_mlps(tmp_path / "epoch_3", other, dataset="cifar10")
    assert sorted(os.listdir(tmp_path)) == ["config.txt", "epoch_1", "epoch_2"]
    export_scaling_mlps(tmp_path / "epoch_3", other, tmp_path / "configs" / "third.json", dataset="cifar10")
    assert load_scaling_mlps(tmp_path / "epoch_3", tmp_path / "configs" / "third.json").config.name == "B-2/Wi-8"
    assert load_scaling_mlps(tmp_path / "epoch_1").config.name == "B-1/Wi-8"
