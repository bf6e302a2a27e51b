"""The design: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.models import parse_name
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.ntk.columns import COLUMNS
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import require_distinct, require_seeds, seeds_listed, width_lr

FAMILIES = ("S", "B")
"""Whose kernels of infinite width are known."""
OPTIMIZERS = ("lion", "adamw", "sgd")
FEWEST_EXAMPLES = 64
"""That kernel regression's learning curve is measured on parts of."""


@dataclass(frozen=True, kw_only=True)
class NeuralTangentKernel(FolderProbe):
    r"""Test whether MLPs are in the kernel regime: at initialization, along training, and in what they predict.

    Nets of one architecture and several widths. At the center, the largest width and training set in the standard
    parametrization, the net is trained as MLPs are, and all is measured: the tangent kernel along training, kernel
    regression before and after, linearized training, what became of the matrices. Arms depart from it in one factor,
    with the learning rate that goes with it: width, learning rate, optimizer, training-set size, output scale, μP. The
    laws of large width are tested where they are claimed, under the NTK parametrization and SGD at one learning rate
    for all widths.
    A seed is the unit of analysis; seeds give t intervals. All claims are judged together, at 95 % after Holm's
    correction.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        An S-MLP or B-MLP by architecture and depth: "B-1", "S-3"; its widths are listed apart.
    widths : tuple of int
        At least three; the largest is the center's.
    sizes : tuple of int
        Training examples, nested subsets proportional per class; the largest is the center's. At least 64 each.
    epochs : int
        Of all training but that of the coordinate check.
    batch_size : int
        Of all training.
    optimizer : {"lion", "adamw", "sgd"}
        Of all nets but those of other optimizers and of the NTK parametrization, with a constant learning rate.
    lr : float or None
        Its learning rate at the center. If None, Lion's 5e-5 at a width of 1024 (Bachmann et al. 2023) carried to the
        center's width w as 5e-5 · 1024 / w. Other widths in the standard parametrization have it carried on alike
        (the same for SGD), as nets are trained; SGD has no default.
    lr_factors : tuple of float
        Of the center's learning rate, in the cells of other rates.
    other_optimizers : tuple of str
        To compare with at the center; may be empty.
    other_lrs : tuple of float
        Their learning rates, in that order.
    ntk_lr : float
        Of SGD with momentum 0.9 under the NTK parametrization, the same at all widths.
    output_scales : tuple of two floats
        Factors on the logits of the rich and of the lazy net, the positive control. The learning rate is divided by the
        factor (by its square for SGD), so that the first steps move the logits alike.
    coordinate_steps : int
        Steps after which the coordinate check looks, at the learning rate of the smallest width for all widths; muP's
        base width is the smallest, too.
    kernel_examples : int
        Training examples on which kernels are followed, the same for all nets; kernel regression has all of them.
    test_examples : int
        Test examples that kernel regression, and the net beside it, is tested on; all if there are fewer.
    seeds : int or tuple of int
        How many (0, 1, ...), or which.
    image_size : int or None
        Side in pixels that images are resized to; their own if None.
    label_smoothing : float
        Of all training.
    margin : float
        Of accuracies that are claimed to be equal, in percentage points.
    margin_better : float
        By which the final kernel must beat the initial one, in percentage points.
    margin_exponent : float
        Of the exponents of width at −1/2.
    margin_ratio : float
        Of ratios claimed to be large, in binary logarithms.
    margin_alignment : float
        Of the rise of the label alignment, a cosine.
    margin_curve : float
        Of predicted over measured errors, in binary logarithms.
    margin_coordinates : float
        Of the exponents of width claimed to be 0.
    margin_leak : float
        Within which accuracies after shuffled labels must lie around chance, in percentage points.
    control : bool
        Also run the controls: output scales and shuffled labels.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware. Kernels are in float64 whatever it is.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = NeuralTangentKernel(widths=(16, 32, 64), seeds=3, other_optimizers=(), other_lrs=(), control=False)
    >>> probe.center, probe.name_at(16)
    (64, 'B-1/Wi-16')
    >>> [claim.id for claim in probe.claims()][:2]
    ['fluctuation-law', 'lazier-with-width']
    """

    name: ClassVar[str] = "ntk"
    title: ClassVar[str] = "Neural tangent kernel"
    question: ClassVar[str] = "Are MLPs in the kernel regime?"
    caption: ClassVar[str] = (
        "Means over seeds (geometric on logarithmic axes) with 95 % t intervals, dots single nets, some aside. Top, "
        "from the left: distance of the tangent kernel before training from that of infinite width, and its change "
        "in training, over the width: NTK parametrization with SGD at one rate, and the standard one as nets are "
        "trained; dotted, width to the −1/2 from the first point. Kernel distance that each epoch covers at the "
        "center (thin lines single nets) and at other learning rates. Alignment of kernel and labels at the center. "
        "Bottom: accuracy of the net and of what stands for it. Error of regression with the initial kernel, and "
        "what its spectrum predicts. Root mean square change of coordinates over the first steps, at one learning "
        "rate for all widths. Kernel distance over training for the control's factors on the logits."
    )

    dataset: str = "digits"
    model: str = "B-1"
    widths: tuple[int, ...] = (16, 32, 64, 128)
    sizes: tuple[int, ...] = (150, 600)
    epochs: int = 12
    batch_size: int = 32
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    lr_factors: tuple[float, ...] = (0.25, 4.0)
    other_optimizers: tuple[str, ...] = ("adamw", "sgd")
    other_lrs: tuple[float, ...] = (0.002, 0.05)
    ntk_lr: float = 0.5
    output_scales: tuple[float, float] = (0.25, 8.0)
    coordinate_steps: int = 5
    kernel_examples: int = 100
    test_examples: int = 2000
    seeds: int | tuple[int, ...] = 6
    image_size: int | None = None
    label_smoothing: float = 0.3
    margin: float = 2.0
    margin_better: float = 1.0
    margin_exponent: float = 0.1
    margin_ratio: float = 1.0
    margin_alignment: float = 0.05
    margin_curve: float = 0.25
    margin_coordinates: float = 0.25
    margin_leak: float = 4.0
    control: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        require_distinct("widths", self.widths, at_least=3)
        require_distinct("sizes", self.sizes, at_least=1)
        if min(self.sizes) < FEWEST_EXAMPLES:
            raise invalid("sizes", self.sizes, f"at least {FEWEST_EXAMPLES} examples each")
        for argument in ("epochs", "batch_size", "coordinate_steps", "kernel_examples", "test_examples"):
            require_integer(argument, getattr(self, argument), 1)
        for argument in ("epochs", "kernel_examples"):
            require_integer(argument, getattr(self, argument), 2)
        if self.batch_size > min(self.sizes):
            raise invalid("batch_size", self.batch_size, f"at most {min(self.sizes)}, the smallest training set")
        if self.kernel_examples > self.largest:
            raise invalid("kernel_examples", self.kernel_examples, f"at most {self.largest}, the center's training set")
        self._check_model()
        self._check_optimizers()
        self._check_scales()
        require_seeds(self.seeds)
        if self.image_size is not None:
            require_integer("image_size", self.image_size, 1)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        for argument in MARGINS:
            require_number(argument, getattr(self, argument), 0, low_open=True)
        require_number("margin_exponent", self.margin_exponent, 0, 0.5, low_open=True, high_open=True)
        require_boolean("control", self.control)

    def _check_model(self) -> None:
        if not isinstance(self.model, str) or "/" in self.model:
            raise invalid("model", self.model, 'architecture and depth, such as "B-1"; widths go by themselves')
        if parse_name(self.name_at(self.center)).family not in FAMILIES:
            raise invalid("model", self.model, "an S-MLP or B-MLP, whose kernels of infinite width are known")

    def _check_optimizers(self) -> None:
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.lr is not None:
            require_number("lr", self.lr, 0, low_open=True)
        elif self.optimizer == "sgd":
            raise invalid("lr", None, "a number greater than 0, as sgd has no default")
        require_number("ntk_lr", self.ntk_lr, 0, low_open=True)
        for factor in self.lr_factors:
            require_number("lr_factors", factor, 0, low_open=True)
        if len({1.0, *self.lr_factors}) != 1 + len(self.lr_factors):
            raise invalid("lr_factors", self.lr_factors, "different ones, and not 1")
        for name in self.other_optimizers:
            require_choice("other_optimizers", name, OPTIMIZERS)
        if len({self.optimizer, *self.other_optimizers}) != 1 + len(self.other_optimizers):
            raise invalid("other_optimizers", self.other_optimizers, f"different ones, and not {self.optimizer}")
        if len(self.other_lrs) != len(self.other_optimizers):
            raise invalid("other_lrs", self.other_lrs, f"{len(self.other_optimizers)}, one for each other optimizer")
        for lr in self.other_lrs:
            require_number("other_lrs", lr, 0, low_open=True)

    def _check_scales(self) -> None:
        if len(self.output_scales) != 2:
            raise invalid("output_scales", self.output_scales, "two: of the rich net and of the lazy one")
        for scale in self.output_scales:
            require_number("output_scales", scale, 0, low_open=True)
        rich, lazy = self.output_scales
        if not rich < lazy:
            raise invalid("output_scales", self.output_scales, "the smaller first, which is the rich net's")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def widths_sorted(self) -> tuple[int, ...]:
        """The widths, smallest first."""
        return tuple(sorted(self.widths))

    @property
    def sizes_sorted(self) -> tuple[int, ...]:
        """The training-set sizes, smallest first."""
        return tuple(sorted(self.sizes))

    @property
    def center(self) -> int:
        """The width of the center."""
        return self.widths_sorted[-1]

    @property
    def narrowest(self) -> int:
        """The smallest width, muP's base."""
        return self.widths_sorted[0]

    @property
    def largest(self) -> int:
        """The training-set size of the center."""
        return self.sizes_sorted[-1]

    @property
    def base_lr(self) -> float:
        """The learning rate of the center."""
        return float(self.lr) if self.lr is not None else width_lr(self.center)

    def lr_at(self, width: int) -> float:
        """Return the center's learning rate carried to a width: inversely for Lion and AdamW, as it is for SGD."""
        return self.base_lr if self.optimizer == "sgd" else self.base_lr * self.center / width

    def lr_at_scale(self, scale: float) -> float:
        """Return the center's learning rate for an output scale, at which the first steps move the logits as much."""
        return self.base_lr / scale ** (2 if self.optimizer == "sgd" else 1)

    def name_at(self, width: int) -> str:
        """Return the model's name at a width."""
        return f"{self.model}/Wi-{width}"

    def with_every_claim(self) -> NeuralTangentKernel:
        """Return the same design with what it lacks for every claim: controls."""
        return replace(self, control=True)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS


MARGINS = (
    "margin",
    "margin_better",
    "margin_exponent",
    "margin_ratio",
    "margin_alignment",
    "margin_curve",
    "margin_coordinates",
    "margin_leak",
)
