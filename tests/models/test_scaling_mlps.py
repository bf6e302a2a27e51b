"""Checkpoints in the authors' format, written here by networks of these tests' own."""

import collections
import io
import json
import os
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.models import BMLP, SMLP, build, export_scaling_mlps, load_scaling_mlps, save_model

ORDER = ("model", "architecture", "normalization", "crop_resolution", "dataset", "num_classes")


class Expand(nn.Module):
    def __init__(self, width, expansion):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, z):
        return self.block(z)


class TheirBMLP(nn.Module):
    """A B-MLP with the keys of the authors' checkpoints, by the paper's formula."""

    def __init__(self, depth, width, expansion, inputs, classes, norm=nn.LayerNorm):
        super().__init__()
        self.linear_in = nn.Linear(inputs, width)
        self.linear_out = nn.Linear(width, classes)
        self.blocks = nn.ModuleList([Expand(width, expansion) for _ in range(depth)])
        self.layernorms = nn.ModuleList([norm(width) for _ in range(depth)])

    def forward(self, images):
        z = self.linear_in(images.reshape(len(images), -1))
        for block, norm in zip(self.blocks, self.layernorms, strict=True):
            z = z + block(norm(z))
        return self.linear_out(z)


class TheirSMLP(nn.Module):
    """An S-MLP as the authors' code has it: LayerNorm, GELU, matrix; one matrix fewer than its depth."""

    def __init__(self, depth, width, inputs, classes):
        super().__init__()
        self.linear_in = nn.Linear(inputs, width)
        self.linear_out = nn.Linear(width, classes)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.layernorms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth - 1)])

    def forward(self, images):
        z = self.linear_in(images.reshape(len(images), -1))
        for layer, norm in zip(self.layers, self.layernorms, strict=True):
            z = layer(F.gelu(norm(z)))
        return self.linear_out(z)


