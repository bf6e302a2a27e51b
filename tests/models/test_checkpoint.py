"""Models saved and loaded: the same bits again, or a refusal that says what is wrong."""

import json
import os
from dataclasses import fields

import pytest
import torch
from torch import nn

from mlptheory.base import DamagedFileError, InputError
from mlptheory.base.files import sha256
from mlptheory.models import ModelConfig, build, load_model, save_model

MODELS = [
    ("B-2/Wi-8", {}),
    ("B-1/Wi-6/E-2", {"norm": "batch", "dropout": 0.5, "output_scale": 3.0, "skip": False, "activation": "relu"}),
    ("S-3/Wi-5", {"norm": "none", "parametrization": "ntk"}),
    ("S-2/Wi-8", {"variant": "authors", "parametrization": "mup", "base_width": 4}),
    ("MLP-2/Wi-8", {"activation": "tanh", "norm": "none"}),
    ("CNN-2/Wi-8", {"norm": "batch"}),
    ("Linear", {"norm": "none"}),
]


def small(name="B-2/Wi-8", **options):
    return build(name, image_size=(4, 3), channels=2, num_classes=3, seed=7, **options)


def moved_off_its_start(model):
    """Run a training step's forward pass, so that buffers too are away from their first values."""
    if model.config.norm == "batch" and not model.config.dropout:
        model.train()(torch.randn(9, 2, 4, 3, generator=torch.Generator().manual_seed(1)).to(model.head.weight.dtype))
    return model


def images(dtype=torch.float32):
    return torch.randn(5, 2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "saved", small())
    return tmp_path / "saved"


@pytest.mark.parametrize(("name", "options"), MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_loaded_model_is_the_saved_one(tmp_path, name, options, dtype):
    model = moved_off_its_start(small(name, **options).to(dtype))
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config
    assert (loaded.input_shape, loaded.num_classes) == ((2, 4, 3), 3)
    assert list(loaded.state_dict()) == list(model.state_dict())
    for key, value in model.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == value.dtype and torch.equal(found, value)
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(images(dtype)), model.eval()(images(dtype)))


def test_a_loaded_model_can_be_trained(saved):
    model = load_model(saved).train()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    before = model.head.weight.detach().clone()
    model(images()).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(before, model.head.weight)


def test_each_tensor_keeps_the_dtype_it_has(tmp_path):
    model = small().to(torch.bfloat16)
    for block in model.blocks:
        block.norm.double()
    save_model(tmp_path, model)
    dtypes = {name: tensor.dtype for name, tensor in load_model(tmp_path).state_dict().items()}
    assert dtypes == {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert set(dtypes.values()) == {torch.bfloat16, torch.float64}


def test_saving_and_loading_leave_model_and_generators_alone(tmp_path):
    model = small("B-1/Wi-6", dropout=0.5)
    model.train()
    model.head.weight.requires_grad_(False)
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.random.get_rng_state()
    save_model(tmp_path, model)
    load_model(tmp_path)
    assert torch.equal(random, torch.random.get_rng_state())
    assert model.training and not model.head.weight.requires_grad
    assert all(torch.equal(values[name], tensor) for name, tensor in model.state_dict().items())


def test_parameters_that_are_slices_are_saved_as_their_own(tmp_path):
    model = small()
    stack = torch.stack([model.head.weight.detach().T, 9 * model.head.weight.detach().T])
    model.head.weight = nn.Parameter(stack[1].T)
    assert not model.head.weight.is_contiguous()
    save_model(tmp_path, model)
    assert torch.equal(load_model(tmp_path).head.weight, stack[1].T)


def test_the_json_says_all_that_the_model_is(tmp_path):
    about = {"dataset": "digits", "normalization": {"mean": (0.3,), "std": [0.4]}, "recipe": ModelConfig(name="Linear")}
    save_model(tmp_path, small("S-2/Wi-8"), about=about)
    plain = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert plain["model"] == {
        "name": "S-2/Wi-8",
        "norm": "layer",
        "activation": "relu",
        "dropout": 0.0,
        "skip": False,
        "parametrization": "standard",
        "output_scale": 1.0,
        "base_width": 256,
        "variant": "paper",
    }
    assert set(plain["model"]) == {field.name for field in fields(ModelConfig)}
    assert (plain["format"], plain["version"]) == ("mlptheory model", 1)
    assert (plain["input_shape"], plain["num_classes"]) == ([2, 4, 3], 3)
    assert plain["about"]["normalization"] == {"mean": [0.3], "std": [0.4]}
    assert plain["about"]["recipe"]["name"] == "Linear"
    content = (tmp_path / "model.safetensors").read_bytes()
    assert plain["weights"] == {"size": len(content), "sha256": sha256(content)}


def test_the_files_are_the_same_each_time(tmp_path):
    for folder in ("first", "second"):
        save_model(tmp_path / folder, small(), about={"b": 1, "a": 2})
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "first")) == ["model.json", "model.safetensors"]


