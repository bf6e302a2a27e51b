import copy
import dataclasses
import json
import pickle
import threading

import numpy as np
import pytest
import torch

from mlptheory.base import DamagedFileError, InputError, MissingDataError
from mlptheory.base.files import canonical_json, sha256
from mlptheory.data import (
    Augmentation,
    Dataset,
    Loader,
    Normalization,
    StoreWriter,
    channel_statistics,
    load,
    open_store,
    verify_store,
)
from mlptheory.data.joint import JointLoader
from mlptheory.data.store_note import read_note

AUGMENTATIONS = {
    "none": None,
    "crop": Augmentation(crop_scale=(0.08, 1.0)),
    "cyclic": Augmentation(shift=1, shift_mode="cyclic", flip=True),
    "mixup": Augmentation(mixup=0.5),
    "mixup per example": Augmentation(mixup=0.5, mixup_per="example"),
    "full": Augmentation(crop_scale=(0.2, 1.0), flip=True, shift=2, mixup=0.8),
    "noise": Augmentation(crop_scale=(0.2, 1.0), flip=True, shift=2, as_noise=True),
}


def dataset_of(size=23, shape=(3, 6, 8)):
    pixels = np.random.default_rng(1).integers(0, 256, (size, *shape), dtype=np.uint8)
    labels = torch.arange(size) % 4
    return Dataset(images=torch.from_numpy(pixels), labels=labels, classes=tuple("abcd"), name="toy", split="train")


def stored(dataset, path, at_once=5, **finish):
    path.parent.mkdir(parents=True, exist_ok=True)
    with StoreWriter(path, classes=dataset.classes, name=dataset.name, split=dataset.split) as writer:
        for first in range(0, len(dataset), at_once):
            part = slice(first, first + at_once)
            writer.append(dataset.images[part], dataset.labels[part])
        return writer.finish(**finish)


@pytest.fixture
def store(tmp_path):
    return stored(dataset_of(), tmp_path / "toy" / "train.store")


def equal(first, second):
    return all(
        (one is None and other is None) or torch.equal(one, other) for one, other in zip(first, second, strict=True)
    )


def all_equal(first, second):
    return all(equal(one, other) for one, other in zip(first, second, strict=True))


def test_what_was_written_is_what_is_opened(store):
    dataset, opened = dataset_of(), open_store(store)
    assert isinstance(opened.images, torch.Tensor) and opened.is_streamed
    assert torch.equal(opened.images, dataset.images) and torch.equal(opened.labels, dataset.labels)
    assert (opened.classes, opened.name, opened.split) == (dataset.classes, "toy", "train")
    assert opened.digest == dataset.digest == verify_store(store).digest
    assert channel_statistics(opened) == channel_statistics(dataset)
    assert sorted(path.name for path in store.parent.iterdir()) == ["train.store"]
    assert sorted(path.name for path in store.iterdir()) == ["images.bin", "labels.bin", "store.json"]
    assert (store / "images.bin").read_bytes() == dataset.images.numpy().tobytes()
    assert (store / "labels.bin").read_bytes() == dataset.labels.numpy().astype("<i8").tobytes()


def test_opening_reads_no_images(store):
    (store / "images.bin").write_bytes(bytes(dataset_of().images.numel()))
    opened = open_store(store)
    assert opened.digest == dataset_of().digest
    assert channel_statistics(opened) == channel_statistics(dataset_of())
    assert int(opened.images.max()) == 0
    with pytest.raises(DamagedFileError, match=r"images\.bin: its bytes are not those"):
        verify_store(store)


def test_other_labels_have_their_own_digest(store):
    opened = open_store(store)
    other = dataclasses.replace(opened, labels=opened.labels.flip(0))
    assert other.digest == dataclasses.replace(dataset_of(), labels=opened.labels.flip(0)).digest != opened.digest


def test_an_identity_of_a_part_is_known_without_reading(store, monkeypatch):
    opened = open_store(store)
    monkeypatch.setattr("mlptheory.data.dataset.chunks", lambda *_: pytest.fail("read"))
    assert opened.identity == opened.digest
    part = opened.select(torch.arange(20))
    assert len({opened.identity, part.identity, dataclasses.replace(part, labels=part.labels.flip(0)).identity}) == 3


