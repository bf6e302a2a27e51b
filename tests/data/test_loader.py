import dataclasses

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.base.random import torch_generator, uniform
from mlptheory.data import (
    Augmentation,
    Dataset,
    Loader,
    Normalization,
    apply_operator,
    crop_resize_matrix,
    draw_mixup,
    flip_matrix,
    pixel_permutation,
    random_resized_crop_boxes,
    resampling,
    shift_matrix,
    spatial,
)
from mlptheory.data import loader as loader_module

F64 = torch.float64
NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
FULL = Augmentation(crop_scale=(0.2, 1.0), flip=True, shift=2, mixup=0.8)
AUGMENTATIONS = {
    "none": None,
    "crop": Augmentation(crop_scale=(0.08, 1.0)),
    "flip": Augmentation(flip=True),
    "shift": Augmentation(shift=3),
    "cyclic": Augmentation(shift=1, shift_mode="cyclic", flip=True),
    "mixup": Augmentation(mixup=0.5),
    "mixup per example": Augmentation(mixup=0.5, mixup_per="example"),
    "full": FULL,
    "noise": Augmentation(crop_scale=(0.2, 1.0), flip=True, shift=2, as_noise=True),
    "noise of shifts, mixup": Augmentation(shift=1, shift_mode="cyclic", mixup=0.8, as_noise=True),
}


def dataset_of(size=23, shape=(3, 6, 8)):
    pixels = np.random.default_rng(1).integers(0, 256, (size, *shape), dtype=np.uint8)
    labels = torch.arange(size) % 4
    return Dataset(images=torch.from_numpy(pixels), labels=labels, classes=tuple("abcd"), name="toy", split="train")


def equal(first, second):
    return all(
        (one is None and other is None) or torch.equal(one, other) for one, other in zip(first, second, strict=True)
    )


def one_by_one(loader, batch, index, epoch, size):
    """What a batch must hold, one image at a time, from the public parts."""
    augmentation, seed = loader.augmentation, loader.seed
    inputs, plain, height, width = [], [], *loader.dataset.image_shape[1:]
    for example in batch.examples.numpy():
        image = loader.dataset.images[example].to(F64) / 255
        image = (image - torch.tensor(NORMALIZATION.mean, dtype=F64)[:, None, None]) / torch.tensor(
            NORMALIZATION.std, dtype=F64
        )[:, None, None]
        resizing = crop_resize_matrix(0, height, height, size[0], dtype=F64)
        plain.append(apply_operator(image[None], resizing, crop_resize_matrix(0, width, width, size[1], dtype=F64))[0])
        who = np.array([example])
        top, left, h, w = 0, 0, height, width
        if augmentation.crop_scale:
            boxes = random_resized_crop_boxes(
                seed, epoch, who, (height, width), augmentation.crop_scale, augmentation.crop_ratio
            )
            top, left, h, w = boxes[0].tolist()
        rows = crop_resize_matrix(top, h, height, size[0], dtype=F64)
        columns = crop_resize_matrix(left, w, width, size[1], dtype=F64)
        image = apply_operator(image[None], rows, columns)
        if augmentation.flip and uniform(seed, "flip", epoch, who, 1)[0, 0] < 0.5:
            image = apply_operator(image, None, flip_matrix(size[1], F64))
        if augmentation.shift:
            reach, mode = augmentation.shift, augmentation.shift_mode
            down, right = np.floor(uniform(seed, "shift", epoch, who, 2)[0] * (2 * reach + 1)).astype(int) - reach
            image = apply_operator(
                image, shift_matrix(int(down), size[0], mode, F64), shift_matrix(int(right), size[1], mode, F64)
            )
        inputs.append(image[0])
    if augmentation.as_noise:
        gauss = torch.randn(
            (1, len(plain), len(plain)), generator=torch_generator(seed, "augmentation noise", epoch, index), dtype=F64
        )[0].tolist()
        noisy = []
        for own, weights in zip(plain, gauss, strict=True):
            moves = [weight * (moved - x) for weight, moved, x in zip(weights, inputs, plain, strict=True)]
            noisy.append(own + sum(moves) / len(plain) ** 0.5)
        inputs = noisy
    inputs = torch.stack(inputs)
    if augmentation.mixup:
        weights = draw_mixup(
            seed,
            epoch,
            index,
            batch.examples.numpy(),
            len(loader.dataset),
            augmentation.mixup,
            augmentation.mixup_per,
        )
        weights = torch.from_numpy(weights)[:, None, None, None]
        inputs = weights * inputs + (1 - weights) * torch.stack([inputs[i - 1] for i in range(len(inputs))])
    return inputs


