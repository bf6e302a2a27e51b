"""The rows of a logical batch that each of several processes makes are those of the whole batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Augmentation, BatchShard, Dataset, Loader, Normalization, shard
from mlptheory.data.sharding import share

AUGMENTATIONS = {
    "nothing": Augmentation(),
    "everything": Augmentation(crop_scale=(0.3, 1.0), flip=True, shift=1, mixup=0.8),
    "MixUp per example": Augmentation(flip=True, mixup=0.8, mixup_per="example"),
    "noise": Augmentation(crop_scale=(0.5, 1.0), flip=True, as_noise=True),
}


def _dataset(examples=23):
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.integers(0, 256, size=(examples, 2, 5, 4), dtype=np.uint8))
    labels = torch.from_numpy(draw.integers(0, 3, size=examples))
    return Dataset(images=images, labels=labels, classes=("a", "b", "c"), name="random", split="train")


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 6, 7, 50])
def test_every_row_has_one_process(size, world):
    parts = [shard(size, rank, world) for rank in range(world)]
    assert [row for part in parts for row in range(size)[part]] == list(range(size))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("world", [2, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shards_of_a_batch_are_its_rows(dtype, name, world):
    options = {
        "batch_size": 9,  # a last batch of 5, so that of 6 processes one has no row
        "seed": 4,
        "augmentation": AUGMENTATIONS[name],
        "normalization": Normalization(mean=(0.4, 0.6), std=(0.2, 0.3)),
        "dtype": dtype,
    }
    # In float32 images are moved one by one, by the same sums wherever they stand; noise is a product.
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if name == "noise" else 0
    loader = Loader(_dataset(), **options)
    shards = [loader.shard(rank, world) for rank in range(world)]
    for epoch, start in ((0, 0), (3, 1)):
        wholes = list(loader.batches(epoch, start))
        for whole, *parts in zip(wholes, *(each.batches(epoch, start) for each in shards), strict=True):
            assert {part.logical_size for part in parts} == {len(whole.targets)}
            lengths = [len(part.targets) for part in parts]
            assert [part.first for part in parts] == [0, *itertools.accumulate(lengths)][:-1]
            for field, value in whole._asdict().items():
                if value is None:
                    assert all(getattr(part, field) is None for part in parts)
                else:
                    joined = torch.cat([getattr(part, field) for part in parts])
                    torch.testing.assert_close(joined, value, rtol=0, atol=tolerance, msg=field)


def test_the_first_row_of_a_process_is_mixed_with_the_last_of_the_one_before():
    loader = Loader(_dataset(), batch_size=8, augmentation=Augmentation(mixup=1.0))
    first, second = (next(loader.shard(rank, 2).batches(0)) for rank in range(2))
    assert second.partners[0] == first.targets[-1]
    assert first.partners[0] == second.targets[-1]


def test_a_process_makes_its_rows_and_one_partner_only():
    assert share(10, 1, 2, mixed=True, whole=False).made.tolist() == [4, 5, 6, 7, 8, 9]
    assert share(10, 1, 2, mixed=False, whole=False).made.tolist() == [5, 6, 7, 8, 9]
    assert len(share(2, 0, 3, mixed=True, whole=False).made) == 1


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_images_that_are_read_are_cut_as_those_in_memory(resident, shuffle):
    options = {"batch_size": 9, "augmentation": AUGMENTATIONS["everything"], "shuffle": shuffle}
    expected = list(Loader(_dataset(), **options).shard(1, 3).batches(0))
    found = list(Loader(_dataset(), **options, resident=resident).shard(1, 3).batches(0))
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_world_of_one_has_whole_batches():
    loader = Loader(_dataset(), batch_size=9).shard(1, 2).shard(0, 1)
    batch = next(loader.batches(0))
    assert not isinstance(batch, BatchShard)
    assert (batch.first, batch.logical_size, len(batch.targets)) == (0, 9, 9)
    assert loader.rows(9) == slice(0, 9)


@pytest.mark.parametrize(
    ("rank", "world", "said"),
    [(0, 0, "world = 0: expected an integer of at least 1"), (2, 2, "rank = 2: expected an integer from 0 to 1")],
)
def test_a_process_that_is_none_is_refused(rank, world, said):
    with pytest.raises(InputError, match=said):
        Loader(_dataset(), batch_size=9).shard(rank, world)
