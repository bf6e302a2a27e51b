"""Files of FFCV, read and written; the twin is FFCV's own loader."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mlptheory.base import DamagedFileError, InputError, MissingDataError
from mlptheory.data import (
    Augmentation,
    Dataset,
    Loader,
    Normalization,
    StoreWriter,
    channel_statistics,
    convert,
    load,
    open_beton,
    open_store,
    write_beton,
)
from mlptheory.data.beton_layout import JPEG, RAW, read_layout
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Recipe, train

pytestmark = pytest.mark.ffcv
AUGMENTATION = Augmentation(crop_scale=(0.2, 1.0), flip=True, shift=1, mixup=0.8)


def dataset_of(size=203, shape=(3, 6, 8), classes=5):
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (size, *shape), dtype=np.uint8))
    labels = torch.from_numpy(random.integers(0, classes, size))
    return Dataset(images=pixels, labels=labels, classes=tuple("abcde"[:classes]), name="toy", split="train")


def smooth(size=40, height=24, width=16):
    """Pictures that JPEG does not change much, as arrays of shape (H, W, 3)."""
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    return [(index + 2 * rows + 3 * columns + 30 * np.arange(3)).astype(np.uint8) for index in range(size)]


class Pairs:
    def __init__(self, pixels, labels):
        self.pixels, self.labels = pixels, labels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.pixels[index], self.labels[index]


def by_ffcv(path, pixels, labels, field=None, label="label", image="image", **mode):
    """Write a file with FFCV alone, as its users do; its bar and its processes are its own."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    fields = {image: RGBImageField(**mode), label: field or IntField()}
    DatasetWriter(str(path), fields, num_workers=2).from_indexed_dataset(Pairs(pixels, labels), chunksize=7)
    return path


def read_by_ffcv(path, batch_size=16, **pipelines):
    """Return all images as FFCV's own loader gives them, shape (N, 3, H, W)."""
    import ffcv
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import OrderOption
    from ffcv.transforms import ToTensor

    threads = torch.get_num_threads()
    pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], **pipelines}
    loader = ffcv.Loader(
        str(path), batch_size, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False, pipelines=pipelines
    )
    images, labels = zip(*((images.clone(), labels.clone()) for images, labels in loader), strict=True)
    torch.set_num_threads(threads)
    return torch.cat(images).permute(0, 3, 1, 2), torch.cat(labels)


