import numpy as np
import pytest

from mlptheory.base import DamagedFileError
from mlptheory.data import load
from mlptheory.data.stl10 import STL10_CLASSES, read_split

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
LABELS = [10, 1, 4]


def write(folder, split="train", labels=LABELS, names=STL10_CLASSES):
    folder.mkdir(exist_ok=True)
    # One value at a time, as the site describes the format: channel by channel, column by column.
    values = [
        IMAGES[image, channel, row, column]
        for image in range(len(IMAGES))
        for channel in range(3)
        for column in range(96)
        for row in range(96)
    ]
    (folder / f"{split}_X.bin").write_bytes(bytes(values))
    (folder / f"{split}_y.bin").write_bytes(bytes(labels))
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    return folder


def test_columns_come_first_in_the_file_and_rows_in_the_images(tmp_path):
    images, labels = read_split(write(tmp_path), "train", 3)
    assert np.array_equal(images, IMAGES) and images.dtype == np.uint8 and images.flags.c_contiguous
    assert labels.tolist() == [9, 0, 3] and labels.dtype == np.int64


@pytest.mark.parametrize("wrong", [0, 11, 255])
def test_labels_out_of_range(tmp_path, wrong):
    with pytest.raises(DamagedFileError, match=rf"train_y\.bin: expected labels from 1 to 10, found {wrong}"):
        read_split(write(tmp_path, labels=[1, wrong, 2]), "train", 3)


def test_other_sizes_and_missing_files(tmp_path):
    write(tmp_path)
    with pytest.raises(DamagedFileError, match=r"train_X\.bin: expected 55296 bytes, found 82944"):
        read_split(tmp_path, "train", 2)
    (tmp_path / "train_y.bin").write_bytes(b"\1\2")
    with pytest.raises(DamagedFileError, match=r"train_y\.bin: expected 3 bytes, found 2"):
        read_split(tmp_path, "train", 3)
    with pytest.raises(DamagedFileError, match=r"test_X\.bin: missing"):
        read_split(tmp_path, "test", 3)


def test_classes_in_another_order(tmp_path):
    with pytest.raises(DamagedFileError, match=r"class_names\.txt: expected airplane, bird"):
        read_split(write(tmp_path, names=sorted(STL10_CLASSES, reverse=True)), "train", 3)


def test_it_is_loaded_by_name(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    with (folder / "train_X.bin").open("wb") as file:
        file.truncate(5000 * 3 * 96 * 96)
    np.tile(np.arange(1, 11, dtype=np.uint8), 500).tofile(folder / "train_y.bin")
    dataset = load("stl10", "train", tmp_path)
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (5000, (3, 96, 96), 10)
    assert dataset.labels[:11].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    (folder / "test_X.bin").write_bytes(b"")
    with pytest.raises(DamagedFileError, match=rf"expected {8000 * 3 * 96 * 96} bytes, found 0"):
        load("stl10", "test", tmp_path)
