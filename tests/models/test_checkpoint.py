"""Models saved and loaded: the same bits again, or a refusal that says what is wrong."""

import json
import os
import pickle
import re
from dataclasses import fields

import pytest
import safetensors.torch
import torch
from torch import nn

from mlptheory.base import DamagedFileError, InputError
from mlptheory.base.files import sha256
from mlptheory.models import BMLP, ModelConfig, build, load_model, save_model
from mlptheory.models.strict_loading import kind_of

MODELS = [
    ("B-2/Wi-8", {}),
    ("B-1/Wi-6/E-2", {"norm": "batch", "dropout": 0.5, "output_scale": 3.0, "skip": False, "activation": "relu"}),
    ("S-3/Wi-5", {"norm": "none", "parametrization": "ntk"}),
    ("S-2/Wi-8", {"variant": "authors", "parametrization": "mup", "base_width": 4}),
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


def changed_json(folder, change):
    path = folder / "model.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")


def exchanged_weights(folder, tensors):
    """Put other tensors in the place of a model's, with a JSON that speaks of them."""
    content = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(content)
    changed_json(folder, lambda plain: plain.update(weights={"size": len(content), "sha256": sha256(content)}))


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
        "unexpected extra.weight (2, 1); unexpected extra.bias (2,); head.weight has shape (11, 8), expected (3, 8)"
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


# What cannot be loaded


def test_all_missing_and_unexpected_keys_and_other_shapes_are_named(saved):
    tensors = dict(small().state_dict())
    del tensors["head.weight"], tensors["blocks.1.norm.bias"]
    tensors["linear.weight"] = torch.zeros(2, 5)
    tensors["blocks.0.expand.weight"] = torch.zeros(8, 32)
    tensors["embedding.bias"] = torch.zeros(())
    tensors["blocks.0.norm.bias"] = torch.zeros(8, dtype=torch.int64)
    exchanged_weights(saved, tensors)
    with pytest.raises(InputError) as caught:
        load_model(saved)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        f"{saved / 'model.safetensors'}: not the weights of B-2/Wi-8 for images of (2, 4, 3) and 3 "
    )
    assert message.partition("(model.json): ")[2].split("; ") == [
        "missing blocks.1.norm.bias (8,)",
        "missing head.weight (3, 8)",
        "unexpected linear.weight (2, 5)",
        "embedding.bias has shape (), expected (8,)",
        "blocks.0.norm.bias (8,) has dtype torch.int64, expected a floating-point one",
        "blocks.0.expand.weight has shape (8, 32), expected (32, 8)",
    ]


def test_the_weights_of_another_model_are_named(saved):
    exchanged_weights(saved, dict(small("S-2/Wi-8").state_dict()))
    with pytest.raises(InputError) as caught:
        load_model(saved)
    assert "unexpected blocks.1.linear.weight (8, 8)" in str(caught.value)
    assert "missing blocks.1.expand.weight (32, 8)" in str(caught.value)


def test_weights_of_another_model_of_the_same_shapes_are_refused(saved, tmp_path):
    save_model(tmp_path / "other", build("B-2/Wi-8", image_size=(4, 3), channels=2, num_classes=3, seed=8))
    (saved / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(DamagedFileError, match=r"SHA-256 \w{64}: expected \w{64}, as model\.json says"):
        load_model(saved)


def test_a_flipped_bit_is_found(saved):
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedFileError, match="SHA-256"):
        load_model(saved)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_weights_that_were_cut_off_are_refused(saved, kept):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        DamagedFileError,
        match=rf"{int(kept * len(content))} bytes \(cut off\): expected a safetensors file of {len(content)}",
    ):
        load_model(saved)