def equal_batches(first, second, epochs=(0, 1)):
    return all(
        (one is None and other is None) or torch.equal(one, other)
        for epoch in epochs
        for pair in zip(first.batches(epoch), second.batches(epoch), strict=True)
        for one, other in zip(*pair, strict=True)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_beton(tmp_path_factory.mktemp("toy") / "train.beton", dataset_of(), source="nowhere")


def copy_of(path, folder, note=True):
    """Return a copy that a test may damage."""
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    if note:
        Path(f"{copy}.json").write_bytes(Path(f"{path}.json").read_bytes())
    return copy


def test_what_was_written_is_what_is_opened(written):
    dataset, opened = dataset_of(), open_beton(written)
    assert opened.is_streamed and opened.images.shape == dataset.images.shape
    assert torch.equal(opened.images[:], dataset.images) and torch.equal(opened.labels, dataset.labels)
    chosen = torch.tensor([202, 0, 7, 7, 101])
    assert torch.equal(opened.images[chosen], dataset.images[chosen])
    assert torch.equal(opened.images[5:9], dataset.images[5:9])
    assert torch.equal(opened.select(chosen).images[:], dataset.images[chosen])
    assert len(opened.images[9:9]) == 0
    assert (opened.classes, opened.name, opened.split) == (dataset.classes, "toy", "train")
    assert sorted(path.name for path in written.parent.iterdir()) == ["train.beton", "train.beton.json"]


def test_ffcv_reads_what_was_written(written):
    images, labels = read_by_ffcv(written)
    assert torch.equal(images, dataset_of().images)
    assert torch.equal(labels[:, 0], dataset_of().labels)


def test_digest_and_statistics_are_known_without_reading(written, monkeypatch):
    dataset, opened = dataset_of(), open_beton(written)
    monkeypatch.setattr("mlptheory.data.beton.decode_images", None)
    assert opened.digest == dataset.digest
    assert channel_statistics(opened) == channel_statistics(dataset)


def test_without_its_note_all_is_computed(written, tmp_path):
    dataset, opened = dataset_of(), open_beton(copy_of(written, tmp_path, note=False))
    assert (opened.classes, opened.name, opened.split) == (("0", "1", "2", "3", "4"), "train", "train")
    assert channel_statistics(opened) == channel_statistics(dataset)
    assert opened.digest == dataclasses.replace(dataset, classes=opened.classes).digest
    named = open_beton(tmp_path / "train.beton", classes="abcdef", name="other", split="test")
    assert (named.classes, named.name, named.split) == (tuple("abcdef"), "other", "test")
    with pytest.raises(InputError, match="labels run to 4: expected 0 to 2"):
        open_beton(tmp_path / "train.beton", classes=3)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("order", ["random", "quasi-random"])
def test_batches_are_those_of_arrays_and_of_a_store(written, tmp_path, workers, order):
    dataset = dataset_of()
    with StoreWriter(tmp_path / "toy.store", classes=dataset.classes, name="toy", split="train") as writer:
        writer.append(dataset.images, dataset.labels)
        store = open_store(writer.finish())
    opened = open_beton(written, workers=at_most_here(workers))
    settings = dict(batch_size=32, seed=3, augmentation=AUGMENTATION, image_size=7, order=order)
    settings["normalization"] = Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    arrays = Loader(dataset, **settings)
    assert equal_batches(arrays, Loader(store, **settings))
    assert equal_batches(arrays, Loader(opened, **settings))
    assert equal_batches(arrays, Loader(opened, resident=True, **settings), epochs=(1,))
    assert not equal_batches(arrays, Loader(opened, **(settings | {"seed": 4})), epochs=(0,))


def at_most_here(workers):
    import numba

    if workers > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"{workers} workers need as many cores")
    return workers


@pytest.mark.data
@pytest.mark.slow
def test_batches_of_cifar10_are_those_of_arrays_and_of_a_store(cifar_root, tmp_path):
    dataset = load("cifar10", "train", cifar_root)
    with StoreWriter(tmp_path / "cifar10.store", classes=dataset.classes, name="cifar10", split="train") as writer:
        writer.append(dataset.images, dataset.labels)
        store = open_store(writer.finish())
    path = write_beton(tmp_path / "cifar10.beton", dataset)
    assert open_beton(path).digest == store.digest == dataset.digest
    settings = dict(batch_size=1024, augmentation=Augmentation(crop_scale=(0.08, 1.0), flip=True, mixup=0.8))
    settings["normalization"] = channel_statistics(store)
    loaders = [Loader(other, **settings) for other in (store, *(open_beton(path, workers=n) for n in (1, 2)))]
    for epoch in range(2):
        compared = 0
        for batches in zip(*(loader.batches(epoch) for loader in (Loader(dataset, **settings), *loaders)), strict=True):
            first = batches[0]
            assert all(torch.equal(one, own) for other in batches[1:] for one, own in zip(other, first, strict=True))
            compared += len(first.targets)
        assert compared == len(dataset)


def test_a_run_on_a_file_is_the_run_on_a_store(tmp_path):
    for split in ("train", "test"):
        dataset = dataclasses.replace(dataset_of(shape=(3, 8, 8)), split=split)
        write_beton(tmp_path / f"{split}.beton", dataset)
        with StoreWriter(tmp_path / f"{split}.store", classes=dataset.classes, name="toy", split=split) as writer:
            writer.append(dataset.images, dataset.labels)
            writer.finish()
    beton, store = (
        train(
            Recipe(
                data=DataConfig(name=f"{kind}:{tmp_path}", order="quasi-random"),
                model=ModelConfig(name="B-1/Wi-8"),
                augmentation=AUGMENTATION,
                budget=BudgetConfig(amount=2, batch_size=50),
            )
        )
        for kind in ("beton", "store")
    )
    weights, twin = beton.model.state_dict(), store.model.state_dict()
    assert all(torch.equal(weights[name], twin[name]) for name in twin)
    assert beton.history == store.history