def drawn(network, dtype=torch.float32, seed=0):
    """Return a network with every parameter, also of the normalizations, drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    network = network.to(dtype)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
        for parameter in network.parameters():
            parameter.sub_(0.4)
    return network.eval()


def their_config(architecture="B_2-Wi_8", crop_resolution=4, dataset="cifar10", num_classes=10, **others):
    given = {
        "model": "BottleneckMLP",
        "architecture": architecture,
        "normalization": "layer",
        "crop_resolution": crop_resolution,
        "dataset": dataset,
        "num_classes": num_classes,
    }
    return {**given, **others}


def write(folder, network, config=None, name="epoch_50_compute_0.25"):
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / name)
    if config is not None:
        with open(folder / "config.txt", "w") as file:
            json.dump(config, file, indent=2)
    return folder / name


def images(dtype=torch.float32, shape=(3, 4, 4)):
    return torch.randn(7, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


def small_network(**options):
    return drawn(TheirBMLP(**{"depth": 2, "width": 8, "expansion": 4, "inputs": 48, "classes": 10, **options}))


NETWORKS = [
    ("B_2-Wi_8", {}, {}),
    ("B_1-Wi_8-E_2", {"depth": 1, "expansion": 2}, {}),
    ("B_3-Wi_1-E_1", {"depth": 3, "width": 1, "expansion": 1, "classes": 1}, {"num_classes": 1}),
    ("B_2-Wi_8", {"norm": nn.BatchNorm1d}, {"normalization": "batch"}),
    ("B_2-Wi_8", {"inputs": 32}, {"num_channels": 2}),
]


@pytest.mark.parametrize(("architecture", "options", "others"), NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logits_are_those_of_the_authors_network(tmp_path, architecture, options, others, dtype, tolerance):
    theirs = small_network(**options).to(dtype)
    ours = load_scaling_mlps(write(tmp_path, theirs, their_config(architecture, **others)))
    assert isinstance(ours, BMLP) and not ours.training
    x = images(dtype, ours.input_shape)
    expected, found = theirs(x).detach(), ours(x).detach()
    assert found.dtype == dtype
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_logits_are_those_of_the_formula_in_numpy(tmp_path):
    theirs = small_network(depth=1, width=3).double()
    ours = load_scaling_mlps(write(tmp_path, theirs, their_config("B_1-Wi_3")))
    w = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    erf = np.vectorize(__import__("math").erf)
    for image in images(torch.float64).numpy():
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
def test_an_s_mlp_is_read_as_the_current_code_has_it(tmp_path, with_config):
    theirs = drawn(TheirSMLP(4, 8, 48, 10), torch.float64)
    config = their_config("S_4-Wi_8", model="MLP") if with_config else None
    with pytest.warns(UserWarning, match="an S-MLP, read as the authors' code now has it; files of its first release"):
        ours = load_scaling_mlps(write(tmp_path, theirs, config))
    assert isinstance(ours, SMLP)
    assert (ours.config.name, ours.config.variant, ours.config.activation) == ("S-4/Wi-8", "authors", "gelu")
    x = images(torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("architecture", "options", "others"), NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exported_again_it_is_the_same_file(tmp_path, architecture, options, others, dtype):
    config = their_config(architecture, **others)
    first = write(tmp_path / "first", small_network(**options).to(dtype), config)
    second = tmp_path / "second" / first.name
    export_scaling_mlps(second, load_scaling_mlps(first), dataset="cifar10")
    assert second.read_bytes() == first.read_bytes()
    assert (tmp_path / "second" / "config.txt").read_bytes() == (tmp_path / "first" / "config.txt").read_bytes()
    assert sorted(os.listdir(tmp_path / "second")) == ["config.txt", first.name]


def test_exported_again_keys_order_and_bits_are_the_same(tmp_path):
    first = write(tmp_path, small_network(), their_config())
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
    assert plain == their_config() and tuple(plain) == ORDER


def test_our_model_runs_in_their_network(tmp_path):
    model = build("B-3/Wi-8/E-2", image_size=4, num_classes=5, dropout=0.5, seed=3).double().eval()
    export_scaling_mlps(tmp_path / "epoch_1", model, dataset="stl10", crop_resolution=4)
    theirs = TheirBMLP(3, 8, 2, 48, 5).double()
    theirs.load_state_dict(torch.load(tmp_path / "epoch_1", weights_only=True), strict=True)
    torch.testing.assert_close(theirs(images(torch.float64)), model(images(torch.float64)), rtol=1e-12, atol=1e-12)
    config = json.loads((tmp_path / "config.txt").read_text())
    assert config == their_config("B_3-Wi_8-E_2", dataset="stl10", num_classes=5)


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


def test_tensors_that_share_memory_in_the_file_are_parted(tmp_path):
    state = small_network().state_dict()
    state["layernorms.1.weight"] = state["layernorms.0.weight"]
    torch.save(state, tmp_path / "tied")
    model = load_scaling_mlps(tmp_path / "tied", their_config())
    model.blocks[0].norm.weight.data.fill_(9.0)
    assert torch.equal(model.blocks[1].norm.weight, state["layernorms.1.weight"])
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_loading_leaves_the_generators_alone(tmp_path):
    path = write(tmp_path, small_network(), their_config())
    before = torch.random.get_rng_state()
    load_scaling_mlps(path)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.cuda
def test_weights_go_to_the_device_that_is_asked_for(tmp_path):
    path = write(tmp_path, small_network().cuda(), their_config())
    assert load_scaling_mlps(path, device="cuda").head.weight.is_cuda
    assert not load_scaling_mlps(path).head.weight.is_cuda


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="device = 'abacus': expected one that torch can use here"):
        load_scaling_mlps(write(tmp_path, small_network(), their_config()), device="abacus")


# Configs


def test_a_config_can_be_a_mapping_a_path_or_the_one_beside(tmp_path):
    theirs, other = small_network(), their_config(architecture="B_7-Wi_8")
    path = write(tmp_path, theirs, other, name="net_weights")
    with pytest.raises(InputError, match="not the weights of B-7/Wi-8"):
        load_scaling_mlps(path)
    assert load_scaling_mlps(path, their_config()).config.name == "B-2/Wi-8"
    (tmp_path / "mine.json").write_text(json.dumps(their_config()))
    assert load_scaling_mlps(path, tmp_path / "mine.json").config.name == "B-2/Wi-8"
    # The downloaded config is of this checkpoint, config.txt of all in the folder.
    (tmp_path / "net_config").write_text(json.dumps(their_config()))
    assert load_scaling_mlps(path).config.name == "B-2/Wi-8"
    assert load_scaling_mlps(str(path), str(tmp_path / "net_config")).config.name == "B-2/Wi-8"


def test_a_config_may_hold_what_training_wrote(tmp_path):
    path = write(tmp_path, small_network(), their_config(lr=5e-5, optimizer="lion", drop_rate=0.1, act="gelu"))
    assert load_scaling_mlps(path).config.dropout == 0


def test_an_activation_that_the_config_names_is_taken(tmp_path):
    model = load_scaling_mlps(write(tmp_path, small_network(), their_config(act="relu")))
    assert model.config.activation == "relu"


@pytest.mark.parametrize("architecture", ["B_2-Wi_8-E_4", "B_2-Wi_8-Ex_4"])
def test_the_third_part_is_the_expansion(tmp_path, architecture):
    assert load_scaling_mlps(write(tmp_path, small_network(), their_config(architecture))).config.name == "B-2/Wi-8"


@pytest.mark.parametrize(
    ("options", "name", "norm"),
    [
        ({}, "B-2/Wi-8", "layer"),
        ({"expansion": 2, "depth": 11}, "B-11/Wi-8/E-2", "layer"),
        ({"norm": nn.BatchNorm1d}, "B-2/Wi-8", "batch"),
    ],
)
def test_without_a_config_the_shapes_say_what_they_can(tmp_path, options, name, norm):
    theirs = small_network(**options)
    model = load_scaling_mlps(write(tmp_path, theirs))
    assert (model.config.name, model.config.norm) == (name, norm)
    assert (model.input_shape, model.num_classes) == ((3, 4, 4), 10)
    torch.testing.assert_close(model(images()), theirs(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("linear_in.weight"), "no matrix linear_in.weight"),
        (lambda state: state.update({"linear_out.weight": torch.zeros(8)}), "no matrix linear_out.weight"),
        (lambda state: state.update({"linear_in.weight": torch.zeros(0, 48)}), "no matrix linear_in.weight"),
        (lambda state: state.update({"linear_in.weight": torch.zeros(8, 47)}), "47 inputs are no square image in 3"),
        (lambda state: state.update({"linear_in.weight": torch.zeros(8, 64)}), "64 inputs are no square image in 3"),
        (lambda state: state.update({"layers.0.weight": torch.zeros(8, 8)}), "neither a B-MLP nor an S-MLP"),
        (lambda state: state.pop("layernorms.0.weight"), "no layernorms.0.weight"),
        (lambda state: state.pop("blocks.0.block.0.weight"), "no matrix blocks.0.block.0.weight"),
        (lambda state: state.update({"blocks.0.block.0.weight": torch.zeros(9, 8)}), "9 hidden units are no multiple"),
        (lambda state: state.clear(), "no matrix linear_in.weight"),
    ],
)
def test_without_a_config_what_cannot_be_told_is_refused(tmp_path, change, message):
    state = small_network().state_dict()
    change(state)
    torch.save(state, tmp_path / "net")
    with pytest.raises(InputError) as caught:
        load_scaling_mlps(tmp_path / "net")
    assert str(caught.value).startswith(f"{tmp_path / 'net'}: {message}")
    assert "there is no config beside it: expected the authors' config" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (lambda plain, name=name: plain.pop(name), f"no '{name}': expected the authors' config")
            for name in ORDER
            if name != "dataset"
        ),
        (lambda plain: plain.update(model="ResNet"), "model = 'ResNet': unknown (allowed: BottleneckMLP, MLP)"),
        (lambda plain: plain.update(normalization="group"), "normalization = 'group': unknown"),
        (lambda plain: plain.update(act="tanh"), "act = 'tanh': unknown"),
        (lambda plain: plain.update(num_classes="10"), "num_classes = '10': expected an integer of at least 1"),
        (lambda plain: plain.update(crop_resolution=0), "crop_resolution = 0: expected an integer of at least 1"),
        (lambda plain: plain.update(num_channels=None), "num_channels = None: expected an integer of at least 1"),
        (
            lambda plain: plain.update(architecture="B-2/Wi-8"),
            "architecture = 'B-2/Wi-8': expected a depth and a width",
        ),
        (lambda plain: plain.update(architecture=["B"]), "architecture = ['B']: expected a depth and a width"),
        (lambda plain: plain.update(architecture="B_2-Wi_8-E_4-x"), "architecture = 'B_2-Wi_8-E_4-x': expected"),
        (
            lambda plain: plain.update(architecture="B_0-Wi_8"),
            "architecture = 'B_0-Wi_8': expected numbers of at least 1",
        ),
        (
            lambda plain: plain.update(architecture="B_2-Wi_8-E_0"),
            "architecture = 'B_2-Wi_8-E_0': expected numbers of at",
        ),
    ],
)
def test_a_config_with_other_values_is_refused(tmp_path, change, message):
    plain = their_config()
    change(plain)
    path = write(tmp_path, small_network(), plain)
    for config, where in ((None, str(tmp_path / "config.txt")), (plain, "config")):
        with pytest.raises(InputError) as caught:
            load_scaling_mlps(path, config)
        assert str(caught.value).startswith(f"{where}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "<!doctype html><title>Google Drive</title>",
            r"an HTML page \(title 'Google Drive'\) \(.*\): expected the auth",
        ),
        ('{"model": "Bottle', r"broken \(.*\): expected the authors' config"),
        ("[]", "a list in JSON: expected the authors' config"),
    ],
)
def test_a_config_that_is_something_else_is_refused(tmp_path, content, message):
    path = write(tmp_path, small_network())
    (tmp_path / "config.txt").write_text(content)
    with pytest.raises(InputError, match=rf"config\.txt: {message}"):
        load_scaling_mlps(path)


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"none\.json: cannot be read \(No such file or directory\): expected the authors'"
    ):
        load_scaling_mlps(write(tmp_path, small_network()), tmp_path / "none.json")


# Weights that do not fit


def test_all_missing_and_unexpected_keys_and_other_shapes_are_named(tmp_path):
    state = small_network().state_dict()
    del state["layernorms.1.bias"], state["linear_out.weight"]
    state["blocks.2.block.0.weight"] = torch.zeros(32, 8)
    state["linear_in.bias"] = torch.zeros(9)
    state["layernorms.0.bias"] = torch.zeros(8, dtype=torch.uint8)
    torch.save(state, tmp_path / "net")
    with pytest.raises(InputError) as caught:
        load_scaling_mlps(tmp_path / "net", their_config())
    where, _, differences = str(caught.value).partition(" classes: ")
    assert where == f"{tmp_path / 'net'}: not the weights of B-2/Wi-8 for images of (3, 4, 4) and 10"
    assert differences.split("; ") == [
        "missing linear_out.weight (10, 8)",
        "missing layernorms.1.bias (8,)",
        "unexpected blocks.2.block.0.weight (32, 8)",
        "linear_in.bias has shape (9,), expected (8,)",
        "layernorms.0.bias (8,) has dtype torch.uint8, expected a floating-point one",
    ]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"num_classes": 11_230}, r"linear_out.weight has shape \(10, 8\), expected \(11230, 8\); linear_out.bias"),
        ({"crop_resolution": 64}, r"linear_in.weight has shape \(8, 48\), expected \(8, 12288\)"),
        ({"architecture": "B_2-Wi_8-E_2"}, r"blocks.0.block.0.weight has shape \(32, 8\), expected \(16, 8\)"),
        ({"normalization": "none"}, r"unexpected layernorms.0.weight \(8,\)"),
        ({"normalization": "batch"}, r"missing layernorms.0.running_mean \(8,\)"),
        ({"model": "MLP", "architecture": "S_2-Wi_8"}, r"missing layers.0.weight \(8, 8\)"),
        ({"architecture": "B_2-Wi_999999999"}, "cannot be built"),
    ],
)
def test_a_config_of_another_network_does_not_fit(tmp_path, others, message):
    with pytest.raises(InputError, match=message):
        load_scaling_mlps(write(tmp_path, small_network(), their_config(**others)))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_the_prefix_of_a_wrapper_is_taken_off(tmp_path, wrap):
    theirs = small_network()
    wrapped = wrap(theirs)
    assert not any(name.startswith("linear") for name in wrapped.state_dict())
    model = load_scaling_mlps(write(tmp_path, wrapped, their_config()))
    assert torch.equal(model.head.weight, theirs.linear_out.weight)


def test_prefixes_of_two_wrappers_are_taken_off(tmp_path):
    state = {f"module._orig_mod.{name}": tensor for name, tensor in small_network().state_dict().items()}
    torch.save(state, tmp_path / "net")
    assert load_scaling_mlps(tmp_path / "net").config.name == "B-2/Wi-8"


def test_a_prefix_before_some_keys_only_is_named(tmp_path):
    state = small_network().state_dict()
    state["module.linear_in.bias"] = state.pop("linear_in.bias")
    torch.save(state, tmp_path / "net")
    with pytest.raises(InputError, match=r"missing linear_in.bias \(8,\); unexpected module.linear_in.bias \(8,\)"):
        load_scaling_mlps(tmp_path / "net", their_config())


# Files that are no state dict


class CallsCode:
    """A pickle of this runs a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def saved_by_torch(content, zipped=True):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("hidden", [True, False])
