import pytest
import torch
from torch.nn.functional import interpolate

from mlptheory.base import InputError
from mlptheory.data import (
    apply_operator,
    center_crop_matrix,
    crop_matrix,
    crop_resize_matrix,
    flip_matrix,
    resize_matrix,
    shift_matrix,
)

# (size_in, start, length, size_out): whole, up, down, by odd factors, to and from one pixel, windows at each edge.
WINDOWS = [
    (8, 0, 8, 8),
    (8, 0, 8, 16),
    (8, 0, 8, 3),
    (32, 3, 17, 32),
    (32, 0, 29, 7),
    (32, 31, 1, 5),
    (9, 2, 7, 1),
    (1, 0, 1, 4),
    (64, 11, 53, 32),
    (5, 4, 1, 1),
]
F64 = torch.float64


def images(height, width, batch=2, channels=3):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=F64)


def resized_by_torch(image, size, antialias):
    # PyTorch 2.13's antialiased kernel is wrong for an output one pixel wide (its own transpose disagrees).
    if size[1] == 1:
        return _interpolate(image.mT.contiguous(), size[::-1], antialias).mT
    return _interpolate(image, size, antialias)


def _interpolate(image, size, antialias):
    return interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=antialias)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("rows", WINDOWS, ids=str)
@pytest.mark.parametrize("columns", WINDOWS[::3], ids=str)
def test_crop_and_resize_is_torchs_interpolate(rows, columns, antialias):
    image = images(rows[0], columns[0])
    matrices = [
        crop_resize_matrix(start, length, size_in, size_out, antialias, F64)
        for size_in, start, length, size_out in (rows, columns)
    ]
    crop = image[:, :, rows[1] : rows[1] + rows[2], columns[1] : columns[1] + columns[2]]
    expected = resized_by_torch(crop, (rows[3], columns[3]), antialias)
    torch.testing.assert_close(apply_operator(image, *matrices), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_rows_sum_to_one_and_stay_in_the_window(window):
    size_in, start, length, size_out = window
    matrix = crop_resize_matrix(start, length, size_in, size_out, dtype=F64)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(size_out, dtype=F64))
    outside = torch.ones(size_in, dtype=torch.bool)
    outside[start : start + length] = False
    assert not matrix[:, outside].any()
    assert bool((matrix >= 0).all())


def test_a_batch_of_windows_is_the_windows_one_by_one():
    starts, lengths = torch.tensor([0, 3, 7, 0]), torch.tensor([8, 5, 1, 1])
    batch = crop_resize_matrix(starts, lengths, 8, 6)
    for matrix, start, length in zip(batch, starts.tolist(), lengths.tolist(), strict=True):
        assert torch.equal(matrix, crop_resize_matrix(start, length, 8, 6))


def test_every_image_gets_its_own_operator():
    image = images(4, 6, batch=3)
    rows = crop_resize_matrix(torch.tensor([0, 1, 2]), torch.tensor([4, 3, 2]), 4, 5, dtype=F64)
    columns = crop_resize_matrix(torch.tensor([0, 2, 5]), torch.tensor([6, 3, 1]), 6, 2, dtype=F64)
    together = apply_operator(image, rows, columns)
    expected = torch.einsum("bhi,bcij,bwj->bchw", rows, image, columns)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-12)
    assert together.is_contiguous()


def test_flips_crops_and_shifts_are_indexing():
    image = images(6, 5)
    assert torch.equal(apply_operator(image, None, flip_matrix(5, F64)), image.flip(3))
    assert torch.equal(apply_operator(image, crop_matrix(2, 3, 6, F64), None), image[:, :, 2:5])
    assert torch.equal(apply_operator(image, center_crop_matrix(6, 3, F64), None), image[:, :, 1:4])
    for offset in (-7, -2, 0, 1, 4, 11):
        cyclic = apply_operator(image, shift_matrix(offset, 6, "cyclic", F64), None)
        assert torch.equal(cyclic, image.roll(offset, dims=2))
        padded = torch.nn.functional.pad(image, (0, 0, 12, 12))[:, :, 12 - offset : 18 - offset]
        assert torch.equal(apply_operator(image, shift_matrix(offset, 6, "zero", F64), None), padded)


def test_one_after_another_is_the_product():
    image = images(8, 8)
    first, second, third = resize_matrix(8, 5, dtype=F64), flip_matrix(5, F64), shift_matrix(2, 5, dtype=F64)
    step_by_step = image
    for matrix in (first, second, third):
        step_by_step = apply_operator(step_by_step, matrix, matrix)
    product = third @ second @ first
    torch.testing.assert_close(apply_operator(image, product, product), step_by_step, rtol=0, atol=1e-12)


def test_none_is_the_identity():
    image = images(3, 4)
    assert torch.equal(apply_operator(image, None, None), image)
    torch.testing.assert_close(apply_operator(image, resize_matrix(3, 3, dtype=F64), None), image)


@pytest.mark.parametrize(
    "call",
    [
        lambda: crop_resize_matrix(-1, 3, 8, 8),
        lambda: crop_resize_matrix(0, 0, 8, 8),
        lambda: crop_resize_matrix(torch.tensor([0, 6]), torch.tensor([3, 3]), 8, 8),
        lambda: crop_resize_matrix(0, 8, 8, 0),
        lambda: center_crop_matrix(4, 5),
        lambda: shift_matrix(1, 4, "wrap"),
        lambda: apply_operator(images(3, 3), flip_matrix(4), None),
        lambda: apply_operator(images(3, 3), None, flip_matrix(3).expand(5, 3, 3)),
    ],
)
def test_bad_input(call):
    with pytest.raises(InputError, match=r" = .*expected"):
        call()


def by_formula(starts, lengths, size_in, size_out, antialias):
    """The weights of all pixels, most of them 0."""
    starts, lengths = starts[:, None, None].double(), lengths[:, None, None].double()
    scale = lengths / size_out
    reach = scale.clamp(min=1) if antialias else 1
    pixels = torch.arange(size_in, dtype=F64) - starts
    distances = (pixels + 0.5 - scale * (torch.arange(size_out, dtype=F64)[:, None] + 0.5)).abs()
    weights = (1 - distances / reach).clamp(min=0) * ((pixels >= 0) & (pixels < lengths))
    return weights / weights.sum(dim=2, keepdim=True)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size_in", [*range(1, 13), 32, 64, 96])
def test_no_number_of_any_window_is_lost(size_in, antialias):
    starts, lengths = torch.tensor(
        [(start, length) for length in range(1, size_in + 1) for start in range(size_in - length + 1)]
    ).T
    some = slice(None, None, max(1, len(starts) // 200))
    for size_out in (*range(1, 13), 31, 64):
        arguments = starts[some], lengths[some], size_in, size_out, antialias
        found = crop_resize_matrix(*arguments, dtype=F64)
        torch.testing.assert_close(found, by_formula(*arguments), rtol=0, atol=1e-14)
