"""The joint batches of several runs are the runs' own, one after another."""

import dataclasses

import numpy as np
import pytest
import torch

from mlptheory.data import Augmentation, Dataset, JointLoader, Loader, Normalization

AUGMENTATIONS = {
    "none": Augmentation(),
    "crop, flip, shift": Augmentation(crop_scale=(0.3, 1.0), flip=True, shift=1),
    "MixUp per batch": Augmentation(mixup=0.5),
    "MixUp per example": Augmentation(mixup=0.5, mixup_per="example"),
    "everything": Augmentation(crop_scale=(0.3, 1.0), flip=True, shift=2, mixup=0.8),
    "noise": Augmentation(crop_scale=(0.3, 1.0), flip=True, shift=2, mixup=0.8, as_noise=True),
}


def _dataset(labels_seed):
    pixels = np.random.default_rng(1).integers(0, 256, (23, 2, 5, 4), dtype=np.uint8)
    labels = torch.from_numpy(np.random.default_rng(labels_seed).integers(0, 4, 23))
    return Dataset(images=torch.from_numpy(pixels), labels=labels, classes=tuple("abcd"), name="toy", split="train")


@pytest.mark.parametrize("options", [{}, {"image_size": 6}, {"pixel_permutation": 2}, {"drop_last": True}])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_joint_batches_are_the_members_own(dtype, augmentation, options):
    options = {
        "batch_size": 7,
        "augmentation": augmentation,
        "normalization": Normalization(mean=(0.5, 0.4), std=(0.2, 0.3)),
        "dtype": dtype,
        **options,
    }
    # In float32 images are moved one by one, by the same sums wherever they stand; noise is a product.
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if augmentation.as_noise else 0
    singles = [Loader(_dataset(seed), seed=seed, **options) for seed in (3, 5, 8)]
    joint = JointLoader([singles[0], *(singles[0].sibling(_dataset(seed), seed) for seed in (5, 8))])
    assert len(joint) == len(singles[0]) and joint.input_shape == singles[0].input_shape
    for epoch, start in ((0, 0), (2, 1)):
        own = [list(single.batches(epoch, start)) for single in singles]
        together = list(joint.batches(epoch, start))
        assert len(together) == len(own[0])
        for index, batch in enumerate(together):
            for name in batch._fields:
                parts = [getattr(batches[index], name) for batches in own]
                value = getattr(batch, name)
                if parts[0] is None:
                    assert value is None
                else:
                    torch.testing.assert_close(value, torch.cat(parts), rtol=0, atol=tolerance, msg=name)


def test_a_sibling_leaves_the_first_as_it_was():
    dataset = _dataset(0)
    loader = Loader(dataset, batch_size=7, seed=1, augmentation=AUGMENTATIONS["everything"])
    before = next(loader.batches(0))
    sibling = loader.sibling(dataclasses.replace(dataset, labels=dataset.labels.flip(0)), seed=2)
    assert not torch.equal(next(sibling.batches(0)).examples, before.examples)
    after = next(loader.batches(0))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert sibling._pixels is loader._pixels
