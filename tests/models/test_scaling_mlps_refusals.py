"""Files that are no checkpoint of the authors: refused, and named for what they are."""

import collections
import io
import pickle
import re

import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.models import build, load_scaling_mlps, save_model


def test_all_missing_and_unexpected_keys_and_other_shapes_are_named(their, tmp_path):
    state = their.network().state_dict()
    del state["layernorms.1.bias"], state["linear_out.weight"]
    state["blocks.2.block.0.weight"] = torch.zeros(32, 8)
    state["linear_in.bias"] = torch.zeros(9)
    state["layernorms.0.bias"] = torch.zeros(8, dtype=torch.uint8)
    torch.save(state, tmp_path / "net")
    with pytest.raises(InputError) as caught:
        load_scaling_mlps(tmp_path / "net", their.config())
    where, _, differences = str(caught.value).partition(" classes: ")
    assert where == f"{tmp_path / 'net'}: not the weights of B-2/Wi-8 for images of (3, 4, 4) and 10"
    assert differences.split("; ") == [
        "missing linear_out.weight (10, 8)",
        "missing layernorms.1.bias (8,)",
        "unexpected blocks.2.block.0.weight (32, 8)",
        "linear_in.bias has shape (9,), expected (8,)",
        "layernorms.0.bias (8,) has dtype torch.uint8, expected a floating-point one",
    ]


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_the_prefix_of_a_wrapper_is_taken_off(their, tmp_path, wrap):
    theirs = their.network()
    wrapped = wrap(theirs)
    assert not any(name.startswith("linear") for name in wrapped.state_dict())
    model = load_scaling_mlps(their.write(tmp_path, wrapped, their.config()))
    assert torch.equal(model.head.weight, theirs.linear_out.weight)


def test_prefixes_of_two_wrappers_are_taken_off(their, tmp_path):
    state = {f"module._orig_mod.{name}": tensor for name, tensor in their.network().state_dict().items()}
    torch.save(state, tmp_path / "net")
    assert load_scaling_mlps(tmp_path / "net").config.name == "B-2/Wi-8"


def test_a_prefix_before_some_keys_only_is_named(their, tmp_path):
    state = their.network().state_dict()
    state["module.linear_in.bias"] = state.pop("linear_in.bias")
    torch.save(state, tmp_path / "net")
    with pytest.raises(InputError, match=r"missing linear_in.bias \(8,\); unexpected module.linear_in.bias \(8,\)"):
        load_scaling_mlps(tmp_path / "net", their.config())


def saved_by_torch(content, zipped=True):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("hidden", [True, False])
def test_a_pickle_that_calls_code_is_refused_before_it_does(their, tmp_path, trap, zipped, hidden):
    state = their.network().state_dict()
    state["linear_in.weight"] = trap
    content = saved_by_torch(state if hidden else trap, zipped)
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_scaling_mlps(tmp_path / "net", their.config())
    assert str(caught.value) == (
        f"{tmp_path / 'net'}: a pickle that calls posix.system, which was not run: "
        "expected a state dict that torch.save wrote, names to tensors"
    )
    assert not trap.made.exists()
    # It does call code where it is let.
    torch.load(tmp_path / "net", weights_only=False)
    assert trap.made.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused_before_it_calls_code(their, tmp_path, trap, protocol):
    (tmp_path / "net").write_bytes(pickle.dumps(trap, protocol=protocol))
    with pytest.raises(InputError, match=r"expected a state dict that torch\.save wrote"):
        load_scaling_mlps(tmp_path / "net", their.config())
    assert not trap.made.exists()
    pickle.loads((tmp_path / "net").read_bytes())
    assert trap.made.exists()


def test_a_whole_network_saved_as_a_pickle_is_refused(their, tmp_path):
    torch.save(their.network().linear_in, tmp_path / "net")
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
def test_a_file_that_was_cut_off_is_refused(their, tmp_path, zipped, kept):
    content = saved_by_torch(their.network().state_dict(), zipped)
    (tmp_path / "net").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        InputError, match=r"net: (damaged \(|a broken pickle|a pickle).*: expected a state dict"
    ) as caught:
        load_scaling_mlps(tmp_path / "net", their.config())
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_archive_is_refused(their, tmp_path):
    content = bytearray(saved_by_torch(their.network().state_dict()))
    content[len(content) // 2] ^= 4
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(InputError, match=r"net: damaged \(BadZipFile: .*/data/\d+ does not match its checksum\)"):
        load_scaling_mlps(tmp_path / "net", their.config())


def test_a_state_dict_of_the_old_format_is_read(their, tmp_path):
    theirs = their.network()
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


def test_a_sparse_tensor_is_refused(their, tmp_path):
    state = their.network().state_dict()
    state["linear_in.weight"] = state["linear_in.weight"].to_sparse_coo()
    torch.save(state, tmp_path / "net")
    with pytest.raises(
        InputError, match=r"net: 'linear_in\.weight' has layout torch\.sparse_coo: expected dense tensors"
    ):
        load_scaling_mlps(tmp_path / "net", their.config())
