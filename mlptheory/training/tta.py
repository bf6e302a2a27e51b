"""Test-time augmentation: a model looks at seeded crops of each image, and its answers are averaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from tqdm.auto import tqdm

from mlptheory.base.configuration import require_boolean, require_choice, require_integer
from mlptheory.base.errors import invalid
from mlptheory.base.random import key
from mlptheory.data import Augmentation, Dataset, Loader


@dataclass(frozen=True, kw_only=True)
class TestTimeAugmentation:
    r"""Average a model's answers to random crops of an image.

    With :math:`f` the logits, :math:`C` classes and views :math:`x^{(1)}, \ldots, x^{(V)}` of an image x, class c
    scores

    .. math::

        \frac{1}{V} \sum_{v=1}^{V} f_c(x^{(v)})
        \qquad \text{or} \qquad
        \log \frac{1}{V} \sum_{v=1}^{V} \frac{e^{f_c(x^{(v)})}}{\sum_{d=1}^{C} e^{f_d(x^{(v)})}}

    by `average`; one view is its own average either way. Bachmann, Anagnostidis & Hofmann (2023) average the logits
    of 100 random crops; their public code averages softmax probabilities of 100 crops, each flipped or not. Where
    the paper is silent, on the crops themselves, the defaults are those of the authors' fine-tuning, which their
    code uses here too: squares of 40 % to 100 % of the area.

    Attributes
    ----------
    views : int
        Crops of each image; the cost is that of as many evaluations.
    crop_scale : tuple of two floats
        Share of the image's area that a crop covers, lowest and highest, in (0, 1]. Crops are resized to the
        network's inputs.
    crop_ratio : tuple of two floats
        Width over height of a crop, lowest and highest.
    flip : bool
        Also mirror each view left and right with probability 1/2.
    average : {"logits", "softmax"}
        What is averaged over the views.
    seed : int
        View v of example i depends on (seed, v, i) and on nothing else. The draws are not those of a training run
        of the same seed.

    Raises
    ------
    InputError
        If a value is not as described.

    Examples
    --------
    The paper's way, and that of its code:

    >>> TestTimeAugmentation().views
    100
    >>> TestTimeAugmentation(flip=True, average="softmax").crop_scale
    (0.4, 1.0)
    """

    # Not a test, whatever pytest makes of its name.
    __test__ = False

    views: int = 100
    crop_scale: tuple[float, float] = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    average: Literal["logits", "softmax"] = "logits"
    seed: int = 0

    def __post_init__(self) -> None:
        require_integer("views", self.views, 1)
        if self.crop_scale is None:
            raise invalid("crop_scale", None, "two positive numbers, lowest and highest, at most 1")
        require_boolean("flip", self.flip)
        checked = Augmentation(crop_scale=self.crop_scale, crop_ratio=self.crop_ratio, flip=self.flip)
        object.__setattr__(self, "crop_scale", checked.crop_scale)
        object.__setattr__(self, "crop_ratio", checked.crop_ratio)
        require_choice("average", self.average, ("logits", "softmax"))
        require_integer("seed", self.seed, 0)

    @property
    def loader_seed(self) -> int:
        """Seed of the views' loader: a training set's views must not be the very crops it was trained on."""
        return key(self.seed, "test-time augmentation")

    def augmentation(self, dataset: Dataset) -> Augmentation:
        """Return what is done to a dataset's images at random, as its loader takes it."""
        _, height, width = dataset.image_shape
        # Where the whole image is the only crop, not even a product with the identity is to come between.
        is_whole = self.crop_scale == (1.0, 1.0) and self.crop_ratio == (width / height,) * 2
        scale = None if is_whole else self.crop_scale
        return Augmentation(crop_scale=scale, crop_ratio=self.crop_ratio, flip=self.flip)


def average_over_views(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    loader: Loader,
    tta: TestTimeAugmentation,
    *,
    progress: bool = False,
) -> torch.Tensor:
    """Average a model's answers over the views of all images, one view of all of them after another.

    Probabilities are averaged by their logarithms, which do not underflow. Memory: one accumulator of the result's
    shape, whatever the number of views.

    Parameters
    ----------
    logits_of : callable
        From a batch of inputs to logits, shape (B, C).
    loader : Loader
        Of `tta`'s draws, in the dataset's order; its epochs are the views.
    tta : TestTimeAugmentation
    progress : bool
        Show a bar over the views.

    Returns
    -------
    Tensor, shape (N, C)
        Mean logits, or logarithms of the mean probabilities: float64, and float32 on mps, which has no other.
    """
    total, is_softmax = None, tta.average == "softmax"
    for view in tqdm(range(tta.views), desc="views", unit="view", dynamic_ncols=True, disable=not progress):
        for index, batch in enumerate(loader.batches(epoch=view)):
            logits = logits_of(batch.inputs)
            logits = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
            if total is None:
                empty = -math.inf if is_softmax else 0.0
                total = logits.new_full((len(loader.dataset), logits.shape[1]), empty)
            part = total[index * loader.batch_size : (index + 1) * loader.batch_size]
            if is_softmax:
                torch.logaddexp(part, logits.log_softmax(dim=1), out=part)
            else:
                part += logits
    return total.sub_(math.log(tta.views)) if is_softmax else total.div_(tta.views)