def test_a_pickle_that_calls_code_is_refused_before_it_does(tmp_path, zipped, hidden):
    made = tmp_path / "made"
    state = small_network().state_dict()
    state["linear_in.weight"] = CallsCode(made)
    content = saved_by_torch(state if hidden else CallsCode(made), zipped)
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_scaling_mlps(tmp_path / "net", their_config())
    assert str(caught.value) == (
        f"{tmp_path / 'net'}: a pickle that calls posix.system, which was not run: "
        "expected a state dict that torch.save wrote, names to tensors"
    )
    assert not made.exists()
    # It does call code where it is let.
    torch.load(tmp_path / "net", weights_only=False)
    assert made.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused_before_it_calls_code(tmp_path, protocol):
    made = tmp_path / "made"
    (tmp_path / "net").write_bytes(pickle.dumps(CallsCode(made), protocol=protocol))
    with pytest.raises(InputError, match="expected a state dict that torch.save wrote"):
        load_scaling_mlps(tmp_path / "net", their_config())
    assert not made.exists()
    pickle.loads((tmp_path / "net").read_bytes())
    assert made.exists()


def test_a_whole_network_saved_as_a_pickle_is_refused(tmp_path):
    torch.save(small_network().linear_in, tmp_path / "net")
    with pytest.raises(InputError, match=r"a pickle that calls torch\.nn\.modules\.linear\.Linear, which was not run"):
        load_scaling_mlps(tmp_path / "net")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "an HTML page (title 'Google Drive - Quota"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer, not the file"),
        (b"", "an empty file"),
        (b"{}", "a text in JSON"),
        (b"\x93NUMPY\x01\x00", "of no kind that is known here"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content, kind):
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(InputError, match=rf"net: {re.escape(kind)}.*: expected a state dict that torch\.save wrote"):
        load_scaling_mlps(tmp_path / "net")


