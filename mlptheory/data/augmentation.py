"""What is done to the training images at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlptheory.base import invalid, unknown_name


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    r"""Random crop, flip, shift and MixUp, in this order; each is off by default.

    Attributes
    ----------
    crop_scale : tuple of two floats, optional
        Share of the image's area that a random resized crop covers, lowest and highest, in (0, 1]; None for no crop.
    crop_ratio : tuple of two floats
        Width over height of the crop, lowest and highest.
    flip : bool
        Mirror left and right with probability 1/2.
    shift : int
        Move by -shift to shift pixels along each axis, uniformly.
    shift_mode : {"zero", "cyclic"}
        What comes in at the edge: the mean of the channel (zero after normalization), or the other side.
    mixup : float
        Parameter a of the Beta(a, a) law of MixUp's weight; 0 for no MixUp.
    mixup_per : {"batch", "example"}
        One weight for the whole batch, or one for each example.
    as_noise : bool
        Move no pixels, but add Gaussian noise with the second moment of what crop, flip and shift would do to the
        images of the batch.

    Raises
    ------
    InputError
        If a value is not as described, or noise is asked for where nothing moves pixels.

    Notes
    -----
    With `as_noise`, :math:`x_i` the images of a batch as evaluation sees them, resized at most, :math:`A_i` the drawn
    crops, flips and shifts, and B the size of the batch, the image i becomes

    .. math:: x_i + \frac{1}{\sqrt B} \sum_{j=1}^B G_{ij} (A_j x_j - x_j), \qquad G_{ij} \sim N(0, 1)

    with G independent of everything else. Given the batch and its draws the noise of every image is
    :math:`N\big(0, \tfrac1B \sum_j (A_j x_j - x_j)(A_j x_j - x_j)^\top\big)`: the second moment, about zero and
    pooled over the batch, of what is done to the images, but the same for all of them, symmetric about zero and with
    nothing of its geometry left. It depends on which images share a batch, and within one it has rank B at most; its
    mean over batches has the second moment of all images whatever B is. MixUp, and a pixel permutation after the
    augmentation, come after it.

    Examples
    --------
    >>> Augmentation(crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0), flip=True, mixup=0.8).moves_pixels
    True
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False
    shift: int = 0
    shift_mode: Literal["zero", "cyclic"] = "zero"
    mixup: float = 0.0
    mixup_per: Literal["batch", "example"] = "batch"
    as_noise: bool = False

    def __post_init__(self) -> None:
        if self.crop_scale is not None:
            object.__setattr__(self, "crop_scale", _range("crop_scale", self.crop_scale, highest=1.0))
        object.__setattr__(self, "crop_ratio", _range("crop_ratio", self.crop_ratio, highest=math.inf))
        if not isinstance(self.flip, bool):
            raise invalid("flip", self.flip, "True or False")
        if isinstance(self.shift, bool) or not isinstance(self.shift, int) or self.shift < 0:
            raise invalid("shift", self.shift, "an integer of at least 0, in pixels")
        if self.shift_mode not in ("zero", "cyclic"):
            raise unknown_name("shift_mode", self.shift_mode, ("zero", "cyclic"))
        if not isinstance(self.mixup, int | float) or not 0 <= self.mixup < math.inf:
            raise invalid("mixup", self.mixup, "a finite number of at least 0")
        if self.mixup_per not in ("batch", "example"):
            raise unknown_name("mixup_per", self.mixup_per, ("batch", "example"))
        if not isinstance(self.as_noise, bool):
            raise invalid("as_noise", self.as_noise, "True or False")
        if self.as_noise and not self.moves_pixels:
            raise invalid("as_noise", True, "False where no crop, flip or shift moves the pixels that noise imitates")

    @property
    def moves_pixels(self) -> bool:
        """Whether an image's pixels are moved at all, or noise stands for that."""
        return self.crop_scale is not None or self.flip or self.shift > 0


def _range(name: str, value: tuple[float, float], highest: float) -> tuple[float, float]:
    bounds = tuple(value) if isinstance(value, tuple | list) else ()
    numbers = all(isinstance(bound, int | float) for bound in bounds)
    if len(bounds) != 2 or not numbers or not 0 < bounds[0] <= bounds[1] <= highest or math.isinf(bounds[1]):
        limit = "" if math.isinf(highest) else f", at most {highest:g}"
        raise invalid(name, value, f"two positive numbers, lowest and highest{limit}")
    return float(bounds[0]), float(bounds[1])