@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_others_load_in_every_mode(tmp_path, workers):
    pixels, labels = smooth(), [index % 3 for index in range(40)]
    wanted = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    modes = {
        "raw": dict(write_mode="raw"),
        "jpg": dict(write_mode="jpg", jpeg_quality=95),
        "smart": dict(write_mode="smart", smart_threshold=1),
        "both": dict(write_mode="proportion", compress_probability=0.5),
    }
    found = {}
    for name, mode in modes.items():
        path = by_ffcv(tmp_path / f"{name}.beton", pixels, labels, **mode)
        opened = open_beton(path, workers=at_most_here(workers))
        found[name] = opened.images[:]
        assert torch.equal(found[name], read_by_ffcv(path)[0])
        assert opened.labels.tolist() == labels and opened.classes == ("0", "1", "2")
        assert (found[name].int() - wanted.int()).abs().float().mean() < 4
    assert torch.equal(found["raw"], wanted)
    assert not torch.equal(found["jpg"], wanted) and not torch.equal(found["smart"], wanted)
    image = read_layout(tmp_path / "both.beton").entry("image")
    assert set(image["mode"].tolist()) == {JPEG, RAW}
    assert torch.equal(found["both"][image["mode"] == RAW], wanted[image["mode"] == RAW])


def test_images_of_several_sizes_need_a_resolution(tmp_path):
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
    from ffcv.transforms import ToTensor

    pixels = [*smooth(5, 24, 16), *smooth(5, 20, 30), *smooth(5, 9, 9)]
    for mode in ("raw", "jpg"):
        path = by_ffcv(tmp_path / f"{mode}.beton", pixels, [0] * 15, write_mode=mode)
        with pytest.raises(InputError, match="images of heights 9 to 24 and widths 9 to 30: expected one size"):
            open_beton(path)
        decoder = CenterCropRGBImageDecoder((12, 12), ratio=1)
        opened = open_beton(path, resolution=12)
        assert opened.images.shape == (15, 3, 12, 12)
        assert torch.equal(opened.images[:], read_by_ffcv(path, image=[decoder, ToTensor()])[0])
        (made,) = convert(path, tmp_path / mode, resolution=12, progress=False)
        assert torch.equal(open_store(made.path).images, opened.images[:])


def test_gray_is_written_as_three_equal_channels(tmp_path):
    digits = load("digits", "test")
    opened = open_beton(write_beton(tmp_path / "digits.beton", digits))
    assert torch.equal(opened.images[:], digits.images.expand(-1, 3, -1, -1))
    mean = channel_statistics(digits).mean
    assert channel_statistics(opened).mean == mean * 3
    assert opened.digest == dataclasses.replace(digits, images=digits.images.expand(-1, 3, -1, -1)).digest


def test_streamed_images_are_written_too(written, tmp_path):
    opened = open_beton(written)
    chosen = opened.select(torch.arange(len(opened)).flip(0))
    again = open_beton(write_beton(tmp_path / "again.beton", chosen))
    assert torch.equal(again.images[:], dataset_of().images.flip(0))
    assert again.digest == chosen.digest != opened.digest


@pytest.mark.parametrize(
    ("mode", "threshold", "kinds"), [("jpg", None, {JPEG}), ("smart", None, {RAW}), ("smart", 9, {JPEG})]
)
def test_other_modes_are_written(tmp_path, mode, threshold, kinds):
    pixels = torch.from_numpy(np.stack(smooth())).permute(0, 3, 1, 2).contiguous()
    dataset = dataclasses.replace(dataset_of(40), images=pixels)
    path = write_beton(tmp_path / "a.beton", dataset, mode=mode, quality=95, smart_threshold=threshold)
    assert set(read_layout(path).entry("image")["mode"].tolist()) == kinds
    opened = open_beton(path)
    # What is known beside it is of what it decodes to.
    fresh = dataclasses.replace(opened, images=opened.images[:])
    assert opened.digest == fresh.digest and (fresh.digest == dataset.digest) == (kinds == {RAW})
    assert channel_statistics(opened) == channel_statistics(fresh)


SETS = [[4, 1], [], [2], [0, 1, 2, 3]]
FIRSTS = [4, 0, 2, 0]


