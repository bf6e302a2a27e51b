"""Images moved by a few numbers in a row against the dense matrices in float64, and with compiled code without it."""

import pytest
import torch

from mlptheory.data import apply_operator, crop_resize_matrix, resampling, shift_matrix
from mlptheory.data.mixup import mixed
from mlptheory.data.resampling import Taps, resampled

F64 = torch.float64
# Pixels before and after, of one axis: the smallest, both directions, and where a row is longer than a vector.
SIZES = [(1, 1), (1, 5), (2, 1), (7, 7), (8, 3), (5, 64), (40, 33), (33, 40)]


def windows_of(size):
    pairs = [(start, length) for length in range(1, size + 1) for start in range(size - length + 1)]
    return torch.tensor(pairs[:: max(1, len(pairs) // 60)]).T


def written_out(taps, size_in):
    starts, weights = taps
    found = torch.zeros(*starts.shape, size_in, dtype=F64)
    columns = starts[:, :, None] + torch.arange(weights.shape[1])
    return found.scatter_add_(2, columns.long(), weights.mT.to(F64))


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_taps_are_the_matrices(size_in, size_out):
    matrices = crop_resize_matrix(*windows_of(size_in), size_in, size_out)
    taps = Taps.of_windows(*windows_of(size_in), size_in, size_out)
    assert torch.equal(written_out(taps, size_in), matrices.to(F64))
    assert torch.equal(written_out(taps.flipped(), size_in), matrices.flip(1).to(F64))
    chosen = torch.tensor([0, 0, len(matrices) - 1])
    assert torch.equal(written_out(taps.select(chosen), size_in), matrices[chosen].to(F64))


@pytest.mark.parametrize("mode", ["zero", "cyclic"])
@pytest.mark.parametrize("batch", [1, 9])
def test_shifted_taps_are_the_products(mode, batch):
    offsets = torch.arange(-4, 5)
    starts, lengths = torch.arange(batch) % 3, torch.full((batch,), 4)
    found = Taps.of_windows(starts, lengths, 7, 5).shifted(offsets, cyclic=mode == "cyclic")
    matrices = crop_resize_matrix(starts, lengths, 7, 5)
    shifts = torch.stack([shift_matrix(int(offset), 5, mode) for offset in offsets])
    assert torch.equal(written_out(found, 7), (shifts @ matrices).to(F64))


def images_of(n, shape):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def drawn(n, size_in, size_out, seed):
    """Random windows as matrices in float64 and as taps."""
    windows = windows_of(size_in)
    chosen = torch.randint(0, windows.shape[1], (n,), generator=torch.Generator().manual_seed(seed))
    matrices = crop_resize_matrix(*windows[:, chosen], size_in, size_out, dtype=F64)
    return matrices, Taps.of_windows(*windows[:, chosen], size_in, size_out)


@pytest.fixture(params=["compiled", "by torch"])
def way(request, monkeypatch):
    if request.param == "by torch":
        monkeypatch.setattr(resampling, "_library", lambda: None)
    elif resampling._library() is None:
        pytest.skip("there is no compiler")
    return request.param


@pytest.mark.parametrize("moved", ["both", "rows", "columns", "neither", "all alike"])
@pytest.mark.parametrize("members", [None, 1, 2])
@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_images_are_those_of_the_dense_matrices(size_in, size_out, members, moved, threads, way):
    n, channels = 6, 3
    rows_move, columns_move = moved in ("both", "rows", "all alike"), moved in ("both", "columns", "all alike")
    rows, row_taps = drawn(1 if moved == "all alike" else n, size_in, size_out, 1) if rows_move else (None, None)
    columns, column_taps = drawn(n, 9, 4, 2) if columns_move else (None, None)
    images = images_of(n, (channels, size_in, 9))
    scale, offset = torch.tensor([[0.02], [0.01], [0.03]]), torch.tensor([[-2.0], [0.0], [0.7]])
    weights = None if members is None else torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0, 0.49])
    expected = images.to(F64) * scale.to(F64)[:, :, None] + offset.to(F64)[:, :, None]
    expected = apply_operator(expected, rows, columns)
    if members is not None:
        expected = mixed(expected, weights.to(F64), members)
    found = resampled(
        images.flatten(1),
        row_taps,
        column_taps,
        shape_in=(channels, size_in, 9),
        shape_out=(channels, size_out if rows_move else size_in, 4 if columns_move else 9),
        scale=scale,
        offset=offset,
        weights=weights,
        members=members or 1,
    )
    assert found.dtype == torch.float32 and found.is_contiguous()
    torch.testing.assert_close(found.to(F64), expected, rtol=0, atol=3e-6)


def resample_some(n, rows, weights, scale):
    taps = Taps.of_windows(*windows_of(12)[:, : max(n, 1)], 12, 12)
    return resampled(
        images_of(11, (2, 12, 12))[rows].flatten(1),
        Taps(*(part[rows] for part in taps)),
        Taps(*(part[rows] for part in taps)).flipped(),
        shape_in=(2, 12, 12),
        shape_out=(2, 12, 12),
        scale=scale,
        offset=-scale,
        weights=None if weights is None else weights[rows],
    )


def test_an_images_bits_do_not_depend_on_the_number_of_threads_or_on_the_others(way):
    before, scale = torch.get_num_threads(), torch.tensor([[0.013], [0.017]])
    weights = torch.rand(11, generator=torch.Generator().manual_seed(0))
    try:
        torch.set_num_threads(1)
        whole, mixed_whole = (resample_some(11, slice(0, 11), own, scale) for own in (None, weights))
        for threads in (2, 3, 16):
            torch.set_num_threads(threads)
            assert torch.equal(resample_some(11, slice(0, 11), None, scale), whole)
            assert torch.equal(resample_some(11, slice(0, 11), weights, scale), mixed_whole)
            assert torch.equal(resample_some(11, slice(4, 9), None, scale), whole[4:9])
            # The first of these mixes with another image than in the whole.
            assert torch.equal(resample_some(11, slice(4, 9), weights, scale)[1:], mixed_whole[5:9])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("pieces", [1, 2, 4, 144, 288])
def test_a_scale_serves_as_many_numbers_as_there_are_for_each(pieces, way):
    scale = torch.linspace(0.01, 0.02, pieces)[:, None]
    found = resampled(
        images_of(3, (2, 12, 12)).flatten(1),
        None,
        None,
        shape_in=(2, 12, 12),
        shape_out=(2, 12, 12),
        scale=scale,
        offset=2 * scale,
        weights=None,
    )
    expected = (images_of(3, (2, 12, 12)).view(3, pieces, -1) * scale + 2 * scale).view(3, 2, 12, 12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 4, 100])
