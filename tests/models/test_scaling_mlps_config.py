"""Which network a checkpoint of the authors is of: by its config, or by its shapes."""

import json

import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.models import load_scaling_mlps

ORDER = ("model", "architecture", "normalization", "crop_resolution", "dataset", "num_classes")


def test_a_config_can_be_a_mapping_a_path_or_the_one_beside(their, tmp_path):
    theirs, other = their.network(), their.config(architecture="B_7-Wi_8")
    path = their.write(tmp_path, theirs, other, name="net_weights")
    with pytest.raises(InputError, match="not the weights of B-7/Wi-8"):
        load_scaling_mlps(path)
    assert load_scaling_mlps(path, their.config()).config.name == "B-2/Wi-8"
    (tmp_path / "mine.json").write_text(json.dumps(their.config()))
    assert load_scaling_mlps(path, tmp_path / "mine.json").config.name == "B-2/Wi-8"
    # The downloaded config is of this checkpoint, config.txt of all in the folder.
    (tmp_path / "net_config").write_text(json.dumps(their.config()))
    assert load_scaling_mlps(path).config.name == "B-2/Wi-8"
    assert load_scaling_mlps(str(path), str(tmp_path / "net_config")).config.name == "B-2/Wi-8"


def test_a_config_may_hold_what_training_wrote(their, tmp_path):
    path = their.write(tmp_path, their.network(), their.config(lr=5e-5, optimizer="lion", drop_rate=0.1, act="gelu"))
    assert load_scaling_mlps(path).config.dropout == 0


def test_an_activation_that_the_config_names_is_taken(their, tmp_path):
    model = load_scaling_mlps(their.write(tmp_path, their.network(), their.config(act="relu")))
    assert model.config.activation == "relu"


@pytest.mark.parametrize("architecture", ["B_2-Wi_8-E_4", "B_2-Wi_8-Ex_4"])
def test_the_third_part_is_the_expansion(their, tmp_path, architecture):
    assert (
        load_scaling_mlps(their.write(tmp_path, their.network(), their.config(architecture))).config.name == "B-2/Wi-8"
    )


@pytest.mark.parametrize(
    ("options", "name", "norm"),
    [
        ({}, "B-2/Wi-8", "layer"),
        ({"expansion": 2, "depth": 11}, "B-11/Wi-8/E-2", "layer"),
        ({"norm": nn.BatchNorm1d}, "B-2/Wi-8", "batch"),
    ],
)
def test_without_a_config_the_shapes_say_what_they_can(their, tmp_path, options, name, norm):
    theirs = their.network(**options)
    model = load_scaling_mlps(their.write(tmp_path, theirs))
    assert (model.config.name, model.config.norm) == (name, norm)
    assert (model.input_shape, model.num_classes) == ((3, 4, 4), 10)
    torch.testing.assert_close(model(their.images()), theirs(their.images()), rtol=1e-5, atol=1e-5)


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
def test_without_a_config_what_cannot_be_told_is_refused(their, tmp_path, change, message):
    state = their.network().state_dict()
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
def test_a_config_with_other_values_is_refused(their, tmp_path, change, message):
    plain = their.config()
    change(plain)
    path = their.write(tmp_path, their.network(), plain)
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
def test_a_config_that_is_something_else_is_refused(their, tmp_path, content, message):
    path = their.write(tmp_path, their.network())
    (tmp_path / "config.txt").write_text(content)
    with pytest.raises(InputError, match=rf"config\.txt: {message}"):
        load_scaling_mlps(path)


def test_a_config_that_is_not_there_is_named(their, tmp_path):
    with pytest.raises(
        InputError, match=r"none\.json: cannot be read \(No such file or directory\): expected the authors'"
    ):
        load_scaling_mlps(their.write(tmp_path, their.network()), tmp_path / "none.json")


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
def test_a_config_of_another_network_does_not_fit(their, tmp_path, others, message):
    with pytest.raises(InputError, match=message):
        load_scaling_mlps(their.write(tmp_path, their.network(), their.config(**others)))


def test_a_config_of_another_type_is_refused(their, tmp_path):
    with pytest.raises(InputError, match="config = 12: expected a path or a table"):
        load_scaling_mlps(their.write(tmp_path, their.network()), 12)