def test_lists_of_labels_load(tmp_path):
    from ffcv.fields import JSONField, NDArrayField, TorchTensorField

    rows = np.array([row + [-1] * (4 - len(row)) for row in SETS])
    pixels = smooth(4)
    written = {
        "json": (SETS, JSONField()),
        "array": (rows, NDArrayField(np.dtype("<i8"), (4,))),
        "short": (rows.astype(np.int16), NDArrayField(np.dtype("<i2"), (4,))),
        "tensor": (torch.from_numpy(rows).int(), TorchTensorField(torch.int32, (4,))),
    }
    for name, (labels, field) in written.items():
        path = by_ffcv(tmp_path / f"{name}.beton", pixels, labels, field)
        with pytest.warns(UserWarning, match="labels are lists: the first of each"):
            opened = open_beton(path)
        assert opened.labels.tolist() == FIRSTS and opened.num_classes == 5
        assert opened.label_sets == tuple(map(frozenset, SETS))
    path = by_ffcv(tmp_path / "number.beton", pixels, [3, 1, 0, 2], JSONField())
    with pytest.warns(UserWarning, match="labels are lists"):
        assert open_beton(path).labels.tolist() == [3, 1, 0, 2]
    # A row of one number is a label like any other.
    path = by_ffcv(tmp_path / "one.beton", pixels, rows[:, :1].clip(0), NDArrayField(np.dtype("<i8"), (1,)))
    opened = open_beton(path)
    assert opened.labels.tolist() == [4, 0, 2, 0] and opened.label_sets is None


def test_sets_of_labels_are_written_as_the_authors_read_them(tmp_path):
    from ffcv.fields.ndarray import NDArrayDecoder
    from ffcv.transforms import ToTensor

    dataset = dataclasses.replace(dataset_of(4), label_sets=tuple(map(frozenset, SETS)))
    path = write_beton(tmp_path / "real.beton", dataset)
    opened = open_beton(path)
    # The labels themselves are beside it.
    assert torch.equal(opened.labels, dataset.labels) and opened.digest == dataset.digest
    assert opened.label_sets == tuple(map(frozenset, SETS))
    rows = read_by_ffcv(path, label=[NDArrayDecoder(), ToTensor()])[1]
    assert rows.tolist() == [[1, 4, -1, -1], [-1] * 4, [2, -1, -1, -1], [0, 1, 2, 3]]
    Path(f"{path}.json").unlink()
    with pytest.warns(UserWarning, match="the first of each"):
        assert open_beton(path).labels.tolist() == [1, 0, 2, 0]


def test_labels_that_are_none_are_refused(tmp_path):
    from ffcv.fields import JSONField, NDArrayField

    refused = {
        "negative": ([0, 1, -1, 2], None, "example 2 has label -1"),
        "text": ([[0], [1], ["a"], [2]], JSONField(), r"example 2 has label \['a'\]"),
        "below": ([[0], [1], [2], [-3]], JSONField(), r"example 3 has label \[-3\]"),
        "object": ([{"a": 1}] * 4, JSONField(), "example 0 has label {'a': 1}"),
        "float": (np.ones((4, 2)), NDArrayField(np.dtype("<f8"), (2,)), "labels of float64 of shape"),
        "square": (np.ones((4, 2, 2), int), NDArrayField(np.dtype("<i8"), (2, 2)), r"of shape \(2, 2\)"),
    }
    for name, (labels, field, reason) in refused.items():
        path = by_ffcv(tmp_path / f"{name}.beton", smooth(4), labels, field)
        with pytest.raises(InputError, match=reason):
            open_beton(path)


