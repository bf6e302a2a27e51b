import dataclasses

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Dataset

GOOD = {
    "images": torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5),
    "labels": torch.tensor([1, 0]),
    "classes": ("cat", "dog"),
    "name": "mine",
    "split": "train",
}


def test_what_it_holds():
    dataset = Dataset(**GOOD)
    assert (len(dataset), dataset.num_classes, dataset.image_shape) == (2, 2, (3, 4, 5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": GOOD["images"].float()},
            r"images = float32 tensor .*expected a uint8 tensor of shape \(N, C, H, W\)",
        ),
        ({"images": GOOD["images"][0]}, r"images = uint8 tensor of shape \(3, 4, 5\)"),
        ({"images": GOOD["images"].numpy()}, "images = ndarray"),
        ({"images": GOOD["images"][:0], "labels": GOOD["labels"][:0]}, "at least one example"),
        ({"labels": torch.tensor([1, 0, 1])}, r"labels = int64 tensor of shape \(3,\): expected .* \(2,\)"),
        ({"labels": GOOD["labels"].to(torch.int32)}, "labels = int32"),
        ({"labels": torch.tensor([1, 2])}, "labels run from 1 to 2: expected 0 to 1 for 2 classes"),
        ({"labels": torch.tensor([-1, 0])}, "labels run from -1 to 0"),
    ],
)
def test_bad_contents_are_named(change, message):
    with pytest.raises(InputError, match=message) as error:
        Dataset(**(GOOD | change))
    assert "dataset 'mine', split 'train'" in str(error.value)
    assert "\n" not in str(error.value)


def test_digest_sees_every_part_of_the_data_and_nothing_else():
    digest = Dataset(**GOOD).digest
    assert Dataset(**(GOOD | {"name": "other", "split": "test"})).digest == digest
    assert Dataset(**(GOOD | {"images": GOOD["images"].clone(memory_format=torch.channels_last)})).digest == digest
    pixels = GOOD["images"].clone()
    pixels[1, 2, 3, 4] += 1
    changes = [
        {"images": pixels},
        {"images": GOOD["images"].reshape(2, 3, 5, 4)},
        {"labels": torch.tensor([0, 1])},
        {"classes": ("cat", "cow")},
    ]
    assert len({Dataset(**(GOOD | change)).digest for change in changes} | {digest}) == 5


def test_select_takes_the_examples_in_order():
    chosen = Dataset(**GOOD).select(torch.tensor([1, 1, 0]), split="part")
    assert chosen.labels.tolist() == [0, 0, 1]
    assert torch.equal(chosen.images, GOOD["images"][[1, 1, 0]])
    assert (chosen.split, chosen.name) == ("part", "mine")


def test_select_takes_the_sets_of_labels_along():
    sets = (frozenset({1}), frozenset())
    dataset = Dataset(**GOOD, label_sets=sets)
    assert dataset.select(torch.tensor([1, 1, 0])).label_sets == (sets[1], sets[1], sets[0])
    assert dataset.digest == Dataset(**GOOD).digest and Dataset(**GOOD).label_sets is None
    with pytest.raises(InputError, match="label_sets = 1 sets: expected 2 or None"):
        Dataset(**GOOD, label_sets=sets[:1])


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 7, 9), dtype=np.uint8)


@pytest.mark.parametrize(
    "images",
    [PIXELS, PIXELS.transpose(0, 2, 3, 1), torch.from_numpy(PIXELS), PIXELS[:, ::-1][:, ::-1]],
    ids=["channels first", "channels last", "tensor", "view"],
)
def test_arrays_of_either_layout(images):
    found = Dataset.from_arrays(images, np.array([2, 0, 0, 1, 0], dtype=np.int16), name="mine", split="test")
    assert torch.equal(found.images, torch.from_numpy(PIXELS)) and found.images.is_contiguous()
    assert found.labels.tolist() == [2, 0, 0, 1, 0] and found.labels.dtype == torch.int64
    assert (found.classes, found.name, found.split) == (("0", "1", "2"), "mine", "test")


def test_gray_arrays_and_arrays_that_may_not_be_written():
    gray = PIXELS[:, 0].copy()
    gray.flags.writeable = False
    found = Dataset.from_arrays(gray, [0] * 5, classes=("a", "b"))
    assert found.image_shape == (1, 7, 9) and np.array_equal(found.images.numpy()[:, 0], gray)
    assert found.classes == ("a", "b")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS / 255, [0] * 5, r"images = float64 array .*expected uint8, pixels from 0 to 255"),
        (PIXELS[0, 0], [0] * 5, r"images = uint8 array of shape \(7, 9\): expected \(N, C, H, W\)"),
        (PIXELS[..., :3], [0] * 5, "expected 1 or 3 channels, either before or behind the two sides"),
        (PIXELS[:, :2], [0] * 5, "expected 1 or 3 channels, either before or behind the two sides"),
        (PIXELS, [0.0] * 5, r"labels = float64 array of shape \(5,\): expected integers"),
        (PIXELS, [[0]] * 5, r"labels = int64 array of shape \(5, 1\): expected integers"),
        (PIXELS, [0] * 4, r"labels = .*expected an int64 tensor of shape \(5,\)"),
        (PIXELS, [-1] * 5, "labels run from -1 to -1"),
    ],
)
def test_other_arrays_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        Dataset.from_arrays(images, labels)
