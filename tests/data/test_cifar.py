import pickle

import numpy as np
import pytest
import torch

from mlptheory.base import DamagedFileError
from mlptheory.data import load
from mlptheory.data.cifar import read_binary, read_python

EXAMPLES = 4
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (EXAMPLES, 3072), dtype=np.uint8)
LABELS = [3, 0, 9, 9]


def binary(path, labels=LABELS, coarse=False):
    columns = [np.array(labels, dtype=np.uint8)[:, None], PIXELS]
    if coarse:
        columns.insert(0, np.full((EXAMPLES, 1), 200, dtype=np.uint8))
    np.concatenate(columns, axis=1).tofile(path)
    return path


def python(path, **changes):
    path.write_bytes(pickle.dumps({b"data": PIXELS, b"labels": LABELS} | changes, 2))
    return path


@pytest.mark.parametrize("coarse", [False, True])
def test_binary_and_python_form_agree(tmp_path, coarse):
    for images, labels in (
        read_binary(binary(tmp_path / "a.bin", coarse=coarse), EXAMPLES, 1 + coarse, 10),
        read_python(python(tmp_path / "a"), EXAMPLES, "labels", 10),
    ):
        assert np.array_equal(images, PIXELS) and images.dtype == np.uint8
        assert labels.tolist() == LABELS and labels.dtype == np.int64


@pytest.mark.parametrize("change", [-1, 1, -3073, 3073])
def test_binary_of_another_size(tmp_path, change):
    path = binary(tmp_path / "a.bin")
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    expected = f"a.bin: expected {EXAMPLES * 3073} bytes, found {EXAMPLES * 3073 + change}"
    with pytest.raises(DamagedFileError, match=expected):
        read_binary(path, EXAMPLES, 1, 10)


def test_labels_out_of_range(tmp_path):
    with pytest.raises(DamagedFileError, match=r"a\.bin: expected labels from 0 to 9, found 10"):
        read_binary(binary(tmp_path / "a.bin", labels=[3, 10, 9, 0]), EXAMPLES, 1, 10)
    for wrong in (-1, 10, 2**80):
        with pytest.raises(DamagedFileError, match=f"expected labels from 0 to 9, found {wrong}"):
            read_python(python(tmp_path / "a", **{"labels": [0, 1, wrong, 2]}), EXAMPLES, "labels", 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": PIXELS[:, :-1]}, r"expected 'data' of 12288 bytes, shape \(4, 3072\), found \(4, 3071\)"),
        ({"data": PIXELS.reshape(-1)}, r"found \(12288,\)"),
        ({"data": PIXELS.tobytes()}, "found bytes"),
        ({"data": PIXELS.astype(np.int16)}, "garbled .an array of dtype 'i2'"),
        ({"labels": LABELS[:-1]}, "expected 'labels' with 4 integers, found 3"),
        ({"labels": "0123"}, "expected 'labels' with 4 integers, found str"),
        ({"labels": [0, 1, 2, 3.0]}, "expected 'labels' with 4 integers"),
        ({"labels": [0, 1, 2, True]}, "expected 'labels' with 4 integers"),
    ],
)
def test_garbled_python_files(tmp_path, changes, message):
    path = tmp_path / "garbled"
    content = {"data": PIXELS, "labels": LABELS} | changes
    # Padded so that the content is what is wrong, and not the size.
    path.write_bytes(pickle.dumps(content | {"batch_label": "x" * 3000}, 2))
    with pytest.raises(DamagedFileError, match=message) as error:
        read_python(path, EXAMPLES, "labels", 10)
    assert "garbled" in str(error.value) and "\n" not in str(error.value)


def test_python_files_of_impossible_size(tmp_path):
    for size in (EXAMPLES * 3072 - 1, 3 * EXAMPLES * 3072):
        path = tmp_path / "a"
        path.write_bytes(bytes(size))
        with pytest.raises(DamagedFileError, match=f"expected 12288 to 34976 bytes, found {size}"):
            read_python(path, EXAMPLES, "labels", 10)


@pytest.mark.parametrize("at_root", [False, True])
def test_the_folder_is_found_and_its_files_are_named(tmp_path, monkeypatch, at_root):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    with pytest.raises(DamagedFileError, match=r"data_batch_1\.bin: missing"):
        load("cifar10", "train", folder if at_root else tmp_path)
    (folder / "data_batch_1.bin").write_bytes(b"short")
    with pytest.raises(DamagedFileError, match=r"data_batch_1\.bin: expected 30730000 bytes, found 5"):
        load("cifar10", "train", folder if at_root else tmp_path)
    monkeypatch.chdir(folder)
    with pytest.raises(DamagedFileError, match="found 5"):
        load("cifar10", "train", ".")
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path))
    with pytest.raises(DamagedFileError, match="found 5"):
        load("cifar10", "train", tmp_path / "elsewhere")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folders", "classes"),
    [
        ("cifar10", ("cifar-10-batches-bin", "cifar-10-batches-py"), 10),
        ("cifar100", ("cifar-100-binary", "cifar-100-python"), 100),
    ],
)
def test_the_real_files_agree_in_both_forms(cifar_root, name, folders, classes):
    for split, size in (("train", 50_000), ("test", 10_000)):
        ours, other = (load(name, split, cifar_root / folder) for folder in folders)
        assert ours.digest == other.digest
        assert ours.images.shape == (size, 3, 32, 32)
        assert torch.equal(ours.labels.bincount(), torch.full((classes,), size // classes))


@pytest.mark.data
def test_the_names_are_the_files_own(cifar_root):
    ten = (cifar_root / "cifar-10-batches-bin" / "batches.meta.txt").read_text().split()
    hundred = (cifar_root / "cifar-100-binary" / "fine_label_names.txt").read_text().split()
    assert list(load("cifar10", "test", cifar_root).classes) == ten
    assert list(load("cifar100", "test", cifar_root).classes) == hundred