def test_datasets_are_found_by_name(written, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    copy_of(written, folder)
    opened = load("beton:mine", "train", tmp_path)
    assert opened.name == "toy" and torch.equal(opened.images[:3], dataset_of().images[:3])
    assert load(f"beton:{folder}", "train").digest == opened.digest
    with pytest.raises(MissingDataError, match=r"dataset = 'beton:mine': no file .*mine/test\.beton"):
        load("beton:mine", "test", tmp_path)
    with pytest.raises(InputError, match="beton:NAME"):
        load("beton:", "train")


def test_splits_without_names_have_the_same_classes(tmp_path):
    by_ffcv(tmp_path / "train.beton", smooth(4), [0, 5, 1, 2])
    by_ffcv(tmp_path / "test.beton", smooth(4), [0, 1, 7, 1])
    for split in ("train", "test"):
        opened = load(f"beton:{tmp_path}", split)
        assert opened.classes == tuple("01234567") and (opened.name, opened.split) == (f"beton:{tmp_path}", split)


def test_another_file_of_that_name_is_not_taken_for_the_first(written, tmp_path):
    other = write_beton(tmp_path / "train.beton", dataclasses.replace(dataset_of(), images=255 - dataset_of().images))
    Path(f"{other}.json").write_bytes(Path(f"{written}.json").read_bytes())
    with pytest.raises(DamagedFileError, match=r"train\.beton\.json: belongs to another train\.beton"):
        open_beton(other)
    for text in ("{", "[1]"):
        Path(f"{other}.json").write_text(text)
        with pytest.raises(DamagedFileError, match="expected what write_beton wrote"):
            open_beton(other)
    note = json.loads(Path(f"{written}.json").read_text())
    Path(f"{other}.json").write_text(json.dumps(note | {"name": "else"}))
    with pytest.raises(DamagedFileError, match="not as it was written"):
        open_beton(other)


def damaged_jpeg(path, example):
    """Write over the middle of one JPEG image."""
    layout = read_layout(path)
    start = int(layout.entry("image")["data_ptr"][example])
    length = int(layout.size_of(np.array([start], np.uint64))[0])
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_jpeg_that_cannot_be_read_is_named_and_reaches_the_consumer(tmp_path, workers):
    """FFCV passes over it, and leaves the pixels of another batch in its place."""
    path = by_ffcv(tmp_path / "a.beton", smooth(), [0] * 40, write_mode="jpg")
    damaged_jpeg(path, 23)
    opened = open_beton(path, workers=at_most_here(workers))
    assert len(opened.images[:23]) == 23 and len(opened.images[24:]) == 16
    with pytest.raises(DamagedFileError, match=r"a\.beton: example 23 is a JPEG image"):
        opened.images[20:30]
    loader = Loader(opened, batch_size=5, shuffle=False)
    seen = 0
    with pytest.raises(DamagedFileError, match="example 23"):
        for batch in loader.batches(0):
            seen += len(batch.targets)
    assert seen == 20
    assert readers() == []
    with pytest.raises(DamagedFileError, match="example 23"):
        open_beton(path, resolution=8).images[:]


@pytest.mark.parametrize("claimed", [20, 80])
def test_a_jpeg_of_another_size_than_the_file_says_is_named(tmp_path, claimed):
    """libjpeg-turbo fills a part of the place, and the rest is what was there before."""
    path = by_ffcv(tmp_path / "a.beton", smooth(), [0] * 40, write_mode="jpg")
    entries = read_layout(path).entries
    start = path.read_bytes().find(entries.tobytes())
    entries["f0"]["height"][5] = entries["f0"]["width"][5] = claimed
    with path.open("r+b") as file:
        file.seek(start)
        file.write(entries.tobytes())
    with pytest.raises(DamagedFileError, match="example 5 is a JPEG image"):
        open_beton(path, resolution=8).images[:]
    entries["f0"]["height"] = entries["f0"]["width"] = claimed
    with path.open("r+b") as file:
        file.seek(start)
        file.write(entries.tobytes())
    with pytest.raises(DamagedFileError, match="example 3 is a JPEG image"):
        open_beton(path).images[3:7]


def readers():
    """Return the threads that read ahead, and FFCV's own."""
    return [thread for thread in threading.enumerate() if "prefetch" in thread.name or "Epoch" in type(thread).__name__]


def test_examples_beyond_the_end_are_refused(written):
    images = open_beton(written).images
    for wrong in ([0, 203], [-1]):
        with pytest.raises(IndexError, match="expected 0 to 202"):
            images[torch.tensor(wrong)]


def anonymous_bytes():
    """Memory of this process that is not of files, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("left_by", ["break", "exception", "garbage"])
def test_leaving_early_leaves_no_thread_and_no_memory(tmp_path_factory, left_by):
    folder = tmp_path_factory.getbasetemp() / "large"
    path = folder / "train.beton"
    if not path.exists():
        folder.mkdir()
        write_beton(path, dataset_of(1024, (3, 64, 64)))
    loader = Loader(open_beton(path), batch_size=256)
    bytes_of_a_batch = 256 * 3 * 64 * 64

    def leave(epoch):
        batches = loader.batches(epoch)
        next(batches)
        if left_by == "break":
            for _ in batches:
                break
            batches.close()
        elif left_by == "exception":
            with pytest.raises(KeyError):
                for _ in batches:
                    raise KeyError
        del batches

    for epoch in range(4):
        leave(epoch)
    gc.collect()
    before = anonymous_bytes()
    for epoch in range(20):
        leave(epoch)
    gc.collect()
    assert readers() == []
    assert anonymous_bytes() - before < 10 * bytes_of_a_batch


def test_threads_of_the_process_stay_as_they_are(written):
    """FFCV sets torch's threads and numba's when it is imported, opened and iterated."""
    import numba
    from ffcv.pipeline.compiler import Compiler

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = (numba.get_num_threads(), Compiler.num_threads)
        opened = open_beton(written, workers=at_most_here(2))
        list(Loader(opened, batch_size=50).batches(0))
        assert torch.get_num_threads() == 2
        assert (numba.get_num_threads(), Compiler.num_threads) == before
    finally:
        torch.set_num_threads(threads)


def test_arguments_are_checked_at_the_door(written, tmp_path):
    dataset = dataset_of(4)
    for argument, value, call in [
        ("workers", 0, lambda: open_beton(written, workers=0)),
        ("workers", 4096, lambda: open_beton(written, workers=4096)),
        ("resolution", 0, lambda: open_beton(written, resolution=0)),
        ("path", "a.ffcv", lambda: write_beton("a.ffcv", dataset)),
        ("path", "train.beton", lambda: write_beton(written, dataset)),
        ("mode", "png", lambda: write_beton(tmp_path / "a.beton", dataset, mode="png")),
        ("quality", 101, lambda: write_beton(tmp_path / "a.beton", dataset, quality=101)),
        ("quality", 0, lambda: write_beton(tmp_path / "a.beton", dataset, quality=0)),
        ("smart_threshold", -1, lambda: write_beton(tmp_path / "a.beton", dataset, smart_threshold=-1)),
        ("dataset", "(2, 4, 4)", lambda: write_beton(tmp_path / "a.beton", dataset_of(4, (2, 4, 4)))),
    ]:
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value).startswith(argument) and str(value) in str(error.value), error.value
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    """Whatever page the limit falls into: FFCV writes pages that may be cut without a word."""
    code = f"""
        import resource, signal, sys, torch
        from mlptheory.data import write_beton
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_beton import dataset_of
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        large = dataset_of(300, (3, 128, 128))
        for limit in (10_000, 2**22, 2**23 + 2**22, 2 * 2**23 + 100, 3 * 2**23 + 50, 3 * 2**23 + 7_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                write_beton({str(tmp_path / "a.beton")!r}, large)
            except OSError as error:
                print(limit, "OSError")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.count("OSError") == 6, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_file_and_the_next_one_begins_anew(tmp_path):
    path = tmp_path / "a.beton"
    code = f"""
        import os, signal, sys, torch
        torch.set_num_threads(2)
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_beton import dataset_of
        import mlptheory.data.beton_writer as writer
        def killed(*arguments, **named):
            # FFCV sets them to one when it is imported, to its own when it is used.
            print(torch.get_num_threads(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        writer._note = killed
        writer.write_beton({str(path)!r}, dataset_of())
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "2\n"), done.stderr
    assert not path.exists() and os.path.exists(tmp_path / ".a.beton.part")
    assert open_beton(write_beton(path, dataset_of())).digest == dataset_of().digest
    assert sorted(os.listdir(tmp_path)) == ["a.beton", "a.beton.json"]


def test_without_ffcv_one_line_says_how_to_get_it(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(InputError, match=r'make ffcv installs it, or pip install "mlptheory\[ffcv\]"') as error:
        open_beton(written)
    assert str(written) in str(error.value)
    with pytest.raises(InputError, match="make ffcv"):
        write_beton(written.with_name("other.beton"), dataset_of())