@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_every_bit_is_the_same_without_compiled_code(size_in, size_out, at_once, monkeypatch):
    if resampling._library() is None:
        pytest.skip("there is no compiler")
    monkeypatch.setattr(resampling, "_NUMBERS", at_once * 3 * size_out * 11)
    n = 10
    (_, rows), (_, columns) = drawn(n, size_in, size_out, 1), drawn(n, 9, 11, 2)
    arguments = {
        "shape_in": (3, size_in, 9),
        "shape_out": (3, size_out, 11),
        "scale": torch.tensor([[0.021], [0.013], [0.037]]),
        "offset": torch.tensor([[-2.1], [0.3], [0.7]]),
        "weights": torch.linspace(0, 1, n),
        "members": 2,
    }
    images = images_of(n, (3, size_in, 9)).flatten(1)
    found = resampled(images, rows, columns, **arguments)
    monkeypatch.setattr(resampling, "_library", lambda: None)
    assert torch.equal(found, resampled(images, rows, columns, **arguments))


def test_of_no_images_there_are_none(way):
    assert resample_some(0, slice(0, 0), None, torch.tensor([[1.0], [1.0]])).shape == (0, 2, 12, 12)


def test_the_default_type_changes_nothing(way):
    scale = torch.tensor([[1.0], [2.0]])
    expected = resample_some(5, slice(0, 5), torch.full((5,), 0.25), scale)
    torch.set_default_dtype(F64)
    try:
        found = resample_some(5, slice(0, 5), torch.full((5,), 0.25, dtype=torch.float32), scale)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
