"""Class folders and datasets made stores: what comes out, what is refused, and that nothing decoded is lost."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mlptheory.base import InputError, MissingDataError
from mlptheory.cli import main
from mlptheory.data import Dataset, channel_statistics, convert, datasets, load, open_store, verify_store
from mlptheory.data.class_folder import find_splits
from mlptheory.data.conversion import usage
from mlptheory.data.decoding import UnreadableImageError, decode_image
from mlptheory.data.folder_conversion import FolderConversion
from mlptheory.data.locks import alone
from mlptheory.data.store_note import read_note
from tests.data.image_files import break_files, make_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 60 images to train on, two of them broken, and of 15 to test on."""
    folder = tmp_path_factory.mktemp("images") / "mine"
    train = make_folder(folder / "train", 60)
    make_folder(folder / "val", 15, seed=1)
    break_files([train[7], train[48]])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "mine")


def twin(folder, resolution):
    """Decode one file after another; what cannot be read is left out."""
    images, labels = [], []
    for label, each in enumerate(sorted(path for path in folder.iterdir())):
        for path in sorted(each.iterdir()):
            try:
                images.append(decode_image(path.read_bytes(), resolution))
                labels.append(label)
            except UnreadableImageError:
                pass
    return np.stack(images), np.array(labels)


def run(folder, out, split="train", **options):
    defaults = {"resolution": 16, "workers": 1, "allow_unreadable": 0.05, "chunk": 8, "name": "mine"}
    out.mkdir(exist_ok=True)
    target = out / f"{split}.store"
    settings = {**defaults, **options}
    return FolderConversion(
        folder=find_splits(folder)[split], target=target, split=split, progress=False, **settings
    ).run()


