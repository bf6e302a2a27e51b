import shutil

import numpy as np
import pytest
from PIL import Image

from mlptheory.base import DamagedFileError
from mlptheory.data.tinyimagenet import TINY_IMAGENET, Layout, read_split

WNIDS = ["n03", "n01", "n02"]  # the list is in no order
LAYOUT = Layout(classes=3, per_class={"train": 12, "test": 2}, side=8)
GENERATOR = np.random.default_rng(0)


def write_image(path, gray=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = GENERATOR.integers(0, 256, (8, 8) if gray else (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=90)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200"
    folder.mkdir()
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    words = ["n00\tentity", "n01\tgoldfish, Carassius auratus", "n03\tbullfrog", "n99\tnothing"]
    (folder / "words.txt").write_text("\n".join(words) + "\n")
    for wnid in WNIDS:
        for number in range(12):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", gray=number == 7)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
    lines = []
    for number, wnid in enumerate(["n02", "n03", "n01", "n01", "n02", "n03"]):
        write_image(folder / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t7\t7\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to be harmed, in which nothing was decoded yet."""
    return shutil.copytree(made, tmp_path / "tiny-imagenet-200", ignore=shutil.ignore_patterns(".decoded*"))


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def test_training_images_by_class_and_number(folder):
    images, labels, classes = read_split(folder, "train", LAYOUT)
    assert classes == ("bullfrog", "goldfish, Carassius auratus", "n02")
    assert labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12 and labels.dtype == np.int64
    for index, (wnid, number) in enumerate((wnid, number) for wnid in WNIDS for number in range(12)):
        path = folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
        assert np.array_equal(images[index], pixels_of(path))
    assert (images[7] == images[7][:1]).all(), "a gray image has three equal channels"
    assert images.dtype == np.uint8 and images.shape == (36, 3, 8, 8)


def test_test_images_are_the_validation_set_as_listed(folder):
    images, labels, _ = read_split(folder, "test", LAYOUT)
    assert labels.tolist() == [2, 0, 1, 1, 2, 0]
    for number in range(6):
        assert np.array_equal(images[number], pixels_of(folder / "val" / "images" / f"val_{number}.JPEG"))


def refuse_to_decode(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("decoded again")

    monkeypatch.setattr(Image, "open", refuse)


def test_pixels_are_decoded_once(folder, monkeypatch):
    first = [read_split(folder, split, LAYOUT) for split in ("train", "test")]
    refuse_to_decode(monkeypatch)
    for split, (images, labels, classes) in zip(("train", "test"), first, strict=True):
        again = read_split(folder, split, LAYOUT)
        assert np.array_equal(again[0], images) and np.array_equal(again[1], labels) and again[2] == classes
    moved = folder.rename(folder.with_name("moved"))
    assert np.array_equal(read_split(moved, "train", LAYOUT)[0], first[0][0])


@pytest.mark.parametrize("harm", ["bit", "short", "gone", "note"])
def test_damaged_pixels_are_decoded_again(folder, harm):
    expected = read_split(folder, "train", LAYOUT)[0]
    kept = folder / ".decoded-train.bin"
    content = bytearray(kept.read_bytes())
    if harm == "bit":
        content[100] ^= 1
        kept.write_bytes(content)
    elif harm == "short":
        kept.write_bytes(content[:-1])
    elif harm == "gone":
        kept.unlink()
    else:
        (folder / ".decoded-train.json").write_text("[]")
    assert np.array_equal(read_split(folder, "train", LAYOUT)[0], expected)
    assert kept.stat().st_size == expected.size


def test_another_image_is_decoded_again(folder):
    before = read_split(folder, "train", LAYOUT)[0]
    path = folder / "train" / "n01" / "images" / "n01_3.JPEG"
    write_image(path)
    after = read_split(folder, "train", LAYOUT)[0]
    assert np.array_equal(after[15], pixels_of(path))
    assert (before != after).any(axis=(1, 2, 3)).nonzero()[0].tolist() == [15]


def test_pixels_that_cannot_be_kept_are_decoded_each_time(folder):
    (folder / ".decoded-train.bin" / "in the way").mkdir(parents=True)
    for _ in range(2):
        assert read_split(folder, "train", LAYOUT)[0].shape == (36, 3, 8, 8)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wnids.txt", b"n01\nn02\n", r"wnids\.txt: expected 3 classes, found 2"),
        ("wnids.txt", b"n01\nn02\nn02\n", r"wnids\.txt: expected 3 classes, found 2"),
        ("wnids.txt", b"n01\nn02\nn04\n", r"expected 12 images of n04 in 'train', found 0"),
        ("wnids.txt", b"\xff", r"wnids\.txt: expected text, found b'\\xff'"),
        ("train/n01/images/n01_3.JPEG", b"", r"n01_3\.JPEG: expected a JPEG image"),
        ("train/n01/images/n01_3.JPEG", b"\xff\xd8\xff", r"n01_3\.JPEG: expected a JPEG image"),
        ("train/n01/images/n01_12.JPEG", b"", r"expected 12 images of n01 in 'train', found 13"),
    ],
)
def test_damaged_files(folder, file, content, message):
    (folder / file).write_bytes(content)
    with pytest.raises(DamagedFileError, match=message):
        read_split(folder, "train", LAYOUT)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_5.JPEG\tn04\t0\t0\t7\t7", "expected an image and its class in each line, found 'val_5.JPEG"),
        ("../../x.JPEG\tn03", "expected an image and its class in each line"),
        ("val_4.JPEG\tn03", "an image is listed twice"),
        ("val_9.JPEG\tn03", "val_9.JPEG: missing, while it is listed"),
        ("val_5.JPEG\tn01", "expected 2 images of n03 in 'test', found 1"),
    ],
)
def test_a_damaged_list(folder, line, message):
    path = folder / "val" / "val_annotations.txt"
    path.write_text("\n".join([*path.read_text().splitlines()[:-1], line]) + "\n")
    with pytest.raises(DamagedFileError, match=message):
        read_split(folder, "test", LAYOUT)


@pytest.mark.parametrize(("size", "kind"), [((8, 9), "JPEG"), ((8, 8), "PNG")])
def test_images_of_another_size_or_kind(folder, size, kind):
    path = folder / "train" / "n02" / "images" / "n02_0.JPEG"
    Image.new("RGB", size).save(path, kind)
    with pytest.raises(DamagedFileError, match=r"n02_0\.JPEG: expected (8x8 pixels|a JPEG image)"):
        read_split(folder, "train", LAYOUT)


def test_a_truncated_image(folder):
    path = folder / "train" / "n02" / "images" / "n02_0.JPEG"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match=r"n02_0\.JPEG: expected a JPEG image \(.*truncated"):
        read_split(folder, "train", LAYOUT)


def test_the_official_layout():
    assert TINY_IMAGENET.classes * TINY_IMAGENET.per_class["train"] == 100_000
    assert TINY_IMAGENET.classes * TINY_IMAGENET.per_class["test"] == 10_000
