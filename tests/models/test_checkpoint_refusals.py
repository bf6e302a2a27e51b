"""Folders that hold no model as it was saved: refused, and named for what is wrong."""

import json
import pickle
import re

import pytest
import safetensors.torch
import torch

from mlptheory.base import DamagedFileError, InputError
from mlptheory.base.files import sha256
from mlptheory.models import BMLP, build, load_model, save_model
from mlptheory.models.strict_loading import kind_of


def small(name="B-2/Wi-8", **options):
    return build(name, image_size=(4, 3), channels=2, num_classes=3, seed=7, **options)


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
def test_a_pickle_is_refused_unread(saved, trap, protocol):
    (saved / "model.safetensors").write_bytes(pickle.dumps(trap, protocol=protocol))
    with pytest.raises(
        DamagedFileError, match="a pickle: expected" if protocol > 1 else "of no kind that is known here"
    ):
        load_model(saved)
    assert not trap.made.exists()


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
