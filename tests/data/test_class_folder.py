import os

import pytest

from mlptheory.base import InputError
from mlptheory.data.class_folder import find_splits
from mlptheory.data.listing import list_files


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(os.fsencode(path))
    return folder


def paths(folder):
    return [(file.path, file.label) for file in folder.files()]


def test_classes_and_files_come_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "b/2.png", "b/10.JPG", "b/inner/1.jpeg", "a/z.webp", "a/a.txt", "a/.hidden.png", "a/.cache/x.png")
    touch(tmp_path, "README.md", ".git/x.png")
    splits = find_splits(tmp_path)
    assert set(splits) == {"train"} and splits["train"].classes == ("a", "b")
    assert paths(splits["train"]) == [("a/z.webp", 0), ("b/10.JPG", 1), ("b/2.png", 1), ("b/inner/1.jpeg", 1)]


def test_test_images_are_labeled_by_the_classes_of_the_training_set(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "val/c/2.png", "val/b/2.png")
    splits = find_splits(tmp_path)
    assert splits["test"].classes == splits["train"].classes == ("a", "b", "c")
    assert paths(splits["test"]) == [("b/2.png", 1), ("c/2.png", 2)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (["train/a/1.png", "test/a/1.png", "val/a/2.png"], "test"),
        (["train/a/1.png", "test/1.png", "val/a/2.png"], "val"),
        (["train/a/1.png", "validation/a/2.png"], "validation"),
        (["imagenet21k_train/a/1.png", "imagenet21k_val/a/2.png"], "imagenet21k_val"),
        (["train/a/1.png"], None),
    ],
)
def test_which_folder_is_the_test_set(tmp_path, made, expected):
    found = find_splits(touch(tmp_path, *made)).get("test")
    assert (None if found is None else found.path.name) == expected


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (["README.md"], "expected a folder for each class in it"),
        (["train/a/1.png", "val/9.JPEG", "val/3.JPEG"], r"val'.* holds 2 images .* first '3.JPEG'.*ground_truth"),
        (["train/a/1.png", "val/b/1.png"], "val/b'.* expected a class of"),
        (["Train/a/1.png", "val/a/1.png"], "Train': holds folders as a split does.* none named train"),
        (["val/a/1.png"], "val': holds folders as a split does"),
        (["train/b\udce9/1.png"], "train/b.*names of classes in UTF-8"),
        (["train/a/1.png", "train/1.png"], "holds 1 images that are in no class's folder"),
    ],
)
def test_refusals(tmp_path, made, message):
    with pytest.raises(InputError, match=message) as error:
        find_splits(touch(tmp_path, *made))
    assert "\n" not in str(error.value)


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    assert find_splits(touch(tmp_path, "valid/1.png", "invalid/1.png"))["train"].classes == ("invalid", "valid")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    splits = find_splits(touch(tmp_path, "a/1.png", "a/inner/2.png"))
    scandir = os.scandir

    def locked(path):
        if os.fspath(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(PermissionError, match="inner"):
        paths(splits["train"])


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"source = .*nowhere.*a folder that exists"):
        find_splits(tmp_path / "nowhere")


def listed(folder, where, chunk=2, every_class=True):
    return list_files(folder, where, chunk=chunk, every_class=every_class, progress=False)


def test_a_listing_is_cut_into_chunks(tmp_path):
    names = [f"{label}/{number}.png" for label in "ab" for number in range(3)] + ["c/umläut\n.png"]
    folder = find_splits(touch(tmp_path / "images", *names))["train"]
    found = listed(folder, tmp_path / "list")
    assert len(found) == 7 and found.per_class == (3, 3, 1) and found.labels().tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert [found.files(chunk) for chunk in range(4)] == [names[:2], names[2:4], names[4:6], names[6:]]
    assert [found.bounds(chunk) for chunk in range(4)] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    again = listed(folder, tmp_path / "again")
    assert (again.digest, again.keys, again.offsets) == (found.digest, found.keys, found.offsets)
    assert listed(folder, tmp_path / "again", chunk=3).digest == found.digest


def test_what_changes_digest_and_keys(tmp_path):
    images = touch(tmp_path / "images", *(f"a/{number}.png" for number in range(6)))
    folder = find_splits(images)["train"]
    before = listed(folder, tmp_path / "list")
    (images / "a/2.png").write_bytes(b"longer than before")
    longer = listed(folder, tmp_path / "list")
    assert longer.digest == before.digest
    assert [one == other for one, other in zip(longer.keys, before.keys, strict=True)] == [True, False, True]
    os.utime(images / "a/5.png", ns=(1, 1))
    later = listed(folder, tmp_path / "list")
    assert [one == other for one, other in zip(later.keys, longer.keys, strict=True)] == [True, True, False]
    (images / "a/2.png").rename(images / "a/2b.png")
    assert listed(folder, tmp_path / "list").digest != before.digest


def test_every_class_that_is_trained_on_has_an_image(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.txt")
    folder = find_splits(tmp_path)["train"]
    with pytest.raises(InputError, match="expected an image of every class; 1 of 2 folders have none, 'b' the first"):
        listed(folder, tmp_path / "list")
    assert listed(folder, tmp_path / "list", every_class=False).per_class == (1, 0)
    (tmp_path / "a/1.png").unlink()
    with pytest.raises(InputError, match=r"expected images \(\.bmp, .*\.webp\) in its classes' folders"):
        listed(folder, tmp_path / "list", every_class=False)