class CallsCode:
    """A pickle of this runs a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def malicious(path, protocol=2):
    return pickle.dumps(CallsCode(path), protocol=protocol)


def test_the_malicious_pickle_of_these_tests_is_one(tmp_path):
    pickle.loads(malicious(tmp_path / "made"))
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html><head><title>Virus scan\nwarning</title>", "an HTML page (title 'Virus scan warning')"),
        (b"\xef\xbb\xbf\n  <HTML><body>503</body>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
        (b"", "an empty file"),
        (b"   \n", "an empty file"),
        (b'{"error": "no such file"}', "a text in JSON"),
        (b"PK\x03\x04 and so on", "a zip archive, as torch.save writes them"),
        (b"weights", "of no kind that is known here"),
        (b"\xff" * 8 + b"{", "of no kind that is known here"),
    ],
)
@pytest.mark.parametrize("known_to_the_json", [True, False])
def test_another_kind_of_file_is_named(saved, content, kind, known_to_the_json):
    (saved / "model.safetensors").write_bytes(content)
    if known_to_the_json:
        changed_json(saved, lambda plain: plain.update(weights={"size": len(content), "sha256": sha256(content)}))
    with pytest.raises(
        DamagedFileError, match=rf"model\.safetensors: {re.escape(kind)}.*: expected a safetensors file"
    ):
        load_model(saved)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_unread(saved, tmp_path, protocol):
    (saved / "model.safetensors").write_bytes(malicious(tmp_path / "made", protocol))
    with pytest.raises(
        DamagedFileError, match="a pickle: expected" if protocol > 1 else "of no kind that is known here"
    ):
        load_model(saved)
    assert not (tmp_path / "made").exists()


def test_a_safetensors_file_that_is_damaged_within_is_refused(saved):
    content = (30).to_bytes(8, "little") + b'{"a": {"dtype": "F32"' + b" " * 40
    (saved / "model.safetensors").write_bytes(content)
    changed_json(saved, lambda plain: plain.update(weights={"size": len(content), "sha256": sha256(content)}))
    assert kind_of(content) == "a safetensors file"
    with pytest.raises(DamagedFileError, match=r"model\.safetensors: broken \(.*\): expected a safetensors file"):
        load_model(saved)


def test_a_safetensors_file_is_known_whatever_the_length_of_its_header():
    for length in range(56, 1400, 8):
        content = safetensors.torch.save({"a": torch.zeros(1)}, metadata={"b": "c" * length})
        assert kind_of(content) == "a safetensors file", content[:8]


def test_missing_files_are_named(saved, tmp_path):
    with pytest.raises(InputError, match=r"folder = .*nowhere': is not there: expected a folder with model.json and"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"folder = .*model\.safetensors': is a file: expected a folder"):
        load_model(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"model\.safetensors: cannot be read \(No such file or directory\): expected a s"
    ):
        load_model(saved)
    (saved / "model.json").unlink()
    with pytest.raises(InputError, match=r"model\.json: cannot be read .*: expected what save_model wrote"):
        load_model(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": "mlptheory mo', r"broken \(.*\): expected what save_model wrote"),
        (b"<html>", r"an HTML page \(.*\): expected"),
        (b"\xff\xfe", r"of no kind that is known here \(.*\): expected"),
        (b"[" * 100_000, r"broken \(.*recursion.*\): expected"),
        (b"[1, 2]", "a list in JSON: expected"),
        (b"{}", "format = None: expected 'mlptheory model'"),
    ],
)
def test_a_json_that_is_something_else_is_refused(saved, content, message):
    (saved / "model.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"model\.json: {message}"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(version=2), "version = 2: expected 1; a newer mlptheory wrote this"),
        (lambda plain: plain.update(version="1"), "version = '1': expected 1"),
        (lambda plain: plain.update(version=True), "version = True: expected an integer"),
        (lambda plain: plain.pop("version"), "version = None: expected 1"),
        (lambda plain: plain.update(format="other"), "format = 'other': expected 'mlptheory model'"),
        (lambda plain: plain.pop("num_classes"), "num_classes: required, but absent"),
        (lambda plain: plain.update(colour=1), "(name) = 'colour': unknown"),
        (lambda plain: plain.update(num_classes=0), "num_classes = 0: expected an integer of at least 1"),
        (lambda plain: plain.update(input_shape=[4, 4]), "input_shape = [4, 4]: expected a list of 3 values"),
        (lambda plain: plain["model"].pop("norm"), "model.norm: required, but absent"),
        (lambda plain: plain["model"].update(norm="group"), "model.norm = 'group': unknown"),
        (lambda plain: plain["model"].update(droput=0.1), "model.(name) = 'droput': unknown; did you mean 'dropout'"),
        (lambda plain: plain["model"].update(name="Q-2/Wi-8"), "model = 'Q-2/Wi-8': unknown family 'Q'"),
        (lambda plain: plain["weights"].pop("sha256"), "weights.sha256: required, but absent"),
    ],
)
def test_a_json_with_other_values_is_refused(saved, change, message):
    changed_json(saved, change)
    with pytest.raises(InputError) as caught:
        load_model(saved)
    assert str(caught.value).startswith(f"{saved / 'model.json'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_json_of_another_model_does_not_fit_the_weights(saved):
    changed_json(saved, lambda plain: plain["model"].update(name="B-1/Wi-8"))
    with pytest.raises(InputError, match=r"not the weights of B-1/Wi-8 .*unexpected blocks\.1\.norm\.weight \(8,\)"):
        load_model(saved)


@pytest.mark.parametrize(
    ("width", "message"),
    [(999_999, r"head.weight has shape \(3, 8\), expected \(3, 999999\)"), (999_999_999, "cannot be built")],
)
def test_a_json_that_asks_for_more_memory_than_there_is_costs_nothing(saved, width, message):
    changed_json(saved, lambda plain: plain["model"].update(name=f"B-1/Wi-{width}"))
    with pytest.raises(InputError, match=message):
        load_model(saved)


def test_loaded_models_are_of_the_public_classes(saved):
    assert isinstance(load_model(saved), BMLP)
