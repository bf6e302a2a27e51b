import dataclasses

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