def content(store):
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_a_class_folder_from_the_command_line(made, tmp_path, capsys):
    arguments = ["data", "convert", str(made), "--resolution", "16", "--out", str(tmp_path / "out"), "--workers", "2"]
    assert main([*arguments, "--allow-unreadable", "0.05"]) == 0
    said = capsys.readouterr().out
    for split, source in (("train", "train"), ("test", "val")):
        found = verify_store(tmp_path / "out" / f"{split}.store")
        images, labels = twin(made / source, 16)
        assert np.array_equal(found.images.numpy(), images) and np.array_equal(found.labels.numpy(), labels)
        assert found.classes == tuple(f"class {number}" for number in range(5))
        plain = Dataset(
            images=torch.from_numpy(images), labels=found.labels, classes=found.classes, name="x", split=split
        )
        assert found.digest == plain.digest and channel_statistics(found) == channel_statistics(plain)
        assert f"{split}: {len(images)} images of 3x16x16, 5 classes, digest {found.digest[:16]}" in said
    note = read_note(tmp_path / "out" / "train.store")
    assert [each.split(":")[0] for each in note.unreadable] == ["class 0/00035.png", "class 4/00004.png"]
    assert all(f"    {each}\n" in said for each in note.unreadable)
    assert (tmp_path / "out" / "train.unreadable.txt").read_text().splitlines() == list(note.unreadable)
    assert f"its name is 'store:{tmp_path / 'out'}'" in said
    assert len(load(f"store:{tmp_path / 'out'}", "train")) == 58
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.store", "test.store", "train.unreadable.txt"}
    before = content(tmp_path / "out" / "train.store")
    assert main([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [split["digest"] for split in shown["splits"]] == [note.digest, load(shown["dataset"], "test").digest]
    assert content(tmp_path / "out" / "train.store") == before


def test_it_is_what_the_folder_without_the_broken_files_gives(whole, folder, tmp_path):
    note, out = whole
    for each in note.unreadable:
        (folder / "train" / each.split(":")[0]).unlink()
    mended = run(folder, tmp_path / "out", chunk=13)
    assert mended.unreadable == () and mended.digest == note.digest
    one, other = content(out / "train.store"), content(tmp_path / "out" / "train.store")
    assert all(one[name] == other[name] for name in ("images.bin", "labels.bin"))


def test_too_many_unreadable_files_are_an_error_and_nothing_is_lost(folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"2 of 60 images are unreadable, more than the share of 0\.01 .*able\.txt"):
        run(folder, tmp_path / "out", allow_unreadable=0.01)
    part = tmp_path / "out" / ".train.store.converting"
    journal = (part / "journal.jsonl").read_bytes()
    assert journal.count(b"\n") == 8 and not (tmp_path / "out" / "train.store").exists()
    # One is mended: its chunk alone is decoded again.
    good = folder / "train" / "class 0" / "00000.jpg"
    good = good if good.exists() else good.with_suffix(".png")
    shutil.copyfile(good, folder / "train" / "class 0" / "00035.png")
    with pytest.raises(InputError, match="1 of 60 images are unreadable"):
        run(folder, tmp_path / "out", allow_unreadable=0.01)
    later = (part / "journal.jsonl").read_bytes()
    assert later.startswith(journal) and later.count(b"\n") == 9
    note = run(folder, tmp_path / "out", allow_unreadable=0.02)
    images, labels = twin(folder / "train", 16)
    found = verify_store(tmp_path / "out" / "train.store")
    assert np.array_equal(found.images.numpy(), images) and np.array_equal(found.labels.numpy(), labels)
    assert len(note.unreadable) == 1


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """What one uninterrupted call makes of the training images, and the folder of it."""
    out = tmp_path_factory.mktemp("whole")
    return run(made, out, workers=2), out


@pytest.mark.parametrize("harm", ["cut", "text", "gone"])
def test_a_journal_whose_end_is_damaged(made, whole, tmp_path, harm):
    with pytest.raises(InputError, match="2 of 60"):
        run(made, tmp_path / "out", allow_unreadable=0.01)
    journal = tmp_path / "out" / ".train.store.converting" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    if harm == "gone":
        journal.unlink()
    else:
        journal.write_bytes(b"".join(lines[:5]) + (lines[5][:-9] if harm == "cut" else b"\0\0\n"))
    assert run(made, tmp_path / "out") == whole[0]
    assert content(tmp_path / "out" / "train.store") == content(whole[1] / "train.store")


def test_what_was_begun_otherwise_is_not_gone_on_with(folder, tmp_path):
    with pytest.raises(InputError, match="2 of 60"):
        run(folder, tmp_path / "out", allow_unreadable=0.01)
    with pytest.raises(InputError, match=r"was begun with resolution 16, not 20: .*remove the folder \.train\.store"):
        run(folder, tmp_path / "out", resolution=20)
    (folder / "train" / "class 4" / "00004.png").unlink()
    with pytest.raises(InputError, match="was begun with files 60, not 59"):
        run(folder, tmp_path / "out")
    shutil.copyfile(folder / "train" / "class 0" / "00035.png", folder / "train" / "class 4" / "x.png")
    with pytest.raises(InputError, match="was begun with names"):
        run(folder, tmp_path / "out")


def test_another_store_that_is_there_stays(folder, tmp_path):
    run(folder, tmp_path / "out")
    before = content(tmp_path / "out" / "train.store")
    with pytest.raises(InputError, match="is there already, with resolution 16, not 8: give another folder, or remove"):
        run(folder, tmp_path / "out", resolution=8)
    convert("digits", tmp_path / "digits", progress=False)
    with pytest.raises(InputError, match="is there already, with kind 'dataset', not 'class folder'"):
        run(folder, tmp_path / "digits")
    assert content(tmp_path / "out" / "train.store") == before


def test_two_at_once_are_refused(tmp_path, refused):
    (tmp_path / "out").mkdir()
    with alone(tmp_path / "out" / ".test.store.converting.lock"):
        message = refused("data", "convert", "digits", "--out", str(tmp_path / "out"))
    assert "another process is converting to it: wait until it has ended" in message
    assert convert("digits", tmp_path / "out", progress=False)[1].shape == (600, 1, 8, 8)


def test_a_disk_without_room(made, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(InputError, match=r"out = .*expected room for 67 MB, 1 MB are free"):
        run(made, tmp_path / "out")
    with pytest.raises(InputError, match=r"out = .*expected room for 67 MB, 1 MB are free"):
        convert("digits", tmp_path / "out", progress=False)


def test_nothing_that_can_be_read(tmp_path):
    paths = make_folder(tmp_path / "images", 4, classes=1)
    break_files(paths)
    with pytest.raises(InputError, match="none of 4 images can be read"):
        run(tmp_path / "images", tmp_path / "out", allow_unreadable=1.0)


def test_links_to_nothing_and_files_that_may_not_be_read(tmp_path):
    make_folder(tmp_path / "images", 6, classes=1)
    (tmp_path / "images" / "class 0" / "a.png").symlink_to("nowhere.png")
    (tmp_path / "images" / "class 0" / "b.png").symlink_to("b.png")
    note = run(tmp_path / "images", tmp_path / "out", allow_unreadable=0.5)
    assert [each.partition(":")[0] for each in note.unreadable] == ["class 0/a.png", "class 0/b.png"]
    assert "No such file" in note.unreadable[0] and "symbolic links" in note.unreadable[1] and note.shape[0] == 6


def test_a_folder_whose_name_is_no_text_is_refused_before_anything_is_decoded(tmp_path):
    make_folder(tmp_path / "b\udce9", 6, classes=1)
    with pytest.raises(InputError, match=r"source = .*a name in UTF-8"):
        convert(tmp_path / "b\udce9", tmp_path / "out", resolution=8, progress=False)
    assert not (tmp_path / "out").exists()


def test_unreadable_files_whose_names_are_no_text_are_named(tmp_path):
    make_folder(tmp_path / "images", 6, classes=1)
    (tmp_path / "images" / "class 0" / "b\udce9.png").write_bytes(b"x")
    note = run(tmp_path / "images", tmp_path / "out", allow_unreadable=0.5)
    assert len(note.unreadable) == 1 and note.unreadable[0].startswith("class 0/b\\xe9.png: ")
    assert open_store(tmp_path / "out" / "train.store").digest == note.digest


# Datasets and stores


def test_registered_datasets_and_stores_are_stored_and_resized(tmp_path):
    made = convert("digits", tmp_path / "small", progress=False)
    digits = load("digits", "train")
    assert [each.split for each in made] == ["train", "test"] and made[0].digest == digits.digest
    again = convert(tmp_path / "small", tmp_path / "large", resolution=16, progress=False)
    image = np.asarray(Image.fromarray(digits.images[3, 0].numpy()).resize((16, 16), Image.Resampling.BILINEAR))
    large = load(f"store:{tmp_path / 'large'}", "train")
    assert np.array_equal(large.images[3, 0].numpy(), image) and torch.equal(large.labels, digits.labels)
    assert again[0].digest == large.digest == verify_store(again[0].path).digest
    (one,) = convert(tmp_path / "small" / "test.store", tmp_path / "single", progress=False)
    assert one.split == "test" and one.digest == made[1].digest
    assert convert("digits", tmp_path / "small", progress=False)[0].digest == digits.digest


def test_a_registered_dataset_goes_to_its_folder_under_the_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "root"))
    made = convert("digits", progress=False)
    assert made[0].path == tmp_path / "root" / "digits" / "train.store"
    assert usage(made) == "store:digits" and load("store:digits", "test").digest == made[1].digest


def test_arrays_become_a_dataset_by_name_and_a_store(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)

    @datasets.register("mine", summary="ten images")
    def mine(split, root):
        return Dataset.from_arrays(pixels, np.arange(10) % 2, classes=("no", "yes"), name="mine", split=split)

    made = convert("mine", tmp_path / "out", progress=False)
    found = open_store(made[0].path)
    assert torch.equal(found.images, torch.from_numpy(pixels).permute(0, 3, 1, 2)) and found.classes == ("no", "yes")
    assert found.digest == load("mine", "train").digest


def test_sets_of_labels_go_on_to_the_next_store(tmp_path):
    sets = (frozenset({0}), frozenset(), frozenset({0, 1}))
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)

    @datasets.register("labeled")
    def labeled(split, root):
        return Dataset(
            images=images, labels=torch.tensor([0, 1, 1]), classes="ab", name="x", split=split, label_sets=sets
        )

    convert("labeled", tmp_path / "one", progress=False)
    convert(tmp_path / "one", tmp_path / "two", resolution=8, progress=False)
    assert load(f"store:{tmp_path / 'two'}", "test").label_sets == sets


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["source = ''", "first a registered dataset"]),
        (["--to", "store"], ["source = '--to'", "first a registered dataset"]),
        (["digts"], ["source = 'digts'", "did you mean 'digits'", "a folder of images"]),
        (["digits", "--to", "zip"], ["to = 'zip'", "store, beton"]),
        (["digits", "--resolution", "0"], ["resolution = 0", "at least 1"]),
        (["digits", "--workers", "0"], ["workers = 0", "at least 1"]),
        (["digits", "--allow-unreadable", "1.5"], ["allow_unreadable = 1.5", "less than 1"]),
        (["digits", "--real", "real.json"], ["real = 'real.json'", "image files to test on"]),
        (["digits", "--resolutoin", "3"], ["'--resolutoin'", "--resolution"]),
        (["imagenet"], ["source = 'imagenet'", "train/nXXXXXXXX/*.JPEG", "image-net.org", "--data-root"]),
        (["teacher", "--out", "/dev/null/x"], ["out = '/dev/null/x'", "can be written"]),
        (["store:nowhere"], ["store:nowhere", "train.store", "--data-root"]),
    ],
    ids=lambda value: " ".join(value[:2]) if value and value[0] != "source = ''" else None,
)
def test_refusals(refused, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    message = refused("data", "convert", *arguments)
    assert [part for part in parts if part not in message] == []
    assert not list(tmp_path.rglob("*.store"))


def test_image_files_need_a_resolution(made, tmp_path, refused):
    message = refused("data", "convert", str(made), "--out", str(tmp_path))
    assert "resolution = None: expected the side of the images in pixels, such as 64" in message


def test_images_of_two_channels_are_not_resized(tmp_path):
    @datasets.register("two")
    def two(split, root):
        images = torch.zeros(3, 2, 4, 4, dtype=torch.uint8)
        return Dataset(images=images, labels=torch.zeros(3, dtype=torch.int64), classes="a", name="two", split=split)

    assert convert("two", tmp_path / "out", progress=False)[0].shape == (3, 2, 4, 4)
    with pytest.raises(InputError, match="resolution = 8: expected None for images of 2 channels"):
        convert("two", tmp_path / "other", resolution=8, progress=False)


@pytest.mark.parametrize("name", ["imagenet", "imagenet21k"])
def test_what_may_not_be_passed_on_is_not_fetched(refused, name):
    message = refused("data", "get", name)
    assert f"dataset = {name!r}: nobody may pass its images on; get them from https://" in message
    assert "mlptheory data convert SOURCE" in message


def test_imagenet_is_what_was_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    for name, folders in (
        ("imagenet", ("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val")),
        ("imagenet21k", ("imagenet21k_resized/imagenet21k_train", "imagenet21k_resized/imagenet21k_val")),
    ):
        with pytest.raises(MissingDataError, match=f"{name}.*no train.store or train.beton.*mlptheory data convert"):
            load(name, "train", root)
        for seed, folder in enumerate(folders):
            make_folder(root / folder, 6, classes=2, seed=seed)
        made = convert(name, resolution=8, data_root=root, workers=1, progress=False)
        assert made[0].path == root / name / "train.store" and usage(made, root) == name
        for split in ("train", "test"):
            found = load(name, split, root)
            assert found.digest == verify_store(root / name / f"{split}.store").digest
            assert (found.name, found.split, found.classes) == (name, split, ("class 0", "class 1"))
        assert load(name, "train", root / name).digest == made[0].digest


# ReaL


@pytest.fixture
def validated(tmp_path):
    """Six images to train on, and six to test on whose names run across the classes; one of them is broken."""
    folder = tmp_path / "imagenet"
    make_folder(folder / "train", 6, classes=2)
    for number in range(1, 7):
        image = Image.new("RGB", (9, 9), (number * 40,) * 3)
        place = folder / "val" / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"ILSVRC2012_val_{number:08d}.JPEG")
    (folder / "val" / "class 0" / "ILSVRC2012_val_00000004.JPEG").write_bytes(b"")
    real = tmp_path / "real.json"
    real.write_text("[[1], [0, 1], [], [0], [1], [1]]")
    return folder, real


