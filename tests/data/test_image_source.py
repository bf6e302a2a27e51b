import dataclasses
import math

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Augmentation, Dataset, ImageSource, Loader, channel_statistics, split_validation, subset
from mlptheory.data.image_source import chunks, gathered
from mlptheory.data.normalization import summed_channels


class Recorded(ImageSource):
    """Images from a tensor, which remembers how many it has given at once."""

    def __init__(self, images):
        self.images, self.shape, self.given = images, tuple(images.shape), []

    def __getitem__(self, examples):
        found = self.images[examples]
        self.given.append(len(found))
        return found.clone()


def datasets(size=29, shape=(2, 4, 6)):
    pixels = np.random.default_rng(1).integers(0, 256, (size, *shape), dtype=np.uint8)
    images, labels = torch.from_numpy(pixels), torch.arange(size) % 3
    plain = Dataset(images=images, labels=labels, classes=tuple("abc"), name="toy", split="train")
    return plain, dataclasses.replace(plain, images=Recorded(images))


@pytest.fixture(params=[1, 48, 100, 10**6])
def chunk_bytes(request, monkeypatch):
    monkeypatch.setattr("mlptheory.data.image_source._CHUNK_BYTES", request.param)
    return request.param


def test_all_images_are_looked_at_in_parts_of_bounded_size(chunk_bytes):
    plain, source = datasets()
    assert source.digest == plain.digest
    assert channel_statistics(source) == channel_statistics(plain)
    assert torch.equal(gathered(source.images), plain.images)
    assert max(source.images.given) == min(29, max(1, chunk_bytes // 48))
    assert sum(source.images.given) == 3 * 29
    for images in (plain.images, source.images):
        assert torch.equal(torch.cat(list(chunks(images, "looking"))), plain.images)


def test_parts_of_a_source_are_those_of_its_images():
    plain, source = datasets()
    for part in (
        lambda dataset: subset(dataset, 11, seed=1),
        lambda dataset: split_validation(dataset, 7, seed=1)[0],
        lambda dataset: split_validation(subset(dataset, 20, seed=2), 7, seed=1)[1],
    ):
        expected, found = part(plain), part(source)
        assert found.is_streamed and found.digest == expected.digest
        assert torch.equal(found.labels, expected.labels) and found.split == expected.split
        batches = zip(Loader(expected, batch_size=3).batches(1), Loader(found, batch_size=3).batches(1), strict=True)
        assert all(torch.equal(one.inputs, other.inputs) for one, other in batches)


class Known(Recorded):
    """Images of which sums and a digest are known."""

    identity = "those"

    def channel_sums(self):
        return summed_channels(self.images)


def test_sums_of_most_images_are_found_by_the_others():
    plain, _ = datasets()
    source = dataclasses.replace(plain, images=Known(plain.images))
    every = torch.arange(29)
    for chosen, read in ((every[:26], 3), (every[3:17], 14), (every.flip(0), 29), (torch.arange(30) % 29, 30)):
        assert channel_statistics(source.select(chosen)) == channel_statistics(plain.select(chosen))
        assert sum(source.images.given) == read
        source.images.given.clear()


def test_an_identity_reads_nothing_and_sees_every_choice():
    plain, unknown = datasets()
    source = dataclasses.replace(plain, images=Known(plain.images))
    parts = [source, source.select(torch.arange(28)), source.select(torch.arange(28).flip(0))]
    parts += [dataclasses.replace(each, labels=each.labels.flip(0)) for each in parts]
    parts += [dataclasses.replace(each, classes=tuple("abd")) for each in parts]
    parts += [source.select(torch.tensor([2, 1, 0])).select(torch.tensor([0, 0]))]
    parts += [source.select(torch.tensor([2, 2]))]
    assert parts[-1].identity == parts[-2].identity
    assert len({each.identity for each in parts}) == len(parts) - 1
    assert source.images.given == []
    assert plain.identity == plain.digest == unknown.identity


def test_a_stream_asks_for_one_batch_at_a_time():
    _, source = datasets()
    assert len(list(Loader(source, batch_size=4).batches(0))) == 8
    assert sorted(source.images.given) == [1, *[4] * 7]


def test_a_dataset_at_the_door():
    plain, source = datasets()
    assert (len(source), source.image_shape, len(source.images)) == (29, (2, 4, 6), 29)
    with pytest.raises(InputError, match=r"labels = int64 tensor of shape \(28,\)"):
        dataclasses.replace(source, labels=plain.labels[:28])
    floats = Recorded(plain.images)
    floats.dtype = torch.float32
    with pytest.raises(InputError, match="images = Recorded: expected a uint8 tensor"):
        dataclasses.replace(source, images=floats)


def test_a_source_that_does_not_say_how_it_is_read():
    source = ImageSource()
    source.shape = (1, 1, 1, 1)
    with pytest.raises(NotImplementedError, match="ImageSource reads no images"):
        source[:]
    assert source.channel_sums() is None


WRONG = {
    r"torch.int64 \(4, 2, 4, 6\)": lambda images: images.long(),
    r"torch.uint8 \(3, 2, 4, 6\)": lambda images: images[1:],
    r"torch.uint8 \(4, 2, 4, 3\)": lambda images: images[..., ::2],
    "ndarray": lambda images: images.numpy(),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_a_source_returns_is_what_it_said(said, monkeypatch):
    """Else compiled code would read other numbers than those, or beyond them."""
    source = datasets()[1]
    monkeypatch.setattr(Recorded, "__getitem__", lambda self, examples: WRONG[said](self.images[examples]))
    message = rf"Recorded returned {said}: expected a uint8 tensor of shape \(4, 2, 4, 6\)"
    with pytest.raises(InputError, match=message):
        next(Loader(source, batch_size=4, augmentation=Augmentation(flip=True, mixup=1.0)).batches(0))
    with pytest.raises(InputError, match="Recorded returned"):
        gathered(source.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "quasi"}, "order = 'quasi': unknown; did you mean 'quasi-random'"),
        ({"resident": 1}, "resident = 1: expected true, false or None"),
    ],
)
def test_a_loader_at_the_door(options, message):
    with pytest.raises(InputError, match=message):
        Loader(datasets()[1], batch_size=4, **options)


def test_sums_of_more_than_32_bits_are_exact():
    images = torch.full((300, 1, 256, 256), 255, dtype=torch.uint8)
    dataset = Dataset(images=images, labels=torch.zeros(300, dtype=torch.int64), classes=("a",), name="t", split="test")
    assert channel_statistics(dataset).mean == (1.0,)
    images[0, 0, 0, 0] = 0
    n = math.prod(images.shape)
    expected = math.sqrt((1 / n) * (1 - 1 / n))
    assert channel_statistics(dataset).std[0] == pytest.approx(expected, rel=1e-14)