def test_a_model_of_ours_is_told_from_a_checkpoint_of_theirs(tmp_path):
    save_model(tmp_path, build("B-2/Wi-8", image_size=4, num_classes=10))
    with pytest.raises(InputError, match=r"a safetensors file: expected a state dict that torch\.save wrote"):
        load_scaling_mlps(tmp_path / "model.safetensors")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file or directory\): expected a state dict"):
        load_scaling_mlps(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\): expected a state dict"):
        load_scaling_mlps(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path, zipped, kept):
    content = saved_by_torch(small_network().state_dict(), zipped)
    (tmp_path / "net").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        InputError, match=r"net: (damaged \(|a broken pickle|a pickle).*: expected a state dict"
    ) as caught:
        load_scaling_mlps(tmp_path / "net", their_config())
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_archive_is_refused(tmp_path):
    content = bytearray(saved_by_torch(small_network().state_dict()))
    content[len(content) // 2] ^= 4
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(InputError, match=r"net: damaged \(BadZipFile: .*/data/\d+ does not match its checksum\)"):
        load_scaling_mlps(tmp_path / "net", their_config())


def test_a_state_dict_of_the_old_format_is_read(tmp_path):
    theirs = small_network()
    (tmp_path / "net").write_bytes(saved_by_torch(theirs.state_dict(), zipped=False))
    assert torch.equal(load_scaling_mlps(tmp_path / "net").head.weight, theirs.linear_out.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({"epoch": 3, "model": {}}, "'epoch' is a int"),
        ({"state_dict": collections.OrderedDict()}, "'state_dict' is a OrderedDict"),
        ({3: torch.zeros(2)}, "3 is a Tensor"),
    ],
)
def test_another_content_is_named(tmp_path, content, message):
    torch.save(content, tmp_path / "net")
    with pytest.raises(InputError, match=rf"net: {re.escape(message)}: expected a state dict that torch\.save wrote"):
        load_scaling_mlps(tmp_path / "net")


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


def test_what_was_not_built_by_name_or_is_no_longer_what_was_built_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model: a TheirBMLP: expected a model built by mlptheory"):
        export_scaling_mlps(tmp_path / "net", small_network(), dataset="cifar10")
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
    export_scaling_mlps(tmp_path / "epoch_3", other, tmp_path / "third.json", dataset="cifar10")
    assert load_scaling_mlps(tmp_path / "epoch_3", tmp_path / "third.json").config.name == "B-2/Wi-8"
    assert load_scaling_mlps(tmp_path / "epoch_1").config.name == "B-1/Wi-8"