# What is compared in float32 differs by its rounding, of numbers up to 4.
WAYS = {"float64": (F64, 1e-12), "compiled": (torch.float32, 4e-6), "uncompiled": (torch.float32, 4e-6)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("image_size", [None, 5, 11])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_against_one_image_at_a_time(name, image_size, way, monkeypatch):
    if way == "uncompiled":
        monkeypatch.setattr(resampling, "_library", lambda: None)
    elif way == "compiled" and resampling._library() is None:
        pytest.skip("there is no compiler")
    dataset, (dtype, tolerance) = dataset_of(), WAYS[way]
    loader = Loader(
        dataset,
        batch_size=5,
        seed=3,
        augmentation=AUGMENTATIONS[name],
        normalization=NORMALIZATION,
        image_size=image_size,
        dtype=dtype,
    )
    assert loader._operators.sparse == (dtype == torch.float32 and "noise" not in name)
    size = (6, 8) if image_size is None else (image_size, image_size)
    for index, batch in enumerate(loader.batches(epoch=2)):
        assert batch.inputs.shape == (len(batch.targets), 3, *size)
        expected = one_by_one(loader, batch, index, 2, size)
        torch.testing.assert_close(batch.inputs.to(F64), expected, rtol=0, atol=tolerance)
        assert torch.equal(batch.targets, dataset.labels[batch.examples])
        if loader.augmentation.mixup:
            assert torch.equal(batch.partners, batch.targets.roll(1))
            assert batch.mix.shape == batch.targets.shape
        else:
            assert batch.partners is None and batch.mix is None


def test_numbers_taken_of_some_windows_at_a_time_are_the_same(monkeypatch):
    arguments = {"batch_size": 4, "augmentation": FULL, "image_size": 7}
    at_once = list(Loader(dataset_of(), **arguments).batches(0))
    monkeypatch.setattr(spatial, "_NUMBERS", 1)
    assert all(equal(*pair) for pair in zip(at_once, Loader(dataset_of(), **arguments).batches(0), strict=True))


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_matrices_built_or_looked_up_are_the_same(dtype, monkeypatch):
    arguments = {"batch_size": 4, "augmentation": FULL, "image_size": 7, "dtype": dtype}
    looked_up = list(Loader(dataset_of(), **arguments).batches(0))
    monkeypatch.setattr(spatial, "_BANK_BYTES", 0)
    built = list(Loader(dataset_of(), **arguments).batches(0))
    assert all(equal(one, other) for one, other in zip(looked_up, built, strict=True))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_starting_in_the_middle_gives_the_same_bits(name, drop_last):
    options = {"batch_size": 5, "augmentation": AUGMENTATIONS[name], "drop_last": drop_last, "pixel_permutation": 1}
    whole = list(Loader(dataset_of(), **options).batches(epoch=1))
    assert len(whole) == len(Loader(dataset_of(), **options)) == (4 if drop_last else 5)
    for start in range(len(whole) + 1):
        rest = list(Loader(dataset_of(), **options).batches(epoch=1, start=start))
        assert len(rest) == len(whole) - start
        assert all(equal(one, other) for one, other in zip(whole[start:], rest, strict=True))


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23])
def test_every_example_once_an_epoch(batch_size):
    loader = Loader(dataset_of(), batch_size=batch_size)
    epochs = [torch.cat([batch.examples for batch in loader.batches(epoch)]).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(23)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = Loader(dataset_of(), batch_size=batch_size, seed=1)
    assert torch.cat([batch.examples for batch in other.batches(0)]).tolist() != epochs[0]
    still = Loader(dataset_of(), batch_size=batch_size, shuffle=False)
    assert torch.cat([batch.examples for batch in still.batches(1)]).tolist() == list(range(23))


@pytest.mark.parametrize("name", ["crop", "flip", "shift", "cyclic", "mixup per example"])
def test_draws_of_an_example_do_not_depend_on_the_batch_size(name):
    def everything(batch_size):
        loader = Loader(dataset_of(), batch_size=batch_size, augmentation=AUGMENTATIONS[name], dtype=F64)
        batches = list(loader.batches(4))
        order = torch.cat([batch.examples for batch in batches]).argsort()
        if loader.augmentation.mixup:
            return torch.cat([batch.mix for batch in batches])[order]
        return torch.cat([batch.inputs for batch in batches])[order]

    assert torch.equal(everything(23), everything(7))


def test_a_flipped_half_and_the_range_of_shifts():
    dataset = dataset_of(size=400, shape=(1, 3, 9))
    pixels = dataset.images.clone()
    pixels[...] = 0
    pixels[:, 0, 1, 3] = 255
    dataset = dataclasses.replace(dataset, images=pixels)
    flipped = next(Loader(dataset, batch_size=400, augmentation=Augmentation(flip=True)).batches(0)).inputs
    places = flipped[:, 0, 1].argmax(dim=1)
    assert set(places.tolist()) == {3, 5}
    assert abs(int((places == 5).sum()) - 200) < 50
    shifted = next(Loader(dataset, batch_size=400, augmentation=Augmentation(shift=1)).batches(0)).inputs
    places = shifted.flatten(1).argmax(dim=1).bincount(minlength=27).reshape(3, 9)
    assert torch.equal(places.nonzero(), torch.cartesian_prod(torch.arange(3), torch.arange(2, 5)))
    assert int(places[places > 0].min()) > 20


def test_what_a_shift_brings_in_is_the_mean():
    loader = Loader(
        dataset_of(), batch_size=23, augmentation=Augmentation(shift=20), normalization=NORMALIZATION, dtype=F64
    )
    away = next(loader.batches(0)).inputs.flatten(1).abs().sum(dim=1) == 0
    assert bool(away.any())


def _displacements_and_noise(monkeypatch, draws):
    """Return A x - x of one batch, and the noise that many draws make of it."""
    dataset = dataset_of(size=9, shape=(1, 3, 4))
    options = {"batch_size": 9, "shuffle": False, "normalization": Normalization(mean=(0.5,), std=(0.3,)), "dtype": F64}
    moving = Augmentation(crop_scale=(0.3, 0.9), flip=True, shift=1)
    plain = next(Loader(dataset, **options).batches(0)).inputs.flatten(1)
    moved = next(Loader(dataset, augmentation=moving, **options).batches(0)).inputs.flatten(1)
    noise = []
    for draw in range(draws):
        monkeypatch.setattr(loader_module, "torch_generator", lambda *_, draw=draw: torch_generator(draw, "noise"))
        noisy = Loader(dataset, augmentation=dataclasses.replace(moving, as_noise=True), **options)
        noise.append(next(noisy.batches(0)).inputs.flatten(1) - plain)
    return moved - plain, torch.stack(noise)


def test_noise_has_the_second_moment_of_what_moves_the_images(monkeypatch):
    """Over draws, given the batch: mean 0, the pooled second moment for every image, and no two images together."""
    draws = 4000
    displacements, noise = _displacements_and_noise(monkeypatch, draws)
    target = displacements.T @ displacements / 9
    scale = target.diagonal().sqrt()
    error = 5 / draws**0.5
    assert ((noise.mean(dim=0) / scale).abs() < error).all()
    bound = error * (scale[:, None] * scale[None, :] + target.abs()) * 1.01
    for image in range(9):
        own = noise[:, image]
        assert ((own.T @ own / draws - target).abs() < bound).all()
        other = noise[:, (image + 1) % 9]
        assert ((own.T @ other / draws).abs() < error * scale[:, None] * scale[None, :]).all()
    total = (noise**2).sum(dim=2).mean()
    torch.testing.assert_close(total, target.trace(), rtol=0.02, atol=0)
    assert (noise.mean(dim=1) ** 2).sum(dim=1).mean() < target.trace() / 5


def test_noise_of_flips_has_on_average_the_second_moment_of_all_images_whatever_the_batch():
    """Half of the images are flipped: the second moment is half that of all flips, also where batches are small."""
    dataset = dataset_of(size=12, shape=(1, 2, 3))
    plain = next(Loader(dataset, batch_size=12, shuffle=False, dtype=F64).batches(0)).inputs.flatten(1)
    flips = torch.stack([image.view(2, 3).flip(1).flatten() - image for image in plain])
    target = 0.5 * flips.T @ flips / 12
    for batch_size in (2, 12):
        loader = Loader(
            dataset, batch_size=batch_size, augmentation=Augmentation(flip=True, as_noise=True), dtype=F64, seed=4
        )
        noise = torch.cat(
            [batch.inputs.flatten(1) - plain[batch.examples] for epoch in range(600) for batch in loader.batches(epoch)]
        )
        found = noise.T @ noise / len(noise)
        assert (found - target).norm() < 0.1 * target.norm()


def test_noise_differs_by_seed_epoch_and_batch():
    dataset, augmentation = dataset_of(), Augmentation(flip=True, as_noise=True)

    def weights(seed, epoch, batch):
        return Loader(dataset, batch_size=5, seed=seed, augmentation=augmentation)._noise_weights(epoch, batch, 5)

    found = [weights(*keys).flatten().tolist() for keys in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({tuple(each) for each in found}) == 4


@pytest.mark.parametrize("permute", ["after", "before"])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_permutation_before_or_after(name, permute):
    options = {"batch_size": 6, "augmentation": AUGMENTATIONS[name], "normalization": NORMALIZATION, "dtype": F64}
    permutation = pixel_permutation(9, (3, 6, 8))
    for plain, permuted in zip(
        Loader(dataset_of(), **options).batches(0),
        Loader(dataset_of(), pixel_permutation=9, permute=permute, **options).batches(0),
        strict=True,
    ):
        expected = plain.inputs.flatten(1)[:, permutation].reshape(plain.inputs.shape)
        moved = AUGMENTATIONS[name] is not None and AUGMENTATIONS[name].moves_pixels
        assert torch.equal(permuted.inputs, expected) == (permute == "after" or not moved)


def test_a_permutation_before_the_augmentation_is_of_the_normalized_image():
    dataset, augmentation = dataset_of(), Augmentation(flip=True)
    batch = next(
        Loader(
            dataset,
            batch_size=23,
            augmentation=augmentation,
            normalization=NORMALIZATION,
            pixel_permutation=9,
            permute="before",
            dtype=F64,
        ).batches(0)
    )
    plain = next(Loader(dataset, batch_size=23, normalization=NORMALIZATION, dtype=F64).batches(0)).inputs
    permuted = plain.flatten(1)[:, pixel_permutation(9, (3, 6, 8))].reshape(plain.shape)
    flips = uniform(0, "flip", 0, batch.examples.numpy(), 1)[:, 0] < 0.5
    expected = torch.where(torch.from_numpy(flips)[:, None, None, None], permuted.flip(3), permuted)
    assert torch.equal(batch.inputs, expected)


def test_a_permutation_after_resizing_is_of_the_networks_input():
    plain, permuted = (
        next(Loader(dataset_of(), batch_size=4, image_size=5, pixel_permutation=seed).batches(0)).inputs
        for seed in (None, 2)
    )
    assert torch.equal(permuted.flatten(1), plain.flatten(1)[:, pixel_permutation(2, (3, 5, 5))])


def test_the_dataset_is_left_as_it_was():
    dataset = dataset_of()
    before = dataset.images.clone(), dataset.labels.clone(), torch.get_rng_state()
    for shuffle in (True, False):
        for batch in Loader(dataset, batch_size=5, augmentation=FULL, pixel_permutation=0, shuffle=shuffle).batches(0):
            batch.inputs.zero_()
            assert batch.inputs.is_contiguous()
    assert torch.equal(dataset.images, before[0]) and torch.equal(dataset.labels, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_inputs_have_the_dtype_and_the_losses_weights_do_not_suffer(dtype):
    batch = next(Loader(dataset_of(), batch_size=5, augmentation=FULL, dtype=dtype).batches(0))
    exact = next(Loader(dataset_of(), batch_size=5, augmentation=FULL, dtype=F64).batches(0))
    assert (batch.inputs.dtype, batch.mix.dtype, exact.mix.dtype) == (dtype, torch.float32, F64)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(batch.inputs.to(F64), exact.inputs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0: expected an integer from 1 to 23"),
        ({"batch_size": -1}, "batch_size = -1: expected"),
        ({"batch_size": 2.0}, "batch_size = 2.0: expected"),
        ({"batch_size": True}, "batch_size = True: expected"),
        ({"batch_size": 24}, "batch_size = 24: larger than the training set of 23 examples"),
        ({"image_size": 0}, "image_size = 0: expected"),
        ({"permute": "befor"}, "permute = 'befor': unknown; did you mean 'before'"),
        ({"normalization": Normalization(mean=(0.0,), std=(1.0,))}, "each of 3 channels"),
        ({"dtype": torch.int64}, "dtype = torch.int64: expected a floating-point"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message) as error:
        Loader(dataset_of(), **({"batch_size": 4} | options))
    assert "\n" not in str(error.value)


def test_bad_epochs_and_starts():
    loader = Loader(dataset_of(), batch_size=10)
    for epoch, start in ((-1, 0), (0.5, 0), (0, -1), (0, 4)):
        with pytest.raises(InputError, match="epoch = |start = "):  # noqa: RUF043 (an alternative is meant)
            loader.batches(epoch, start)


@pytest.mark.cuda
def test_a_gpu_gives_the_same_batches():
    options = {"batch_size": 5, "augmentation": FULL, "image_size": 7, "pixel_permutation": 0}
    for here, there in zip(
        Loader(dataset_of(), **options).batches(0),
        Loader(dataset_of(), device="cuda", **options).batches(0),
        strict=True,
    ):
        assert torch.equal(here.examples, there.examples.cpu()) and torch.equal(here.targets, there.targets.cpu())
        torch.testing.assert_close(there.inputs.cpu(), here.inputs, rtol=0, atol=1e-3)
