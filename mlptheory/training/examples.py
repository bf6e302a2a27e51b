"""The examples a recipe is trained and tested on, as its data configuration makes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mlptheory.base.errors import InputError, invalid
from mlptheory.base.files import sha256
from mlptheory.data import (
    Dataset,
    Normalization,
    channel_statistics,
    load,
    split_validation,
    subset,
    with_label_noise,
    with_shuffled_labels,
)
from mlptheory.data.real_labels import label_sets_digest
from mlptheory.training.recipe import DataConfig


@dataclass(frozen=True)
class Examples:
    """What a recipe's data configuration comes to.

    Attributes
    ----------
    train : Dataset
        After validation was carved out, the subset taken and labels replaced.
    validation : Dataset or None
        Never part of `train`, labels clean.
    test : Dataset
        As the dataset defines it.
    normalization : Normalization
        Channel statistics of `train`.
    image_size : int
        Side in pixels after resizing.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    normalization: Normalization
    image_size: int


@lru_cache(maxsize=8)
def _load(name: str, split: str, root: str | None) -> Dataset:
    return load(name, split, root=root)


def data_digest(name: str, root: str | None = None) -> str:
    """Return one digest for the training and test sets of a name, as they are found under `root`.

    Sets of labels (ReaL) of the test images count, as figures rest on them.
    """
    train, test = _load(name, "train", root), _load(name, "test", root)
    sets = "" if test.label_sets is None else label_sets_digest(test.label_sets)
    return sha256(train.digest + test.digest + sets)


@lru_cache(maxsize=4)
def prepare_examples(config: DataConfig, seed: int, root: str | None = None) -> Examples:
    """Load, split, subset and relabel as a recipe says.

    Parameters
    ----------
    config : DataConfig
    seed : int
        The recipe's seed; decides the labels' noise or shuffle only.
    root : str, optional
        Where official files are looked for first.

    Raises
    ------
    InputError
        If the validation set or the subset asks for more examples than there are, if images that are not square are
        not resized, or if a class has another name in the test set than in the training set.
    """
    train, test = _load(config.name, "train", root), _load(config.name, "test", root)
    _require_the_same_classes(config.name, train, test)
    validation = None
    if config.validation:
        held_out = _held_out(config, len(train))
        if not 1 <= held_out < len(train):
            raise invalid(
                "data.validation", config.validation, f"some, but not all, of the {len(train)} training examples"
            )
        train, validation = split_validation(train, held_out, seed=config.split_seed)
    if config.n is not None:
        if config.n > len(train):
            raise invalid("data.n", config.n, f"at most the {len(train)} training examples")
        train = subset(train, config.n, seed=config.split_seed)
    height, width = train.images.shape[2:]
    if config.image_size is None and height != width:
        raise invalid(
            "data.image_size", None, f"a side in pixels, as the images of {config.name!r} are {height}x{width}"
        )
    normalization = channel_statistics(train)
    if config.label_noise:
        train = with_label_noise(train, config.label_noise, seed=seed)
    if config.shuffle_labels:
        train = with_shuffled_labels(train, seed=seed)
    return Examples(train, validation, test, normalization, config.image_size or width)


def _require_the_same_classes(name: str, train: Dataset, test: Dataset) -> None:
    """Refuse a test set whose labels mean something else; one that lacks the last classes is taken."""
    for number, own in enumerate(test.classes):
        trained = train.classes[number] if number < len(train.classes) else None
        if own != trained:
            learned = "no class" if trained is None else f"class {trained!r}"
            raise InputError(
                f"data.name = {name!r}: label {number} is class {own!r} in the test set and {learned} in the training "
                "set; both must be made with the same classes"
            )


def training_size(config: DataConfig, root: str | None = None) -> int:
    """Return how many examples a recipe with this data configuration trains on."""
    if config.n is not None:
        return config.n
    n = len(_load(config.name, "train", root))
    return n - _held_out(config, n)


def _held_out(config: DataConfig, n: int) -> int:
    """Return how many of `n` examples are carved out for validation."""
    return round(config.validation * n) if isinstance(config.validation, float) else config.validation
