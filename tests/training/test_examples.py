import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Dataset, channel_statistics, datasets, load, split_validation, subset, with_label_noise
from mlptheory.training import DataConfig, prepare_examples
from mlptheory.training.examples import data_digest, training_size


def test_examples_are_split_then_subset_then_relabelled():
    config = DataConfig(name="tiny", validation=9, n=20, label_noise=0.4, split_seed=2)
    found = prepare_examples(config, seed=3)
    rest, validation = split_validation(load("tiny", "train"), 9, seed=2)
    clean = subset(rest, 20, seed=2)
    assert torch.equal(found.validation.images, validation.images)
    assert torch.equal(found.validation.labels, validation.labels)
    assert torch.equal(found.train.images, clean.images)
    assert torch.equal(found.train.labels, with_label_noise(clean, 0.4, seed=3).labels)
    assert (found.train.labels != clean.labels).sum() == 8
    assert found.test.digest == load("tiny", "test").digest
    assert found.normalization == channel_statistics(clean)
    assert found.image_size == 4
    assert len(found.train) == training_size(config) == 20


def test_the_seed_decides_label_noise_and_nothing_else():
    config = DataConfig(name="tiny", validation=9, n=20)
    assert prepare_examples(config, seed=1).train.digest == prepare_examples(config, seed=2).train.digest
    noisy = DataConfig(name="tiny", validation=9, n=20, label_noise=0.4)
    a, b = prepare_examples(noisy, seed=1), prepare_examples(noisy, seed=2)
    assert torch.equal(a.train.images, b.train.images)
    assert not torch.equal(a.train.labels, b.train.labels)
    other = DataConfig(name="tiny", validation=9, n=20, split_seed=1)
    assert prepare_examples(other, seed=1).train.digest != prepare_examples(config, seed=1).train.digest


def test_all_examples_but_the_validation_set_are_trained_on():
    assert training_size(DataConfig(name="tiny")) == 41
    assert training_size(DataConfig(name="tiny", validation=6)) == 35
    assert len(prepare_examples(DataConfig(name="tiny", validation=6), 0).train) == 35
    assert prepare_examples(DataConfig(name="tiny"), 0).validation is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(name="tiny", n=42), r"data\.n = 42: expected at most the 41 training examples"),
        (DataConfig(name="tiny", n=40, validation=2), r"data\.n = 40: expected at most the 39 training examples"),
        (DataConfig(name="tiny", validation=41), r"data\.validation = 41: expected some, but not all, of the 41"),
        (DataConfig(name="tiny-3-clases"), r"dataset = 'tiny-3-clases': unknown; did you mean 'tiny-3-classes'"),
        (DataConfig(name="tiny-wide"), r"data\.image_size = None: expected a side .* 'tiny-wide' are 3x5"),
    ],
)
def test_what_the_data_cannot_give_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        prepare_examples(config, 0)


@pytest.mark.parametrize(
    ("of_test", "said"),
    [
        (("cat", "cow", "dog"), "label 1 is class 'cow' in the test set and class 'dog' in the training set"),
        (("dog", "cat"), "label 0 is class 'dog' in the test set and class 'cat' in the training set"),
        (("cat", "dog", "emu", "fox"), "label 3 is class 'fox' in the test set and no class in the training set"),
        (("cat", "dog", "emu"), None),
        (("cat", "dog"), None),
    ],
)
def test_labels_must_mean_the_same_in_both_sets(of_test, said):
    # What was loaded once is kept by its name.
    name = "-".join(("animals", *of_test))

    @datasets.register(name, summary="blank images for a test")
    def load_animals(split, root):
        classes = ("cat", "dog", "emu") if split == "train" else of_test
        images = torch.zeros(len(classes), 1, 2, 2, dtype=torch.uint8)
        images[0] = 1
        labels = torch.arange(len(classes))
        return Dataset(images=images, labels=labels, classes=classes, name=name, split=split)

    config = DataConfig(name=name)
    if said is None:
        assert prepare_examples(config, 0).test.classes == of_test
    else:
        with pytest.raises(InputError, match=said):
            prepare_examples(config, 0)


def test_images_that_are_not_square_can_be_resized():
    assert prepare_examples(DataConfig(name="tiny-wide", image_size=4), 0).image_size == 4


def test_the_data_digest_is_of_both_splits():
    assert data_digest("tiny") == data_digest("tiny")
    assert len({data_digest("tiny"), data_digest("tiny-3-classes"), load("tiny", "train").digest}) == 3


def test_a_share_of_the_examples_can_be_held_out():
    config = DataConfig(name="tiny", validation=0.25)
    found = prepare_examples(config, 0)
    assert (len(found.validation), len(found.train)) == (10, 31)
    assert training_size(config) == 31


def test_a_share_that_holds_nothing_out_is_refused():
    with pytest.raises(InputError, match=r"data\.validation = 0\.01: expected some, but not all, of the 41"):
        prepare_examples(DataConfig(name="tiny", validation=0.01), 0)


def test_shuffled_labels_go_by_the_recipe_s_seed_and_leave_images_and_test_set_alone():
    clean = prepare_examples(DataConfig(name="tiny"), 0)
    shuffled, other = (prepare_examples(DataConfig(name="tiny", shuffle_labels=True), seed) for seed in (0, 1))
    assert torch.equal(shuffled.train.images, clean.train.images)
    assert torch.equal(shuffled.test.labels, clean.test.labels)
    assert torch.equal(shuffled.train.labels.sort().values, clean.train.labels.sort().values)
    assert not torch.equal(shuffled.train.labels, other.train.labels)
    assert not torch.equal(shuffled.train.labels, clean.train.labels)