def test_an_identity_does_not_depend_on_whether_the_digest_was_asked_for_before(store):
    # Several processes compare digests before they look for a checkpoint, one alone does not.
    asked, alone = (open_store(store).select(torch.arange(20)) for _ in range(2))
    assert asked.digest == alone.select(torch.arange(20)).digest
    assert asked.identity == alone.identity


def test_writing_to_the_images_leaves_the_file_alone(store):
    before = (store / "images.bin").read_bytes()
    (store / "images.bin").chmod(0o444)
    opened = open_store(store)
    opened.images[0] = 0
    assert int(opened.images[0].max()) == 0
    assert (store / "images.bin").read_bytes() == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_copy_opens_the_file_again(store, copied):
    opened = open_store(store)
    other = copied(opened)
    assert len(pickle.dumps(opened.images)) < 1000
    opened.images[0] = 0
    assert torch.equal(other.images, dataset_of().images)
    assert channel_statistics(other) == channel_statistics(dataset_of())
    assert all_equal(Loader(other, batch_size=7).batches(0), Loader(dataset_of(), batch_size=7).batches(0))


@pytest.mark.parametrize("pieces", [1, 3, 1024])
def test_streams_read_any_order_repeats_and_neighbors(store, pieces, monkeypatch):
    monkeypatch.setattr("mlptheory.data.mapped_images._MOST_PIECES", pieces)
    monkeypatch.setattr("mlptheory.data.readahead._GROUP_BYTES", pieces * 400)
    arrays = [
        np.arange(23),
        np.array([5]),
        np.array([3, 3, 4, 4, 2, 22, 0]),
        np.arange(22, -1, -1),
        np.arange(1, 23, 2),
    ]
    images = open_store(store).images
    found = list(images.batches(iter(arrays)))
    assert all(torch.equal(one, dataset_of().images[each]) for one, each in zip(found, arrays, strict=True))
    assert list(images.batches([])) == []


def test_without_positioned_reads_the_map_is_read(store, monkeypatch):
    monkeypatch.delattr("os.preadv")
    monkeypatch.delattr("os.posix_fadvise")
    assert all_equal(Loader(open_store(store), batch_size=4).batches(0), Loader(dataset_of(), batch_size=4).batches(0))