def test_reassessed_labels_are_stored_with_the_test_images(validated, tmp_path, capsys):
    folder, real = validated
    out = tmp_path / "root" / "imagenet"
    arguments = ["data", "convert", str(folder), "--resolution", "8", "--out", str(out), "--real", str(real)]
    assert main([*arguments, "--allow-unreadable", "0.2", "--data-root", str(tmp_path / "root")]) == 0
    assert "its name is 'imagenet'" in capsys.readouterr().out
    test = load("imagenet", "test", tmp_path / "root")
    # Even numbers are of class 0 and come first; 4 is left out.
    assert (test.images[:, 0, 4, 4] / 40).round().tolist() == [2, 6, 1, 3, 5] and test.labels.tolist() == [
        0,
        0,
        1,
        1,
        1,
    ]
    assert test.label_sets == ({0, 1}, {1}, {1}, set(), {1})
    assert load("imagenet", "train", tmp_path / "root").label_sets is None


def test_reassessed_labels_of_other_images_are_refused_before_anything_is_decoded(validated, tmp_path, refused):
    folder, real = validated
    real.write_text("[[1], [0], [1], [0], [1]]")
    common = ["data", "convert", str(folder), "--resolution", "8", "--out", str(tmp_path / "out"), "--real", str(real)]
    assert "real = 5 sets of labels: expected 6, one for each image" in refused(*common)
    real.write_text("[[0], [1], [0], [1], [0], [1]]")
    assert "real: 0 of 6 images have their own label in their set" in refused(*common)
    assert not list((tmp_path / "out").rglob("journal.jsonl"))