def test_a_later_save_takes_the_place_of_the_first(saved):
    save_model(saved, small("Linear"))
    assert load_model(saved).config.name == "Linear"


def test_a_save_cut_off_before_its_json_is_not_loaded(saved, monkeypatch):
    def cut_off(path, content):
        if path.name == "model.json":
            raise KeyboardInterrupt
        path.write_bytes(content)

    monkeypatch.setattr("mlptheory.models.checkpoint.write_atomically", cut_off)
    other = small()
    other.head.bias.data.fill_(3.0)
    with pytest.raises(KeyboardInterrupt):
        save_model(saved, other)
    with pytest.raises(
        DamagedFileError, match=r"model\.safetensors: SHA-256 \w{64}: expected \w{64}, as model\.json says"
    ):
        load_model(saved)


@pytest.mark.cuda
def test_weights_go_to_the_device_that_is_asked_for(tmp_path):
    save_model(tmp_path, small().cuda())
    loaded = load_model(tmp_path, device="cuda")
    assert all(tensor.is_cuda for tensor in loaded.state_dict().values())
    assert torch.equal(loaded.head.weight.cpu(), load_model(tmp_path).head.weight)


def test_a_device_that_is_not_there_is_refused(saved):
    assert load_model(saved, device=torch.device("cpu")).head.weight.device.type == "cpu"
    with pytest.raises(InputError, match="device = 'abacus': expected one that torch can use here"):
        load_model(saved, device="abacus")


# What cannot be saved


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


def test_what_was_not_built_by_name_is_refused(tmp_path):
    for model in (nn.Linear(2, 3), Wrapper(small())):
        with pytest.raises(InputError, match=rf"model: a {type(model).__name__}: expected a model built by mlptheory"):
            save_model(tmp_path / "new", model)
    assert not (tmp_path / "new").exists()


def test_a_model_whose_layers_were_exchanged_is_refused(tmp_path):
    model = small()
    model.head = nn.Linear(8, 11, bias=False)
    model.extra = nn.Linear(1, 2)
    with pytest.raises(InputError) as caught:
        save_model(tmp_path, model)
    assert str(caught.value) == (
        "model: not B-2/Wi-8 for images of (2, 4, 3) and 3 classes as it was built: missing head.bias (3,); "
        "unexpected extra.bias (2,); unexpected extra.weight (2, 1); head.weight has shape (11, 8), expected (3, 8)"
    )
    assert os.listdir(tmp_path) == []


def test_a_model_without_numbers_is_refused(tmp_path):
    with torch.device("meta"):
        model = small()
    with pytest.raises(InputError, match=r"model: embedding\.weight is on the meta device"):
        save_model(tmp_path, model)


@pytest.mark.parametrize("about", [{"mean": float("nan")}, {"mean": torch.zeros(2)}, {"made": {1, 2}}])
def test_what_is_not_plain_is_refused(tmp_path, about):
    with pytest.raises(InputError, match="about: expected plain data"):
        save_model(tmp_path, small(), about=about)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"folder = .*expected a folder that can be written"):
        save_model(tmp_path / "file", small())