def test_advice_that_is_not_taken_stops_nothing(store, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.posix_fadvise", refuse)
    assert all_equal(Loader(open_store(store), batch_size=4).batches(0), Loader(dataset_of(), batch_size=4).batches(0))


def test_what_is_announced_is_what_is_read_and_once(store, monkeypatch):
    told = []
    monkeypatch.setattr("os.posix_fadvise", lambda handle, start, length, advice: told.append((start, length)))
    monkeypatch.setattr("mlptheory.data.readahead._GROUP_BYTES", 3 * 144)
    monkeypatch.setattr("mlptheory.data.readahead._GAP_BYTES", 144)
    arrays = [np.array([9, 0, 2]), np.array([20, 12]), np.array([21]), np.array([5])]
    list(open_store(store).images.batches(arrays))
    # Of 0, 2 and 9 the first two lie one image apart.
    assert told == [(0, 3 * 144), (9 * 144, 144), (12 * 144, 144), (20 * 144, 2 * 144), (5 * 144, 144)]


def test_images_of_one_byte_are_read(tmp_path):
    opened = open_store(stored(dataset_of(7, (1, 1, 1)), tmp_path / "dots.store"))
    batches = [np.arange(4), np.array([6, 0])]
    assert all_equal(opened.images.batches(batches), [dataset_of(7, (1, 1, 1)).images[part] for part in batches])


def test_a_selection_stays_where_it_is(store):
    examples = torch.tensor([7, 7, 0, 22, 3])
    chosen, expected = open_store(store).select(examples), dataset_of().select(examples)
    assert chosen.is_streamed and not expected.is_streamed
    assert torch.equal(chosen.images[:], expected.images)
    again, expected_again = (each.select(torch.tensor([3, 1, 4])) for each in (chosen, expected))
    assert torch.equal(again.images[1:], expected_again.images[1:])
    for one, other in ((chosen, expected), (again, expected_again)):
        assert one.digest == other.digest
        assert channel_statistics(one) == channel_statistics(other)


@pytest.mark.parametrize("order", ["random", "quasi-random"])
@pytest.mark.parametrize("permute", ["after", "before", None])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_batches_from_a_store_and_from_memory(store, name, permute, order):
    options = {"batch_size": 5, "seed": 4, "augmentation": AUGMENTATIONS[name], "order": order}
    options["normalization"] = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    if permute is not None:
        options |= {"pixel_permutation": 3, "permute": permute}
    here, there = dataset_of(), open_store(store)
    for shuffle, drop_last, image_size in ((True, False, 5), (True, True, None), (False, False, None)):
        own = options | {"shuffle": shuffle, "drop_last": drop_last, "image_size": image_size}
        resident = Loader(here, **own)
        streamed = [Loader(there, **own), Loader(there, resident=True, **own), Loader(here, resident=False, **own)]
        for epoch in range(2):
            batches = list(resident.batches(epoch))
            for loader in streamed:
                assert all_equal(batches, loader.batches(epoch))
                assert all_equal(batches[3:], loader.batches(epoch, start=3))


@pytest.mark.cuda
@pytest.mark.parametrize("permute", ["after", "before", None])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gpu_is_sent_the_same_batches(store, name, permute):
    options = {"batch_size": 5, "augmentation": AUGMENTATIONS[name], "order": "quasi-random", "device": "cuda"}
    if permute is not None:
        options |= {"pixel_permutation": 3, "permute": permute}
    sources = [open_store(store), open_store(store).select(torch.arange(23))]
    for epoch in range(2):
        resident = list(Loader(dataset_of(), **options).batches(epoch))
        for loader in (*(Loader(each, **options) for each in sources), Loader(dataset_of(), resident=False, **options)):
            assert all_equal(resident, loader.batches(epoch))


@pytest.mark.cuda
def test_a_gpu_that_is_busy_gets_no_batch_before_it_has_arrived(tmp_path):
    dataset = dataset_of(4096, (3, 32, 32))
    options = {"batch_size": 256, "device": "cuda", "augmentation": AUGMENTATIONS["full"]}
    path = stored(dataset, tmp_path / "big.store", at_once=4096)
    busy = torch.randn(4096, 4096, device="cuda")
    expected = [batch.inputs.double().sum() for batch in Loader(dataset, **options).batches(0)]
    found = []
    for batch in Loader(open_store(path), **options).batches(0):
        busy = (busy @ busy).clamp(-1, 1)
        found.append(batch.inputs.double().sum())
    assert torch.equal(torch.stack(found), torch.stack(expected))


def test_siblings_of_a_streamed_loader(store):
    joint = []
    for dataset in (dataset_of(), open_store(store)):
        first = Loader(dataset, batch_size=5, augmentation=AUGMENTATIONS["full"], order="quasi-random")
        other = dataclasses.replace(dataset, labels=dataset.labels.flip(0))
        joint.append(list(JointLoader([first, first.sibling(other, seed=1)]).batches(1, start=1)))
    assert all_equal(*joint)


def test_leaving_a_streamed_epoch_ends_its_thread(store):
    loader = Loader(open_store(store), batch_size=2)
    for _ in loader.batches(0):
        assert [thread.name for thread in threading.enumerate()].count("mlptheory-prefetch") == 1
        break
    assert "mlptheory-prefetch" not in [thread.name for thread in threading.enumerate()]


def test_loaded_by_name(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path))
    assert load("store:toy", "train").digest == dataset_of().digest
    assert load(f"store:{tmp_path / 'toy'}", "train").digest == dataset_of().digest
    with pytest.raises(MissingDataError, match=r"no folder .*test\.store"):
        load("store:toy", "test")
    with pytest.raises(InputError, match="expected store:NAME"):
        load("store:", "test")
    with pytest.raises(InputError, match="dataset = 'stor:toy': unknown"):
        load("stor:toy", "train")