# .beton


def test_without_ffcv_no_beton_is_begun(made, tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    arguments = ["data", "convert", str(made), "--to", "beton", "--resolution", "16", "--out", str(tmp_path / "out")]
    assert "to = 'beton': expected the package ffcv" in refused(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.ffcv
def test_a_beton_has_the_images_of_the_store(validated, tmp_path):
    folder, real = validated
    options = {"resolution": 16, "workers": 1, "real": real, "allow_unreadable": 0.2, "progress": False}
    stores = convert(folder, tmp_path / "out", **options)
    betons = convert(folder, tmp_path / "out", to="beton", **options)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".store", ".beton", ".json", ".txt"}
    for one, other in zip(stores, betons, strict=True):
        stored, found = open_store(one.path), load(f"beton:{tmp_path / 'out'}", one.split)
        assert (one.digest, one.unreadable, one.shape) == (other.digest, other.unreadable, other.shape)
        assert torch.equal(found.images[0 : len(found)], stored.images) and torch.equal(found.labels, stored.labels)
        assert found.label_sets == stored.label_sets and found.digest == stored.digest
    with pytest.raises(InputError, match=r"test\.beton'?: is there already, with resolution 16, not 8"):
        convert(folder, tmp_path / "out", to="beton", **options | {"resolution": 8})
    again = convert(tmp_path / "out" / "test.beton", tmp_path / "back", progress=False)
    assert again[0].digest == stores[1].digest


@pytest.mark.ffcv
def test_killed_between_two_betons_the_same_call_goes_on(validated, tmp_path, monkeypatch):
    folder, _ = validated
    options = {"resolution": 16, "workers": 1, "allow_unreadable": 0.2, "progress": False}
    stores = convert(folder, tmp_path / "stores", **options)
    out, rmtree = tmp_path / "out", shutil.rmtree
    for between in (".test.beton.store", ".train.beton.store"):

        def stop(path, *arguments, between=between, **more):
            if path == out / between:
                raise KeyboardInterrupt
            rmtree(path, *arguments, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", stop)
            convert(folder, out, to="beton", **options)
        assert (out / between).exists()
    for _ in range(2):
        betons = convert(folder, out, to="beton", **options)
        assert [(each.digest, each.unreadable) for each in betons] == [
            (each.digest, each.unreadable) for each in stores
        ]
        assert not list(out.glob(".*"))


@pytest.mark.ffcv
def test_of_gray_images_a_beton_has_three_channels_and_the_report_says_so(tmp_path):
    for made in convert("digits", tmp_path, to="beton", progress=False):
        found = load(f"beton:{tmp_path}", made.split)
        assert made.shape == (len(found), 3, 8, 8) and made.digest == found.digest


@pytest.mark.ffcv
def test_a_beton_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "test.beton").write_bytes(b"x")
    with pytest.raises(InputError, match=r"test\.beton'?: is there already"):
        convert("digits", tmp_path, to="beton", progress=False)
    assert (tmp_path / "test.beton").read_bytes() == b"x"