def test_what_else_is_kept(tmp_path):
    sets = [{1, 2}, set(), {3}] * 2
    path = stored(dataset_of(6), tmp_path / "a.store", label_sets=sets, unreadable=["x.png"])
    note = read_note(path)
    assert note.label_sets == tuple(map(frozenset, sets))
    assert note.unreadable == ("x.png",)


@pytest.mark.parametrize("wrong", [4, -1])
def test_sets_of_labels_that_are_no_classes_are_refused_before_anything_is_there(tmp_path, wrong):
    with pytest.raises(InputError, match=f"label_sets run from .*{wrong}.*expected 0 to 3 for 4 classes"):
        stored(dataset_of(3), tmp_path / "a.store", label_sets=[{1, 2}, {wrong}, {3}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda store: (store / "images.bin").write_bytes(b"123"), "images.bin: expected 3312 bytes, found 3"),
        (lambda store: (store / "images.bin").write_bytes(b""), "images.bin: expected 3312 bytes, found 0"),
        (lambda store: (store / "images.bin").unlink(), "images.bin: missing"),
        (lambda store: (store / "labels.bin").unlink(), "labels.bin: missing"),
        (lambda store: (store / "labels.bin").write_bytes(bytes(8 * 22)), "labels.bin: expected 184 bytes, found 176"),
        (lambda store: (store / "labels.bin").write_bytes(bytes(8 * 23)), "labels.bin: its bytes are not those"),
        (lambda store: (store / "store.json").unlink(), "store.json: missing"),
        (lambda store: (store / "store.json").write_text("{"), "store.json: expected JSON"),
        (lambda store: (store / "store.json").write_text("[]"), "store.json: expected a JSON object"),
        (lambda store: edit(store, format=1, sums=float("nan")), "store.json: its content is not what was written"),
        (lambda store: edit(store, name="\ud800"), "store.json: its content is not what was written"),
        (lambda store: edit(store, format=2), "store.json: format 2: expected 1"),
        (lambda store: edit(store, split="test"), "store.json: its content is not what was written"),
    ],
)
def test_damage_is_named(store, damage, message):
    damage(store)
    with pytest.raises(DamagedFileError, match=message) as error:
        open_store(store)
    assert "\n" not in str(error.value)


def edit(store, **changes):
    note = store / "store.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | changes))


def test_a_note_of_somebody_else(store):
    content = {"format": 1, "shape": [1, 1, 1, 1]}
    (store / "store.json").write_text(json.dumps(content | {"note_digest": sha256(canonical_json(content))}))
    with pytest.raises(DamagedFileError, match=r"store\.json: expected what a store knows .*label_sets"):
        open_store(store)


def test_parts_that_may_not_be_written_to_are_taken(tmp_path):
    with writer_of(tmp_path / "a.store") as writer:
        writer.append(np.frombuffer(bytes(range(16)), dtype=np.uint8).reshape(1, 1, 4, 4), np.zeros(1, dtype=np.int64))
        assert open_store(writer.finish()).images.flatten().tolist() == list(range(16))


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="expected a folder of stored images"):
        open_store(tmp_path / "none.store")


def writer_of(path):
    return StoreWriter(path, classes=("a",), name="n", split="train")


def test_a_writer_at_the_door(store, tmp_path):
    with pytest.raises(InputError, match=r"a name that ends in \.store"):
        writer_of(tmp_path / "plain")
    with pytest.raises(InputError, match="a place where nothing is"), writer_of(store):
        pass
    with writer_of(tmp_path / "a.store") as writer:
        with pytest.raises(InputError, match="expected at least one image"):
            writer.finish()
        writer.append(np.zeros((2, 1, 3, 3), dtype=np.uint8), np.zeros(2, dtype=np.int64))
        with pytest.raises(InputError, match="images of shape"):
            writer.append(np.zeros((2, 1, 3, 4), dtype=np.uint8), np.zeros(2, dtype=np.int64))
        with pytest.raises(InputError, match="labels run from 1 to 1"):
            writer.append(np.zeros((1, 1, 3, 3), dtype=np.uint8), np.ones(1, dtype=np.int64))
        with pytest.raises(InputError, match="label_sets = 1 sets: expected 2"):
            writer.finish(label_sets=[{0}])
        assert len(writer) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]
